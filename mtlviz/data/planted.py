"""Problems whose tasks are related by design: some help each other, some hurt, and some do neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, unknown
from mtlviz.randomness import seeded
from mtlviz.task import Task
from mtlviz.transfer.arguments import whole
from mtlviz.transfer.generator import PlantedTask, PlantedTasks

HELD_OUT = 500  # samples of each task to validate on, and as many to test on

RELATED = PlantedTasks(
    {
        "target": PlantedTask(60, noise=0.5),
        "helper": PlantedTask(600, cosine=0.98, noise=0.1),
        "rival": PlantedTask(600, cosine=0.0, noise=0.1),
        "stranger": PlantedTask(600, cosine=0.0, aside=1, scales=1, noise=0.1),
    },
    features=30,
    condition=10.0,
)
"""Through one direction, the helper, of nearly the target's θ, helps it. The rival, whose θ is orthogonal to it and
whose inputs vary where the target's do, hurts it. The stranger's inputs hardly vary where the target's do."""

TURNED = PlantedTasks(
    {
        "upright": PlantedTask(200, noise=0.1),
        "turned": PlantedTask(200, rotation=1, turned=True, noise=0.1),
        "turned again": PlantedTask(200, rotation=2, turned=True, noise=0.1),
    },
    features=10,
    condition=5.0,
)
"""One task in three coordinate systems: a rotation of the inputs makes each of them the first, and then one direction
serves all. Without it they want three."""

NAMED = {"related": RELATED, "turned": TURNED}


def planted(
    tasks: str | PlantedTasks = "related",
    *,
    width: int = 1,
    seed: int = 0,
    validation: int = HELD_OUT,
    test: int = HELD_OUT,
) -> Problem:
    """Planted tasks as a problem: each has data of its own, and they share a trunk x (B, d) -> (B, width).

    tasks: "related" (`RELATED`), "turned" (`TURNED`), or `PlantedTasks` of your own. width: of the trunk, the paper's
    r: `nn.Linear` without bias, with a ReLU where the teacher has one. seed: of θ, the rotations, the samples and the
    initial parameters. validation, test: how many samples each task is validated and tested on.

    Regressions have mean squared error and RMSE, classifications binary cross-entropy and accuracy. No head has a bias,
    so a linear regression is what `transfer.shared_fit` solves, by weights 1/m_i where the losses have equal weights.

    Raises: ProblemError for an unknown name; TransferError for numbers out of range.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, section 2. Differs: see `transfer.PlantedTasks`.
    """
    if isinstance(tasks, str):
        if tasks not in NAMED:
            raise ProblemError(unknown("planted problem", tasks, NAMED))
        name, tasks = f"planted: {tasks}", NAMED[tasks]
    elif isinstance(tasks, PlantedTasks):
        name = "planted"
    else:
        raise ProblemError(f"tasks must be one of {', '.join(NAMED)} or PlantedTasks; got {type(tasks).__name__}")
    width, seed = whole("width", width, 1), whole("seed", seed, 0)
    held_out = {"validation": whole("validation", validation, 1), "test": whole("test", test, 1)}
    sizes = {"train": {label: task.samples for label, task in tasks.tasks.items()}}
    sizes |= {split: dict.fromkeys(tasks.tasks, count) for split, count in held_out.items()}
    data: dict[str, Any] = {s: _data(tasks, seed, part, counts) for part, (s, counts) in enumerate(sizes.items())}
    relu = tasks.teacher == "relu"
    with seeded(seed):
        trunk = nn.Sequential(nn.Linear(tasks.features, width, bias=False), *([nn.ReLU()] if relu else []))
        heads = {label: nn.Linear(width, 1, bias=False) for label in tasks.tasks}
    made = [_task(label, tasks) for label in tasks.tasks]
    return Problem(name=name, tasks=made, trunk=trunk, heads=heads, seed=seed, **data)


def _data(
    tasks: PlantedTasks, seed: int, part: int, counts: Mapping[str, int]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{task: (x (m, d), y (m,))} of one split, as float32; classes are 0 and 1."""
    found = {}
    for label, population in tasks.planted(seed).items():
        x, y = population.sample(counts[label], part=part)
        y = (y + 1.0) / 2.0 if tasks.kind == "classification" else y
        found[label] = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    return found


def _task(label: str, tasks: PlantedTasks) -> Task:
    if tasks.kind == "classification":
        return Task(label, loss=F.binary_cross_entropy_with_logits, metric="accuracy", outputs=1)
    return Task(label, loss=F.mse_loss, metric="rmse", outputs=1)
