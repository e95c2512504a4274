"""Soft labels: what a checkpoint makes of a task's whole training set, and how true labels come back in."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader

from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch
from mtlviz.errors import NonFiniteError, ProblemError
from mtlviz.models.shared_trunk import SharedTrunk, evaluating
from mtlviz.task import Task, squeezed


def soft_labels(model: SharedTrunk, problem: Problem, task: str, *, device: torch.device) -> torch.Tensor:
    """What the model predicts for the task's training samples, in evaluation mode: (N, ...) float, on the host.

    Row i belongs to row i of the task's training data; NaN where the task has no label. Probabilities for classes,
    scores for a regression.

    Raises: ProblemError for data in a DataLoader, whose rows nobody can tell apart, and for a loss that knows no soft
    labels; NonFiniteError for outputs that are NaN or infinite.
    Source: Lu et al., NAACL 2022 industry track, section 3.
    """
    own = next(one for one in problem.tasks if one.name == task)
    _check_rows(problem, task)
    split = problem.train.of_task(task)
    assert split is not None, "every task has data to train on"
    with evaluating(model):
        return torch.cat([_of_batch(model, own, batch, device) for batch in split.chunks()])


def _of_batch(model: SharedTrunk, task: Task, batch: Batch, device: torch.device) -> torch.Tensor:
    rows = batch.rows.get(task.name)
    if rows is None:  # told apart from the others by its dimension alone, so one row is predicted for its shape
        like = task.soft_labels(_outputs(model, task, batch.inputs[:1].to(device), slice(0, 1)))
        return torch.full((len(batch.inputs), *like.shape[1:]), torch.nan, dtype=like.dtype)
    outputs = squeezed(_outputs(model, task, batch.inputs.to(device), rows), batch.targets[task.name])
    soft = task.soft_labels(outputs).cpu()
    if not torch.isfinite(soft).all():
        raise NonFiniteError(f"task {task.name!r}: its outputs on the training set are not finite", task.name)
    whole = torch.full((len(batch.inputs), *soft.shape[1:]), torch.nan, dtype=soft.dtype)
    whole[rows] = soft
    return whole


def _outputs(model: SharedTrunk, task: Task, inputs: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
    z, own = model.routed(inputs, {task.name: rows})
    return model.output(task.name, z[own[task.name]])


class Annealed:
    """Teacher annealing: targets λ y + (1 − λ) ŷ, in which λ goes linearly from 0 to 1 over the run.

    Source: Clark et al., ACL 2019, arXiv 1907.04829, section 3.2.
    """

    def __init__(self, problem: Problem, *, batch_size: int, seed: int, steps: int) -> None:
        self._true = BatchSampler(problem.train, batch_size=batch_size, seed=seed, sampling=problem.sampling)
        self._tasks = {task.name: task for task in problem.tasks}
        self._steps = steps

    def mixed(self, batch: Batch, position: int) -> Batch:
        """The batch at a position, of soft labels ŷ, with the true labels y of the same rows mixed in."""
        share = float(np.clip((position - 1) / max(self._steps - 1, 1), 0.0, 1.0))
        true = self._true.batch(position)
        targets = {}
        for name, soft in batch.targets.items():  # a label that the loss ignores has a row in the true batch alone
            own = true.targets[name][torch.isin(_numbers(true.rows[name]), _numbers(batch.rows[name]))]
            targets[name] = (1 - share) * soft + share * self._tasks[name].hard_as_soft(own, soft)
        return Batch(batch.inputs, batch.rows, targets)


def _numbers(rows: torch.Tensor | slice) -> torch.Tensor:
    """The numbers of a task's rows in a batch, in order."""
    return torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def check_distillable(problem: Problem) -> None:
    """Tells before a run begins what would keep a task from learning from soft labels.

    Raises: ProblemError naming the task.
    """
    for task in problem.tasks:
        task.with_soft_loss()
        _check_rows(problem, task.name)


def _check_rows(problem: Problem, task: str) -> None:
    source = problem.train.shared if problem.train.shared is not None else problem.train.by_task[task]
    if isinstance(source, DataLoader):
        raise ProblemError(
            f"task {task!r}: its training data come from a DataLoader, whose rows nobody can tell apart, so no row can "
            "be given its soft label; give a Dataset or tensors"
        )
