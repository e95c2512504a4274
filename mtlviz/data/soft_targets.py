"""Splits whose targets are soft labels for some tasks; inputs and the other tasks' targets are the same objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from mtlviz.data.splits import Rows, Source, Split, TensorRows, labelled
from mtlviz.errors import ProblemError
from mtlviz.task import Task


@dataclass(frozen=True)
class SoftRows:
    """Rows of a Dataset, whose targets are replaced as they are fetched.

    soft: soft labels (N, ...) by task; by None for rows of one task.
    """

    rows: Rows
    tasks: Mapping[str | None, Task]
    soft: Mapping[str | None, torch.Tensor]

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, rows: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Inputs and targets of the rows (n,)."""
        inputs, targets = self.rows.fetch(rows)
        if None in self.soft:
            return inputs, _unlabelled_as(torch.as_tensor(targets), self.soft[None][rows], self.tasks[None])
        if not isinstance(targets, Mapping):
            return inputs, targets  # the split tells what is wrong with them
        known = {
            task: _unlabelled_as(torch.as_tensor(targets[task]), soft[rows], self.tasks[task])
            for task, soft in self.soft.items()
            if task in targets
        }
        return inputs, {**targets, **known}


def softened(split: Split, true: Split, given: Sequence[tuple[Task, Any]]) -> Split:
    """The split with soft labels (N, ...) for some tasks, NaN where `true`, the split before, has no label.

    Raises: ProblemError for data in a DataLoader, and soft labels that do not fit the task's true ones.
    """
    labels = [(task, _tensor(task.name, soft)) for task, soft in given]
    for task, soft in labels:
        _check(true, task, soft)
    if split.shared is None:
        sources = {task.name: _of_one(true.by_task[task.name], task, soft) for task, soft in labels}
        return replace(split, by_task={**split.by_task, **sources})
    if isinstance(true.shared, TensorRows) and isinstance(split.shared, TensorRows):
        targets = {t.name: _unlabelled_as(true.shared.targets[t.name], soft, t) for t, soft in labels}
        return replace(split, shared=TensorRows(true.shared.inputs, {**split.shared.targets, **targets}))
    assert not isinstance(true.shared, DataLoader)
    assert true.shared is not None
    before = split.shared if isinstance(split.shared, SoftRows) else SoftRows(true.shared, {}, {})
    tasks, known = dict(before.tasks), dict(before.soft)
    tasks.update({task.name: task for task, _ in labels})
    known.update({task.name: soft for task, soft in labels})
    return replace(split, shared=SoftRows(true.shared, tasks, known))


def _tensor(task: str, labels: Any) -> torch.Tensor:
    """Soft labels as a tensor without a graph. Raises: ProblemError for what is no array of numbers."""
    try:
        return torch.as_tensor(labels).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProblemError(
            f"task {task!r}: its soft labels must be a tensor or an array (N, ...), got {type(labels).__name__}; a "
            "model's are its predictions for the training samples"
        ) from error


def _rows_of(split: Split, task: str) -> Rows:
    """The rows that a task is trained on. Raises: ProblemError for data in a DataLoader."""
    source: Source = split.shared if split.shared is not None else split.by_task[task]
    if isinstance(source, DataLoader):
        raise ProblemError(
            f"{split.name}: the data of task {task!r} come in a DataLoader, and nobody can tell which row a soft label "
            "belongs to; give tensors or a Dataset"
        )
    return source


def _of_one(source: Source, task: Task, soft: torch.Tensor) -> Source:
    if isinstance(source, TensorRows):
        return TensorRows(source.inputs, _unlabelled_as(source.targets, soft, task))
    assert not isinstance(source, DataLoader)
    return SoftRows(source, {None: task}, {None: soft})


def _check(true: Split, task: Task, soft: torch.Tensor) -> None:
    rows = _rows_of(true, task.name)
    came = f"task {task.name!r}: its soft labels {tuple(soft.shape)} {str(soft.dtype).removeprefix('torch.')}"
    if not soft.is_floating_point() or soft.dim() == 0:
        raise ProblemError(f"{came} must be floats (N, ...)")
    if len(soft) != len(rows):
        raise ProblemError(f"{came} need a row for each of the {len(rows)} rows of {true.name}")
    if bool(torch.isinf(soft).any()):
        raise ProblemError(f"{came} hold infinite numbers")
    if not bool(labelled(soft).any()):
        raise ProblemError(f"{came} are NaN in every row")
    targets = rows.fetch(torch.zeros(1, dtype=torch.long))[1]
    if isinstance(targets, Mapping):
        targets = targets.get(task.name)
    kind = task.soft_form.kind
    if targets is None or kind is None:
        return
    row = torch.as_tensor(targets)
    classes = kind == "multiclass" and not row.is_floating_point()
    shape = (task.outputs, *row.shape[1:]) if classes else tuple(row.shape[1:])
    if _flat(tuple(soft.shape[1:])) != _flat(shape):
        raise ProblemError(f"{came} do not fit its true targets: each row should have the shape {shape}")


def _flat(row: tuple[int, ...]) -> tuple[int, ...]:
    return () if row == (1,) else row  # (N, 1) and (N,) hold the same numbers


def _unlabelled_as(targets: torch.Tensor, soft: torch.Tensor, task: Task) -> torch.Tensor:
    """Soft labels with NaN where true targets (N, ...) have no label, (N, 1) where those are."""
    form = task.soft_form
    if form.kind is None:
        missing = ~labelled(targets)
        missing = missing.reshape(-1, *[1] * (soft.dim() - 1))
    else:
        missing = form.missing(targets)
        if form.kind == "multiclass" and not targets.is_floating_point():
            missing = missing.unsqueeze(1)  # (N, C, ...)
        elif soft.shape != targets.shape:
            soft = soft.reshape(targets.shape)
    return torch.where(missing.to(soft.device), torch.nan, soft) if bool(missing.any()) else soft
