"""What `train` is given, checked and made ready, so that what does not fit is told before anything is recorded."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module

import numpy as np
import torch

from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.errors import ProblemError, WeightingError
from mtlviz.gradients.shared import SharedGradients
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.randomness import seeded
from mtlviz.runlog.records import Floats
from mtlviz.weighting import Weighting, named

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
WeightingLike = str | Weighting | Callable[[Floats, Floats], Floats]


def check_fit(problem: Problem, model: SharedTrunk, sampler: BatchSampler, device: torch.device) -> None:
    """Tries the first batch on a copy, so that parts that do not fit are told before anything is recorded.

    A shape that only broadcasts against its targets is told apart from one that fits by torch's own warning.
    """
    with seeded(0, device), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Using a target size", category=UserWarning)
        try:
            SharedGradients(copy.deepcopy(model), problem.tasks).of(sampler.batch(1).to(device))
        except UserWarning as warning:
            raise ProblemError(f"a head's output does not fit its loss: {warning}") from warning


def load(problem: Problem, weighting: Weighting | Callable[[Floats, Floats], Floats]) -> None:
    """Imports and compiles now what the run will use, before it may go on in a thread of its own.

    Two threads that import at once can block each other (importlib's deadlock error).
    """
    for task in problem.tasks:
        if task.judge.needs is not None:
            import_module(task.judge.needs)
    if isinstance(weighting, Weighting):
        tried = copy.deepcopy(weighting)
        tried.reset()
        tried(np.ones(len(problem.tasks)), np.eye(len(problem.tasks)))


def whole(name: str, value: int, *, least: int) -> int:
    """The value as an int. Raises: ValueError naming it where it is no whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
    return int(value)


def usable_device(device: str | torch.device) -> torch.device:
    """The device. Raises: ValueError where nothing can be put on it."""
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {error}") from error
    return chosen


def weighting_of(weighting: WeightingLike) -> Weighting | Callable[[Floats, Floats], Floats]:
    """A weighting from its name, itself, or a function. Raises: WeightingError for anything else."""
    if isinstance(weighting, str):
        return named(weighting)
    if isinstance(weighting, type) or not callable(weighting):
        raise WeightingError(f"weighting must be a name, a Weighting or a function, got {weighting!r}")
    return weighting


def optimizer_of(make: MakeOptimizer | None, model: SharedTrunk) -> torch.optim.Optimizer:
    """The optimizer of a model, Adam unless made otherwise. Raises: ValueError where `make` makes none."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if make is None:
        return torch.optim.Adam(parameters, lr=1e-3)
    if isinstance(make, torch.optim.Optimizer) or not callable(make):
        raise ValueError(
            "optimizer must be a function from parameters to an Optimizer, since training works on a copy of the "
            "model; for example functools.partial(torch.optim.SGD, lr=0.1)"
        )
    made = make(parameters)
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"optimizer must return a torch Optimizer, it returned {type(made).__name__}")
    return made
