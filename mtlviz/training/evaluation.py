"""Every task's metric on a whole split, in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mtlviz.data.splits import Split
from mtlviz.errors import ProblemError
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.task import Task, squeezed


def evaluation(model: SharedTrunk, tasks: Sequence[Task], split: Split, device: torch.device) -> dict[str, float]:
    """The metric of each task that the split labels; NaN where a task has no label in it.

    Dropout is off and running statistics stay as they are; the model's training mode is restored afterwards.

    Raises: ProblemError naming the task whose metric fails.
    """
    outputs: dict[str, list[torch.Tensor]] = {task.name: [] for task in tasks}
    targets: dict[str, list[torch.Tensor]] = {task.name: [] for task in tasks}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in split.chunks():
                z = model.represent(batch.inputs.to(device))
                for task in tasks:
                    if task.name in batch.rows:
                        y = batch.targets[task.name]
                        outputs[task.name].append(squeezed(model.output(task.name, z[batch.rows[task.name]]), y).cpu())
                        targets[task.name].append(y.cpu())
    finally:
        model.train(training)
    return {task.name: _value(task, outputs[task.name], targets[task.name], split.name) for task in tasks}


def _value(task: Task, outputs: list[torch.Tensor], targets: list[torch.Tensor], split: str) -> float:
    if not outputs:
        return math.nan
    y_hat, y = torch.cat(outputs).numpy(), torch.cat(targets).numpy()
    try:
        return float(task.judge.value(y_hat, y))
    except (ValueError, IndexError, TypeError, ArithmeticError) as error:
        raise ProblemError(
            f"task {task.name!r}: its metric {task.judge.name} failed on {split} outputs {y_hat.shape} and targets "
            f"{y.shape}: {error}"
        ) from error
