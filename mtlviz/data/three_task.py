"""The three-task picture as a problem to train: three classifications in the plane on a trunk of one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.randomness import seeded
from mtlviz.runlog.records import Floats
from mtlviz.task import Task

if TYPE_CHECKING:
    from mtlviz.transfer import ThreeTask

VALIDATION, TEST = 500, 2000  # points of each task, with their true labels


def three_task(picture: ThreeTask | None = None, *, seed: int = 0, width: int = 1) -> Problem:
    """One training sample of a three-task picture, with validation and test points of each task.

    The trunk is linear, 2 -> width; width=1 is the picture's own model, and from width=2 on every task can have the
    direction that it has alone. A task's loss is the mean over its points times its share of all points, so that equal
    weights minimise the sum over all points, as the picture does.

    picture: None is `ThreeTask()`. seed: of the sample and of the initial parameters. width: of the trunk.

    Raises: ProblemError for something else than a ThreeTask, a seed below 0 or a width below 1.

    Source: `mtlviz.transfer.ThreeTask`. Differs: trained by steps, and without the picture's ridge.
    """
    from mtlviz.transfer import ThreeTask  # here, since it brings numba, which no other problem needs

    picture = ThreeTask() if picture is None else picture
    if not isinstance(picture, ThreeTask):
        raise ProblemError(f"picture must be an mtlviz.transfer.ThreeTask, got {picture!r}")
    for name, value, least in (("seed", seed, 0), ("width", width, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ProblemError(f"{name} must be a whole number from {least}, got {value!r}")
    train, held_out = picture.sample(seed), picture.held_out(seed, count=VALIDATION + TEST)
    shares = {task: 3 * count / sum(picture.samples) for task, count in zip(train, picture.samples, strict=True)}
    with seeded(seed):
        trunk = nn.Linear(2, width)
    loss = F.binary_cross_entropy_with_logits
    return Problem(
        name="three_task",
        tasks=[Task(task, loss=loss, metric="accuracy", outputs=1, scale=share) for task, share in shares.items()],
        trunk=trunk,
        train={task: _tensors(*pair) for task, pair in train.items()},
        validation={task: _tensors(x[:VALIDATION], y[:VALIDATION]) for task, (x, y) in held_out.items()},
        test={task: _tensors(x[VALIDATION:], y[VALIDATION:]) for task, (x, y) in held_out.items()},
        seed=seed,
    )


def _tensors(x: Floats, y: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (n, 2), and labels −1 and 1 as 0 and 1."""
    return torch.from_numpy(x).float(), torch.from_numpy(y > 0).float()
