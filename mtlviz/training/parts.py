"""What `train` is given, checked and made ready, so that what does not fit is told before anything is recorded."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch
from mtlviz.errors import WeightingError
from mtlviz.gradients.shared import SharedGradients
from mtlviz.models.shared_trunk import SharedTrunk, evaluating
from mtlviz.randomness import seeded
from mtlviz.runlog.records import Floats
from mtlviz.training.combining import method_name
from mtlviz.weighting import Method, Weighting, named
from mtlviz.weighting.notice import compiling

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
Function = Callable[[Floats, Floats], Floats]
WeightingLike = str | Method | Function | torch.nn.Module  # the last of TorchJD


TRIED = 50  # batches in which each task should show up once


def check_fit(problem: Problem, model: SharedTrunk, sampler: BatchSampler, device: torch.device) -> None:
    """Tries the first labelled samples of each task on a copy, so that parts that do not fit are told before the run.

    Raises: ProblemError naming the task, or the split that cannot be read.
    """
    with seeded(0, device):
        tried = copy.deepcopy(model)
        engine, left = SharedGradients(tried, problem.tasks), {task.name for task in problem.tasks}
        for position in range(1, TRIED + 1):
            batch = sampler.batch(position).to(device)
            if left & set(batch.rows):
                _check_losses(problem, tried, batch)
                engine.of(batch)
                left -= set(batch.rows)
            if not left:
                break
        for split in (problem.validation, problem.test):
            if split is not None:
                with evaluating(tried):
                    _check_losses(problem, tried, next(split.chunks(sampler.batch_size)).to(device))


def _check_losses(problem: Problem, model: SharedTrunk, batch: Batch) -> None:
    z, rows = model.routed(batch.inputs, batch.rows)
    for task in problem.tasks:
        if task.name in rows:
            task.check_fit(model.output(task.name, z[rows[task.name]]), batch.targets[task.name])


def trainable_copy(model: SharedTrunk) -> SharedTrunk:
    """A copy to train: in training mode, but for parts that the user put in evaluation mode within one that trains."""
    copied = copy.deepcopy(model)
    if not copied.trunk.training:
        copied.train()
    return copied


def load(problem: Problem, weighting: Method | Function) -> None:
    """Imports and compiles now what the run will use, before it may go on in a thread of its own.

    Two threads that import at once can block each other (importlib's deadlock error).
    """
    for task in problem.tasks:
        if task.judge.needs is not None:
            import_module(task.judge.needs)
    if isinstance(weighting, Weighting):
        # A method may refuse losses that nobody has seen; the first step tells what it thinks of real ones.
        with compiling(), contextlib.suppress(Exception):
            copy.deepcopy(weighting)(np.ones(len(problem.tasks)), np.eye(len(problem.tasks)))


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
        if chosen.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:  # all that torch raises for one
        raise ValueError(f"device {device!r} cannot be used here: {error}") from error
    return chosen


def method_of(weighting: WeightingLike, problem: Problem, *, seed: int, epoch: Callable[[], int]) -> Method | Function:
    """A method from its name, itself, a function or an object of TorchJD, ready for a run of `problem`.

    seed: of its random numbers. epoch: tells the updates in which the data are seen once.

    Raises: WeightingError for anything else, and for a method that this problem cannot give what it needs.
    """
    if isinstance(weighting, str):
        method: Any = named(weighting)
    elif isinstance(weighting, type) and issubclass(weighting, Method):
        raise WeightingError(
            f"weighting must be a name, a Weighting or a function; {weighting.__name__} is a class: "
            f"make one, {weighting.__name__}()"
        )
    elif isinstance(weighting, type) or (not callable(weighting) and not isinstance(weighting, Method)):
        raise WeightingError(f"weighting must be a name, a Weighting or a function, got {weighting!r}")
    elif any(cls.__module__.split(".")[0] == "torchjd" for cls in type(weighting).__mro__):
        from mtlviz.interop.torchjd import adapted  # here, since TorchJD is optional

        method = adapted(weighting, epoch=epoch)
    else:
        method = copy.deepcopy(weighting)  # two runs may be given the same one, and each has its own state
    if isinstance(method, Method):
        if "representation" in method.needs and problem.train.shared is None:
            raise WeightingError(
                f"{method.name} needs one representation that all tasks share, but here each task has data of its own; "
                "choose mgda, or give the tasks common inputs"
            )
        if "representation" in method.needs and not problem.model.one_representation:
            raise WeightingError(
                f"{method.name} needs one representation that all tasks share, but an aligned task has one of its own; "
                "choose mgda, or leave the alignment out"
            )
        method.prepare([task.classes for task in problem.run_info().tasks])
        method.introduce([task.name for task in problem.tasks])
        method.reset(seed)
    return method


def optimizer_of(
    make: MakeOptimizer | None, model: SharedTrunk, learned: Iterable[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a model, Adam unless made otherwise; `learned` are numbers that the weighting adds.

    Raises: ValueError where `make` makes none.
    """
    parameters = [p for p in [*model.parameters(), *learned] if p.requires_grad]
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
    if isinstance(made, torch.optim.LBFGS):
        raise ValueError("LBFGS calls a closure several times a step, which a recorded run cannot do; choose another")
    own = {id(p) for p in parameters}
    if any(id(p) not in own for group in made.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer must use the parameters that it is given, since training works on a copy of the model; "
            "it was made over others"
        )
    return made


def scheduler_of(
    make: MakeScheduler | None, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The scheduler of an optimizer, if any. Raises: ValueError where `make` makes none that steps by itself."""
    if make is None:
        return None
    if not callable(make):
        raise ValueError(f"scheduler must be a function from an Optimizer to an LRScheduler, got {make!r}")
    made = make(optimizer)
    if not isinstance(made, torch.optim.lr_scheduler.LRScheduler):
        raise ValueError(f"scheduler must return a torch LRScheduler, it returned {type(made).__name__}")
    if isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError("ReduceLROnPlateau needs one metric to watch, and every task has its own; choose another")
    return made


def run_config(
    weighting: Method | Function,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
) -> dict[str, Any]:
    """What the run log remembers of these parts, as they are before the first update."""
    group = optimizer.param_groups[0]
    return {
        "weighting": method_name(weighting),
        "weighting_settings": weighting.settings() if isinstance(weighting, Method) else {},
        "optimizer": type(optimizer).__name__,
        "learning_rate": float(group["lr"]),
        "scheduler": type(scheduler).__name__ if scheduler is not None else None,
    }
