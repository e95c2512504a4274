"""Every task's metric on a whole split, in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtlviz.data.problem import Problem
from mtlviz.data.splits import Split
from mtlviz.errors import NonFiniteError, ProblemError
from mtlviz.models.shared_trunk import SharedTrunk, evaluating
from mtlviz.task import Task, squeezed


def evaluation(
    model: SharedTrunk, tasks: Sequence[Task], split: Split, device: torch.device, *, step: int
) -> dict[str, float]:
    """The metric of each task that the split labels after `step` updates; NaN where a task has no label in it.

    Dropout is off and running statistics stay as they are; every module's mode is restored afterwards.

    Raises: NonFiniteError for outputs that are NaN or infinite, ProblemError naming the task whose metric fails.
    """
    outputs: dict[str, list[NDArray[Any]]] = {task.name: [] for task in tasks}
    targets: dict[str, list[NDArray[Any]]] = {task.name: [] for task in tasks}
    with evaluating(model):
        for batch in split.chunks():
            own = {task.name: batch.rows[task.name] for task in tasks if task.name in batch.rows}
            z, rows = model.routed(batch.inputs.to(device), own)
            for task in tasks:
                if task.name in rows:
                    y = batch.targets[task.name]
                    outputs[task.name].append(_array(squeezed(model.output(task.name, z[rows[task.name]]), y)))
                    targets[task.name].append(_array(y))
    return {task.name: _value(task, outputs[task.name], targets[task.name], split.name, step) for task in tasks}


def validation(model: SharedTrunk, problem: Problem, device: torch.device, *, step: int) -> dict[str, float]:
    """The metric of each task on the split on which it is monitored, "validation" unless the problem says another.

    Raises: as `evaluation`.
    """
    values: dict[str, float] = {}
    for split in (problem.train, problem.validation, problem.test):
        if split is not None:
            own = [task for task in problem.tasks if problem.monitor.get(task.name, "validation") == split.name]
            if own:
                values |= evaluation(model, own, _needed(split, own), device, step=step)
    return {task.name: values[task.name] for task in problem.tasks if task.name in values}


def _needed(split: Split, tasks: Sequence[Task]) -> Split:
    """The split without the sources of other tasks."""
    names = {task.name for task in tasks}
    if split.shared is not None:
        return split
    return replace(split, by_task={name: source for name, source in split.by_task.items() if name in names})


def _array(values: torch.Tensor) -> NDArray[Any]:
    values = values.cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy knows no bfloat16


def _value(task: Task, outputs: list[NDArray[Any]], targets: list[NDArray[Any]], split: str, step: int) -> float:
    if not outputs:
        return math.nan
    y_hat, y = np.concatenate(outputs), np.concatenate(targets)
    if not np.isfinite(y_hat).all():
        raise NonFiniteError(f"task {task.name!r}: its outputs on {split} are not finite after step {step}", task.name)
    try:
        return float(task.judge.value(y_hat, y))
    except Exception as error:  # a metric may be any code of the user's: whatever it raises is told with its task
        raise ProblemError(
            f"task {task.name!r}: its metric {task.judge.name} failed on {split} outputs {y_hat.shape} and targets "
            f"{y.shape}, which are numpy arrays: {type(error).__name__}: {error}"
        ) from error
