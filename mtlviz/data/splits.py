"""One split of a problem, in any of the forms users have it, read as multi-task batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from mtlviz.errors import ProblemError
from mtlviz.soft_labels import MISSING

Targets = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Inputs (B, ...) for one pass through the trunk; per present task the rows it labels and their targets.

    A task without a labelled row is left out of `rows` and `targets`: it is absent.
    """

    inputs: torch.Tensor
    rows: Mapping[str, torch.Tensor | slice]
    targets: Mapping[str, torch.Tensor]

    def samples(self, task: str) -> int:
        """How many rows the task labels."""
        return len(self.targets[task]) if task in self.targets else 0

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        if device.type == "cpu":
            return self
        rows = {task: r if isinstance(r, slice) else r.to(device) for task, r in self.rows.items()}
        return Batch(self.inputs.to(device), rows, {task: y.to(device) for task, y in self.targets.items()})


class Rows(Protocol):
    """Samples that can be fetched by row number: inputs (n, ...) and what is known of their targets."""

    def __len__(self) -> int: ...
    def fetch(self, rows: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Inputs and targets of the rows (n,)."""


@dataclass(frozen=True)
class TensorRows:
    """Rows held in memory; `targets` is a tensor (N, ...) or a dict of them by task."""

    inputs: torch.Tensor
    targets: Any

    def __len__(self) -> int:
        return len(self.inputs)

    def fetch(self, rows: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Inputs and targets of the rows (n,)."""
        if isinstance(self.targets, dict):
            return self.inputs[rows], {task: y[rows] for task, y in self.targets.items()}
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True)
class DatasetRows:
    """Rows of a map-style torch Dataset, collated by torch's default."""

    dataset: Dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def fetch(self, rows: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Inputs and targets of the rows (n,)."""
        items = [self.dataset[int(row)] for row in rows]
        for item in items:
            paired(item, "a Dataset")
        return paired(default_collate(items), "a Dataset")


Source = Rows | DataLoader


def paired(item: Any, giver: str) -> tuple[Any, Any]:
    """What a Dataset or DataLoader gave, as (inputs, targets). Raises: ProblemError for anything else."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise ProblemError(f"{giver} must give (inputs, targets) pairs, it gave a {type(item).__name__}{size}")
    return item[0], item[1]


@dataclass(frozen=True)
class Split:
    """A split as sources: one that all tasks share, or one per task."""

    name: str
    tasks: tuple[str, ...]
    shared: Source | None
    by_task: Mapping[str, Source]

    def join(self, parts: Sequence[tuple[str | None, tuple[Any, Any]]]) -> Batch:
        """One batch of (task or None for all tasks, (inputs, targets)) parts, inputs concatenated."""
        if not parts:
            raise ProblemError(f"{self.name}: no samples came")
        for _, (inputs, _) in parts:
            if not isinstance(inputs, torch.Tensor) or inputs.dim() == 0:
                came = "a number" if isinstance(inputs, torch.Tensor) else f"a {type(inputs).__name__}"
                raise ProblemError(f"{self.name}: the inputs of a batch must be one tensor (B, ...), {came} came")
        sizes = {tuple(inputs.shape[1:]) for _, (inputs, _) in parts}
        if len(sizes) > 1:
            raise ProblemError(
                f"{self.name}: all tasks pass one trunk together, so their inputs need one shape; got {sorted(sizes)}"
            )
        inputs = torch.cat([x for _, (x, _) in parts]) if len(parts) > 1 else parts[0][1][0]
        rows: dict[str, torch.Tensor | slice] = {}
        targets: dict[str, torch.Tensor] = {}
        start = 0
        for task, (x, y) in parts:
            for name, values in ({task: torch.as_tensor(y)} if task is not None else self._by_task(y)).items():
                if len(values) != len(x):
                    raise ProblemError(f"{self.name}: task {name!r} has {len(values)} targets for {len(x)} inputs")
                mask = labelled(values)
                if mask.all():
                    rows[name], targets[name] = slice(start, start + len(x)), values
                elif mask.any():
                    rows[name], targets[name] = start + mask.nonzero().squeeze(1), values[mask]
            start += len(x)
        return Batch(inputs, rows, targets)

    def _by_task(self, targets: Any) -> Mapping[str, torch.Tensor]:
        if not isinstance(targets, Mapping):
            raise ProblemError(
                f"{self.name}: a source that all tasks share must give (inputs, {{task: targets}}), "
                f"its targets came as {type(targets).__name__}"
            )
        if unknown := [name for name in targets if name not in self.tasks]:
            raise ProblemError(f"{self.name}: targets for unknown tasks {unknown}; the tasks are {list(self.tasks)}")
        return {name: torch.as_tensor(values) for name, values in targets.items()}

    def chunks(self, size: int = 1024) -> Iterator[Batch]:
        """The whole split once, in order, in batches of at most `size` rows."""
        sources: Iterable[tuple[str | None, Source]] = (
            [(None, self.shared)] if self.shared is not None else self.by_task.items()
        )
        for task, source in sources:
            if isinstance(source, DataLoader):
                for item in source:
                    yield self.join([(task, paired(item, f"{self.name}: a DataLoader"))])
            else:
                for rows in torch.arange(len(source)).split(size):
                    yield self.join([(task, source.fetch(rows))])

    def of_task(self, task: str) -> Split | None:
        """What a single task sees of the split; see `of_tasks`."""
        return self.of_tasks([task])

    def of_tasks(self, tasks: Sequence[str]) -> Split | None:
        """What some tasks see of the split: the shared source as it is, or their own; None where none has one."""
        if self.shared is not None:
            return self
        own = {task: source for task, source in self.by_task.items() if task in tasks}
        return Split(self.name, self.tasks, None, own) if own else None

    def samples(self) -> dict[str, int]:
        """Labelled rows per task, where they can be told without reading a whole data set."""
        if isinstance(self.shared, TensorRows):
            return {task: int(labelled(y).sum()) for task, y in self.shared.targets.items()}
        return {
            task: int(labelled(source.targets).sum()) if isinstance(source, TensorRows) else len(source)
            for task, source in self.by_task.items()
            if not isinstance(source, DataLoader)
        }


def labelled(targets: torch.Tensor) -> torch.Tensor:
    """Which rows of targets (N, ...) carry a label, as booleans (N,): not wholly NaN, not wholly `MISSING`."""
    known = ~torch.isnan(targets) if targets.is_floating_point() else targets != MISSING
    return known.flatten(1).any(1) if known.dim() > 1 else known


def split_of(name: str, value: Any, tasks: tuple[str, ...]) -> Split:
    """A split from tensors, Datasets or DataLoaders, shared by all tasks or given per task.

    value: (inputs, {task: targets}), a Dataset or DataLoader of such pairs, or {task: (inputs, targets) | Dataset |
        DataLoader}. In shared targets NaN (float) or -100 (integer) says that a row has no label for the task.
    Raises: ProblemError naming the split and the task that does not fit.
    """
    if isinstance(value, Split):
        return value
    if not isinstance(value, Mapping):
        return Split(name, tasks, _source(name, value, tasks, None), {})
    if unknown := [task for task in value if task not in tasks]:
        raise ProblemError(f"{name}: data for unknown tasks {unknown}; the tasks are {list(tasks)}")
    if not value:
        raise ProblemError(f"{name}: no data for any task")
    return Split(name, tasks, None, {task: _source(name, value[task], tasks, task) for task in tasks if task in value})


def _source(name: str, value: Any, tasks: tuple[str, ...], task: str | None) -> Source:
    where = f"{name}: " + (f"task {task!r}" if task is not None else "the shared source")
    if isinstance(value, DataLoader):
        return value
    if isinstance(value, (torch.Tensor, np.ndarray)):
        raise ProblemError(f"{where} needs (inputs, targets); a bare {type(value).__name__} came")
    if isinstance(value, Dataset) or (
        hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, (tuple, list))
    ):
        if not hasattr(value, "__len__"):
            raise ProblemError(f"{where} is a Dataset without a length; wrap it in a DataLoader")
        source: Source = DatasetRows(value)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        source = _tensor_rows(where, value[0], value[1], tasks, task)
    else:
        raise ProblemError(f"{where} needs (inputs, targets), a Dataset or a DataLoader; got {type(value).__name__}")
    if len(source) == 0:
        raise ProblemError(f"{where} has no samples")
    return source


def _tensor_rows(where: str, inputs: Any, targets: Any, tasks: tuple[str, ...], task: str | None) -> TensorRows:
    try:
        inputs = torch.as_tensor(inputs)
        if task is None and isinstance(targets, Mapping):
            targets = {str(name): torch.as_tensor(y) for name, y in targets.items()}
        elif task is not None:
            targets = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProblemError(f"{where}: inputs and targets must be tensors or arrays ({error})") from error
    if task is None:
        if not isinstance(targets, dict):
            raise ProblemError(f"{where} needs (inputs, {{task: targets}}); its targets are {type(targets).__name__}")
        if unknown := [name for name in targets if name not in tasks]:
            raise ProblemError(f"{where} has targets for unknown tasks {unknown}; the tasks are {list(tasks)}")
    if inputs.dim() == 0:
        raise ProblemError(f"{where}: inputs must be (N, ...), a single number came")
    for label, y in targets.items() if isinstance(targets, dict) else [(task, targets)]:
        if y.dim() == 0 or len(y) != len(inputs):
            raise ProblemError(f"{where}: {label!r} has targets {tuple(y.shape)} for inputs {tuple(inputs.shape)}")
    return TensorRows(inputs, targets)
