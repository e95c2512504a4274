"""Five tasks of unequal kind, size and difficulty on pairs of overlapping real handwritten digits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mtlviz.data.problem import Problem
from mtlviz.data.splits import MISSING
from mtlviz.errors import ProblemError
from mtlviz.randomness import seeded
from mtlviz.task import Task

HEIGHT, WIDTH = 12, 16  # of a picture; the digits are 8 × 8
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}  # of the source digits, split before they are paired
PAIRS = {"train": 4000, "validation": 1000, "test": 1000}
LABELLED = {"left": 4000, "right": 2000, "sum": 1000, "same": 3000, "larger": 500}  # training pairs with a label


@dataclass(frozen=True)
class Pairs:
    """Pictures (N, 1, 12, 16) in [0, 1], the digits in them (N, 2) and which source images they came from (N, 2)."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]
    sources: NDArray[np.int64]


def digits(*, seed: int = 0, pairs: Mapping[str, int] | None = None, width: int = 64) -> Problem:
    """Pairs of overlapping digits in the manner of Multi-MNIST, with five tasks on one convolutional trunk.

    left, right: the digit on that side (10 classes). sum: their sum / 18 (regression). same: whether they are the same
    digit (binary, about 1 in 10). larger: which side holds the larger one (3 classes: left, right, neither). The tasks
    label 4000, 2000, 1000, 3000 and 500 of the 4000 training pairs; a batch may hold no label for some of them.

    seed: of the split, the pairs and the initial parameters. pairs: sizes of the splits, for quick looks. width: of the
        representation that the tasks share.

    Raises: ProblemError for a seed below 0, a width below 1, a split that does not exist or a size below 50.

    Source: the 1 797 digits of Alpaydin and Kaynak (UCI, 1998) bundled with scikit-learn; the overlap follows
    Sener and Koltun, NeurIPS 2018, arXiv 1810.04650. Differs: 8 × 8 digits on 12 × 16 pictures, and three more tasks.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ProblemError(f"seed must be a whole number from 0, got {seed!r}")
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ProblemError(f"width must be a whole number from 1, got {width!r}")
    sizes = _sizes(pairs)
    splits = digit_pairs(seed=seed, pairs=sizes)
    rng = np.random.default_rng([seed, 1])
    scale = sizes["train"] / PAIRS["train"]
    train = _targets(splits["train"].digits)
    for name, count in LABELLED.items():
        dropped = rng.permutation(sizes["train"])[max(int(count * scale), 1) :]
        train[name][dropped] = torch.nan if train[name].is_floating_point() else MISSING
    data = {name: (torch.from_numpy(part.images), _targets(part.digits)) for name, part in splits.items()}
    with seeded(seed):
        trunk = digits_trunk(features=width)
    return Problem(
        name="digits",
        tasks=[
            Task("left", loss=F.cross_entropy, metric="accuracy", outputs=10),
            Task("right", loss=F.cross_entropy, metric="accuracy", outputs=10),
            Task("sum", loss=F.mse_loss, metric="rmse_score", outputs=1),
            Task("same", loss=F.binary_cross_entropy_with_logits, metric="pr_auc", outputs=1),
            Task("larger", loss=F.cross_entropy, metric="accuracy", outputs=3),
        ],
        trunk=trunk,
        train=(data["train"][0], train),
        validation=data["validation"],
        test=data["test"],
        seed=seed,
    )


def digits_trunk(width: int = 16, features: int = 64) -> nn.Sequential:
    """Two strided convolutions and a linear layer: (B, 1, 12, 16) -> (B, features)."""
    layers = {
        "conv1": nn.Conv2d(1, width, 3, stride=2, padding=1),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        "relu2": nn.ReLU(),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(2 * width * (HEIGHT // 4) * (WIDTH // 4), features),
        "relu3": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def digit_pairs(*, seed: int, pairs: Mapping[str, int] = PAIRS) -> dict[str, Pairs]:
    """The pictures of each split; no source image occurs in two splits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = (bunch.images / 16.0).astype(np.float32), bunch.target.astype(np.int64)
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(len(images))
    cuts = np.cumsum([int(share * len(images)) for share in list(SHARES.values())[:-1]])
    return {
        name: _paired(images, labels, pool, pairs[name], rng)
        for name, pool in zip(SHARES, np.split(order, cuts), strict=True)
    }


def _paired(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    pool: NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
) -> Pairs:
    sources = rng.choice(pool, (count, 2))
    canvas = np.zeros((count, HEIGHT, WIDTH), np.float32)
    for side, (first, last) in enumerate(((0, 4), (5, 9))):  # columns where a digit may begin: they overlap by 0 to 6
        tops, lefts = rng.integers(0, HEIGHT - 8 + 1, count), rng.integers(first, last, count)
        rows = tops[:, None, None] + np.arange(8)[:, None]
        columns = lefts[:, None, None] + np.arange(8)
        view = (np.arange(count)[:, None, None], rows, columns)
        canvas[view] = np.maximum(canvas[view], images[sources[:, side]])
    return Pairs(canvas[:, None], labels[sources], sources)


def _targets(pair: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    left, right = torch.from_numpy(pair).T.contiguous()
    return {
        "left": left.clone(),
        "right": right.clone(),
        "sum": ((left + right) / 18).float(),
        "same": (left == right).float(),
        "larger": torch.where(left > right, 0, torch.where(right > left, 1, 2)),
    }


def _sizes(pairs: Mapping[str, int] | None) -> dict[str, int]:
    if pairs is not None and not isinstance(pairs, Mapping):
        raise ProblemError(f"pairs must be {{split: size}}, got {pairs!r}")
    sizes = dict(PAIRS) | dict(pairs or {})
    if unknown := [name for name in sizes if name not in PAIRS]:
        raise ProblemError(f"digits has the splits {list(PAIRS)}, not {unknown}")
    if small := {name: size for name, size in sizes.items() if not isinstance(size, int) or size < 50}:
        raise ProblemError(f"each split of digits needs at least 50 pairs, got {small}")
    return sizes
