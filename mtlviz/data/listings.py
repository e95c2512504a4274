"""Made product listings with text: tasks of the kinds, class counts and proportions of Lu et al."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mtlviz.data.catalogue import Catalogue, Ints, catalogue
from mtlviz.data.listing_tasks import POSITIVE, attributes, classes, pairs, similarity, singles
from mtlviz.data.ngrams import BUCKETS, compared, hashed
from mtlviz.data.problem import Problem
from mtlviz.data.proportional import Proportional
from mtlviz.data.vocabulary import ATTRIBUTES, TARIFFS, TYPES, UNITS, type_name
from mtlviz.data.wording import listings_of
from mtlviz.errors import ProblemError, unknown
from mtlviz.models.listing_trunk import ListingTrunk
from mtlviz.randomness import seeded
from mtlviz.task import Task

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")

# Tables 1 and 2 of Lu et al.: samples to train on, to validate and to test; 0: the paper has no such split.
PAPER_SIZES: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "related": {
        "dedup": (3_000_000, 435_000, 849_000),
        "pd_1": (107_000, 8_000, 29_000),
        "pd_2": (609_000, 30_000, 52_000),
        "var": (5_000_000, 598_000, 612_000),
        "uomi": (494_000, 0, 10_000),
    },
    "diverse": {
        "rai": (4_000_000, 474_000, 474_000),
        "sims": (3_000_000, 391_000, 390_000),
        "tc": (28_000, 0, 3_000),
        "ptc": (957_000, 0, 106_000),
        "dedup": (3_000_000, 435_000, 849_000),
    },
}
SHRUNK = 200  # one made sample for so many of the paper's
LEAST_JUDGED = 400  # rows of a validation or test split at scale 1: fewer judge nothing
CLUSTERS = {"train": 900, "validation": 150, "test": 200}  # of the catalogue at scale 1

# The share of training labels that are wrong: flipped, another class at random, attributes that are left out; for
# sims the standard deviation of what is added.
NOISE = {
    **{"dedup": 0.02, "var": 0.02, "pd_1": 0.25, "pd_2": 0.2, "uomi": 0.2},
    **{"rai": 0.1, "sims": 0.1, "tc": 0.1, "ptc": 0.1},
}

TASKS = {
    **{
        name: Task(name, loss=F.binary_cross_entropy_with_logits, metric="pr_auc", outputs=1)
        for name in ("dedup", "pd_1", "pd_2", "var")
    },
    "uomi": Task("uomi", loss=F.cross_entropy, metric="accuracy", outputs=len(UNITS)),
    "rai": Task("rai", loss=F.binary_cross_entropy_with_logits, metric="jaccard", outputs=len(ATTRIBUTES)),
    "sims": Task("sims", loss=F.mse_loss, metric="rmse_score", outputs=1),
    "tc": Task("tc", loss=F.cross_entropy, metric="accuracy", outputs=len(TARIFFS)),
    "ptc": Task("ptc", loss=F.cross_entropy, metric="accuracy", outputs=len(TYPES)),
}
CLASSES = {"uomi": UNITS, "tc": TARIFFS, "ptc": tuple(type_name(number) for number in range(len(TYPES)))}


def listings(setup: str = "related", *, scale: float = 1.0, seed: int = 0) -> Problem:
    """Made product listings with text: five tasks on one trunk, of sizes so unequal that the small ones overfit first.

    setup "related": whether two listings are of the same product (dedup), differ in quantity or size alone (pd_1), in
    colour or flavour alone (pd_2), or in any of these (var); and by which unit a listing is sold (uomi, 3 classes).
    setup "diverse": which of 1359 attributes a listing has (rai), how similar two products are to those who buy them
    (sims, in [0, 1]), a listing's tariff class (tc, 93) and product type (ptc, 709); and dedup, on the same rows.

    Training labels are partly wrong (`NOISE`), those that judge are right. No product is in two splits. uomi, tc and
    ptc have no validation split and are monitored on the test split. Inputs are n-gram ids (N, 3, L), int16: those
    that one listing has alone, the other alone, and both (`mtlviz.data.ngrams`); a batch is shared out in proportion
    to the square root of the sizes, at least a tenth a task.

    scale: of all sizes; at 1.0 there are 46 050 (related) or 54 925 (diverse) rows to train on. seed: of the products,
        the texts, the labels and the initial parameters.

    Raises: ProblemError for an unknown setup, a scale that is not a finite number above 0, or a seed below 0.

    Source: Lu et al., NAACL 2022 industry track, Tables 1 and 2: kinds, class counts and proportions of the tasks.
    Differs: their data are proprietary, these are made by a grammar of our own, a 200th as many; a split that judges a
    task has at least 400 rows; what the attributes of pd_1 and pd_2 are is our choice; rai is judged by multi-label
    accuracy, since accuracy over labels of which a listing has 8 in 1359 is 99 % for a model that names none.
    """
    table = listings_table(setup, scale=scale, seed=seed)
    names = list(PAPER_SIZES[setup])
    inputs = listing_inputs(table)
    splits: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {split: {} for split in SPLITS}
    for key, part in table.groupby(["task", "split"], sort=False):
        task, split = map(str, key)
        splits[split][task] = inputs[torch.tensor(part.index.to_numpy())], listing_targets(task, part["label"])
    with seeded(seed):
        trunk = ListingTrunk(buckets=BUCKETS)
        heads = {"rai": _attributes_head(trunk.linear2.out_features)} if "rai" in names else None
    return Problem(
        name=f"listings, {setup}",
        tasks=[TASKS[name] for name in names],
        trunk=trunk,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        heads=heads,
        seed=seed,
        monitor={name: "test" for name in names if name not in splits["validation"]},
        sampling=Proportional(power=0.5, floor=0.1),
    )


def listings_table(setup: str = "related", *, scale: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """What `listings` is made of, as text: task, split, title_a, attributes_a, title_b, attributes_b, label.

    A row per sample; title_b and attributes_b are empty for a task on single listings. label: "yes" or "no", the name
    of a class, the names of the attributes joined by "; ", or a similarity in [0, 1] with four decimals. Raises as
    `listings` does.
    """
    import pandas as pd

    sizes = listing_sizes(setup, scale)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ProblemError(f"seed must be a whole number from 0, got {seed!r}")
    parts = []
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([seed, number])
        products = catalogue(max(round(CLUSTERS[split] * scale), 10), rng)
        titles, facts = listings_of(products, rng)
        for task in [name for name in sizes if sizes[name][split]]:
            own = np.random.default_rng([seed, number, crc32(task.encode())])  # the same in either setup
            left, right, labels = labelled_rows(task, products, sizes[task][split], own, noisy=split == "train")
            columns = {"task": task, "split": split, "title_a": titles[left], "attributes_a": facts[left]}
            second = ("", "") if right is None else (titles[right], facts[right])
            columns |= {"title_b": second[0], "attributes_b": second[1], "label": labels}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def listing_sizes(setup: str, scale: float = 1.0) -> dict[str, dict[str, int]]:
    """Rows by task and split: the paper's over 200, times `scale`; what judges a task has at least 400 · `scale`."""
    if setup not in PAPER_SIZES:
        raise ProblemError(unknown("setup", setup, PAPER_SIZES))
    if isinstance(scale, bool) or not isinstance(scale, Real) or not (math.isfinite(scale) and scale > 0):
        raise ProblemError(f"scale must be a finite number above 0, got {scale!r}")
    least = {
        "train": 10,
        "validation": max(round(LEAST_JUDGED * scale), 30),
        "test": max(round(LEAST_JUDGED * scale), 30),
    }
    return {
        task: {
            split: max(round(count * scale / SHRUNK), least[split]) if count else 0
            for split, count in zip(SPLITS, counts, strict=True)
        }
        for task, counts in PAPER_SIZES[setup].items()
    }


