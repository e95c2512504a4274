"""Short runs under a schedule, and what their logs say of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import mtlviz as mv
from mtlviz.training.schedules import Schedule
from tests.problems import crossing, made_data

NAMES = ["kind", "size", "rare"]
HASTY = partial(torch.optim.Adam, lr=0.03)


def recorded(training: mv.Training) -> mv.RunLog:
    log = mv.RunLog.create(None, training)
    for record in training:
        log.append(record)
    return log


def quick(schedule: Schedule, problem: mv.Problem | None = None, **options: Any) -> mv.Training:
    """A run with steps so long that no task improves for many validations."""
    options = {"steps": 400, "validate_every": 5, "layers_every": 0, "batch_size": 32, "optimizer": HASTY} | options
    return mv.train(crossing() if problem is None else problem, schedule=schedule, **options)


def apart(**parts: Any) -> mv.Problem:
    """The same tasks, each with training data of its own."""
    x, targets = made_data(64, seed=5)
    return crossing(train={name: (x, y) for name, y in targets.items()}, **parts)


def of(log: mv.RunLog, kind: str) -> list[Any]:
    return [row for row in log.events.itertuples() if row.kind == kind]
