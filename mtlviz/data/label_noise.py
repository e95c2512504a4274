"""Label noise: splits in which some of a task's labels have changed places, so that they say nothing of their rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mtlviz.data.splits import DatasetRows, Rows, Source, Split, TensorRows, labelled, paired
from mtlviz.errors import ProblemError, unknown
from mtlviz.randomness import derived_seed


def checked_shares(shares: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """The share of each task as floats. Raises: ProblemError for an unknown task or a share that is not from 0 to 1."""
    if not isinstance(shares, Mapping):
        raise ProblemError(f"label noise must be {{task: share of its labels}}, got {shares!r}")
    for task, share in shares.items():
        if task not in tasks:
            raise ProblemError(f"label noise: {unknown('task', task, tasks)}")
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share <= 1:
            raise ProblemError(f"label noise of {task!r} must be a share from 0 to 1, got {share!r}")
    return {task: float(share) for task, share in shares.items()}


def noisy(split: Split, shares: Mapping[str, float], *, seed: int) -> Split:
    """The split in which so large a share of each task's labels has changed places, within the task.

    Raises: ProblemError for data in a DataLoader, and a share of less than two rows.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ProblemError(f"the seed of label noise must be a whole number from 0, got {seed!r}")
    shared, by_task = split.shared, dict(split.by_task)
    for task, share in shares.items():
        source = split.by_task[task] if shared is None else shared
        if isinstance(source, DataLoader):
            raise ProblemError(
                f"{split.name}: the data of task {task!r} come from a DataLoader, whose labels nobody can exchange; "
                "give a Dataset or tensors"
            )
        own = derived_seed(seed, 6, split.tasks.index(task))
        changed = _exchanged(source, task, share, seed=own, own=shared is None)
        if shared is None:
            by_task[task] = changed
        else:
            shared = changed
    return Split(split.name, split.tasks, shared, by_task)


def _exchanged(source: Rows, task: str, share: float, *, seed: int, own: bool) -> Source:
    """The rows with a share of a task's labels exchanged; `own`: they are of this task alone."""
    if isinstance(source, TensorRows):
        targets = source.targets if own else source.targets[task]
        mixed = targets[_order(labelled(targets), share, task, seed)]
        return TensorRows(source.inputs, mixed if own else {**source.targets, task: mixed})
    assert isinstance(source, DatasetRows), "soft labels were refused before"
    order = _order(torch.ones(len(source), dtype=torch.bool), share, task, seed)
    return DatasetRows(_Exchanged(source.dataset, order.tolist(), None if own else task))


def _order(known: torch.Tensor, share: float, task: str, seed: int) -> torch.Tensor:
    """For each row (N,) the one whose label it gets; only rows that are `known` change."""
    rows = known.nonzero().squeeze(1)
    count = math.floor(share * len(rows) + 0.5)
    if share > 0 and count < 2:
        raise ProblemError(
            f"label noise of {task!r}: {share:g} of {len(rows)} labelled rows are less than the two that can exchange "
            "their labels"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = rows[torch.randperm(len(rows), generator=generator)[:count]]
    order = torch.arange(len(known))
    order[chosen] = chosen[torch.randperm(count, generator=generator)]
    return order


class _Exchanged(Dataset):
    """A Dataset in which item i has the label of item `order[i]`: of the one task, or of `task` among several."""

    def __init__(self, dataset: Any, order: Sequence[int], task: str | None) -> None:
        self.dataset, self.order, self.task = dataset, order, task

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Any:
        inputs, targets = paired(self.dataset[index], "a Dataset")
        if self.order[index] == index:
            return inputs, targets
        other = paired(self.dataset[self.order[index]], "a Dataset")[1]
        if self.task is None:
            return inputs, other
        if not isinstance(targets, Mapping) or self.task not in targets:
            return inputs, targets  # the split tells what is wrong with them
        return inputs, {**targets, self.task: other[self.task]}
