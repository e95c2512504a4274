"""The part of a batch that one of several processes computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from mtlviz.data.splits import Batch


@dataclass(frozen=True)
class Part(Batch):
    """Every R-th row of a batch.

    counts: labelled rows of each task in the whole batch. Whole means are the sums of the parts' means times `share`.
    """

    counts: Mapping[str, int] = field(kw_only=True)

    def samples(self, task: str) -> int:
        """How many rows the task labels in the whole batch."""
        return self.counts.get(task, 0)

    def share(self, task: str) -> float:
        """Which share of the task's labelled rows is in this part."""
        return len(self.targets[task]) / self.counts[task] if task in self.targets else 0.0

    def to(self, device: torch.device) -> Part:
        """The part on a device."""
        whole = super().to(device)
        return Part(whole.inputs, whole.rows, whole.targets, counts=self.counts)


def part_of(batch: Batch, rank: int, size: int) -> Part:
    """The rows rank, rank + size, … of a batch: of tasks with rows of their own, each process has its share of each.

    A process for which there is no row gets the first, which no task labels for it: a model need not know empty inputs.
    """
    rows: dict[str, torch.Tensor | slice] = {}
    targets: dict[str, torch.Tensor] = {}
    for task, own in batch.rows.items():
        numbers = torch.arange(own.start, own.stop) if isinstance(own, slice) else own
        mine = numbers % size == rank
        if mine.any():
            places = numbers[mine] // size
            whole = isinstance(own, slice)  # every R-th of rows without a gap has none
            rows[task] = slice(int(places[0]), int(places[-1]) + 1) if whole else places
            targets[task] = batch.targets[task][mine]
    counts = {task: len(y) for task, y in batch.targets.items()}
    inputs = batch.inputs[rank::size] if rank < len(batch.inputs) else batch.inputs[:1]
    return Part(inputs, rows, targets, counts=counts)