def listing_inputs(table: pd.DataFrame) -> torch.Tensor:
    """The n-grams (N, 3, L), int16, of a `listings_table`: what is in either listing alone, and what is in both."""
    import pandas as pd

    sides = [
        (table[f"title_{side}"].astype(object) + "\t" + table[f"attributes_{side}"].astype(object)) for side in "ab"
    ]
    codes, texts = pd.factorize(np.concatenate([side.to_numpy() for side in sides]))
    titles, facts = zip(*(text.split("\t") for text in texts), strict=True)
    first, second = hashed(titles, facts)[codes.reshape(2, -1)]
    return torch.from_numpy(compared(first, second))


def listing_targets(task: str, labels: Iterable[str]) -> torch.Tensor:
    """The targets that a task's labels say: (N,), or (N, 1359) for rai."""
    if task in CLASSES:
        number = {name: k for k, name in enumerate(CLASSES[task])}
        return torch.tensor([number[label] for label in labels])
    if task == "sims":
        return torch.tensor([float(label) for label in labels])
    if task == "rai":
        number = {name: k for k, name in enumerate(ATTRIBUTES)}
        each = [[number[name] for name in label.split("; ") if name] for label in labels]
        targets = torch.zeros(len(each), len(ATTRIBUTES))
        rows = np.repeat(np.arange(len(each)), [len(names) for names in each])
        targets[rows, np.concatenate(each)] = 1
        return targets
    return torch.tensor([float(label == "yes") for label in labels])


def _attributes_head(features: int) -> nn.Linear:
    """A head that begins by expecting each attribute of about 1 listing in 150, so that it need not unlearn 1 in 2.

    Source: the bias of Lin et al., ICCV 2017, arXiv 1708.02002, section 4.1.
    """
    head = nn.Linear(features, len(ATTRIBUTES))
    nn.init.constant_(head.bias, -5.0)
    return head


def labelled_rows(
    task: str, products: Catalogue, count: int, rng: np.random.Generator, *, noisy: bool
) -> tuple[Ints, Ints | None, NDArray[np.object_]]:
    """What a task is given of a catalogue: listings (N,), second ones (None where it sees one), and labels as text.

    noisy: as training labels are, wrong by `NOISE`; the listings are the same with and without.
    """
    noise = NOISE[task] if noisy else 0.0
    if task in POSITIVE:
        rows = pairs(task, products, count, rng)
        truth = np.isin(rows.made, list(POSITIVE[task])) ^ (rng.random(count) < noise)
        return rows.left, rows.right, np.where(truth, "yes", "no").astype(object)
    if task == "sims":
        rows = pairs(task, products, count, rng)
        value = np.clip(similarity(rows, products) + rng.normal(0, noise, count), 0, 1)
        return rows.left, rows.right, np.array([f"{v:.4f}" for v in value], dtype=object)
    left = singles(task, products, count, rng)
    if task == "rai":
        has = attributes(left, products)
        has &= rng.random(has.shape) >= noise
        names = np.array(ATTRIBUTES, dtype=object)
        return left, None, np.array(["; ".join(names[row]) for row in has], dtype=object)
    names, wrong = np.array(CLASSES[task], dtype=object), rng.random(count) < noise
    return left, None, names[np.where(wrong, rng.integers(0, len(names), count), classes(task, left, products))]
