"""The multi-task batch sampler: which samples the k-th update sees, as a function of seed, k and the tasks' shares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch.utils.data import DataLoader

from mtlviz.data.proportional import Proportional
from mtlviz.data.splits import Batch, Rows, Source, Split, paired
from mtlviz.errors import ProblemError, unknown
from mtlviz.randomness import derived_seed


@dataclass(frozen=True)
class _Stretch:
    """The shares from one position on, and the rows that each task's own stream gives.

    offsets: how many before `position`; rates: how many an update from there on. Both are empty for shared data.
    """

    position: int
    shares: Mapping[str, float]
    offsets: Mapping[str, float]
    rates: Mapping[str, float]

    def given(self, task: str, position: int) -> int:
        """Rows that the task's stream has given after the update at `position`, in whole rows."""
        return math.floor(self.offset(task, position))

    def offset(self, task: str, position: int) -> float:
        """The same before it is rounded down; in closed form, whatever was asked for before."""
        return self.offsets[task] + self.rates[task] * (position - self.position + 1)


class BatchSampler:
    """Batches of a split, each source in epochs of its own that are shuffled anew.

    A shared source gives `batch_size` rows a batch; sources per task give `batch_size` rows for each task, or, with
    `sampling`, about `batch_size` rows in all, joined into one pass through the trunk. The batch at a position depends
    on seed, position and the shares that `set_shares` left only, so that a rewind or a resume needs to store no more
    than those; a DataLoader keeps its own order and batch size and starts again when it is exhausted.

    sampling: how large a share of a batch each task gets, for data per task; None: each gets `batch_size` rows.

    Raises: ProblemError for a batch size below 1, with `sampling` below the number of tasks; for `sampling` of data
    that tasks share or that come in a DataLoader; for a DataLoader that gives nothing.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int, sampling: Proportional | None = None) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ProblemError(f"batch_size must be a whole number from 1, got {batch_size!r}")
        self.split, self.batch_size, self.seed, self.sampling = split, batch_size, seed, sampling
        sources: list[tuple[str | None, Source]] = (
            [(None, split.shared)] if split.shared is not None else list(split.by_task.items())
        )
        self._streams: list[tuple[str | None, _Shuffled | _Cycled]] = [
            (
                task,
                _Cycled(source, split.name)
                if isinstance(source, DataLoader)
                else _Shuffled(source, seed, 0 if task is None else split.tasks.index(task)),
            )
            for task, source in sources
        ]
        self._parts = None if sampling is None else sampling.of_split(split)
        if self._parts is not None and batch_size < len(self._parts):
            raise ProblemError(f"batch_size={batch_size} with sampling leaves tasks out; it takes {len(self._parts)}")
        self._stretches = [self._first()]

    @property
    def epoch(self) -> int:
        """Updates in which the largest of the data sets is seen once, while the share of every task is whole.

        Raises: ProblemError for a DataLoader without a length.
        """
        rates = self._first().rates
        return max(stream.batches(self.batch_size if task is None else rates[task]) for task, stream in self._streams)

    def batch(self, position: int) -> Batch:
        """The batch of the update at `position` (1 for the first)."""
        stretch = self._stretch(position)
        parts: list[tuple[str | None, tuple[torch.Tensor, Any]]] = []
        for task, stream in self._streams:
            share = 1.0 if task is None else stretch.shares[task]
            if share == 0:
                continue
            if isinstance(stream, _Cycled):
                item = stream.part()
                parts.append((task, item if task is None or share == 1 else self._some(item, task, share, position)))
            elif task is None:
                parts.append((task, stream.part((position - 1) * self.batch_size, position * self.batch_size)))
            else:
                start, stop = stretch.given(task, position - 1), stretch.given(task, position)
                if stop > start:
                    parts.append((task, stream.part(start, stop)))
        batch = self.split.join(parts)
        return batch if self.split.shared is None else self._shared_out(batch, stretch.shares, position)

    def set_shares(self, position: int, shares: Mapping[str, float]) -> None:
        """Each task's share from the batch at `position` on: 0 waits, below 1 it is seen less often, 1 is whole.

        Data per task: a task gets `batch_size` × share rows a batch on average; with `sampling` the batch keeps its
        size, and p_t × share says how it is shared out. A DataLoader gives that share of each of its batches, at least
        a row. Shared data: each labelled row of the task is used with the probability `share`. A task that is not named
        has share 1. What was set for `position` and later before, as by a stretch that was rewound, is forgotten.

        Raises: ProblemError for an unknown task, a share outside [0, 1], a position below 1, or shares that would leave
        batches without a row.
        """
        if isinstance(position, bool) or not isinstance(position, int) or position < 1:
            raise ProblemError(f"shares begin at a position from 1, got {position!r}")
        for task, share in shares.items():
            if task not in self.split.tasks:
                raise ProblemError(unknown("task", task, self.split.tasks))
            if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share <= 1:
                raise ProblemError(f"task {task!r}: a share lies between 0 and 1, got {share!r}")
        every = {task: float(shares.get(task, 1.0)) for task in self.split.tasks}
        before, rates = self._stretch(position), self._rates(every)
        if self.split.shared is not None and not any(every.values()):
            raise ProblemError("the shares of all tasks are 0, so that nothing is left to learn")
        if self.split.shared is None and max(rates.values()) < 1 - 1e-9:  # p_t are rounded
            raise ProblemError(f"with shares {every} and batch_size={self.batch_size} some batches would have no row")
        offsets = {task: before.offset(task, position - 1) for task in rates}
        self._stretches = [s for s in self._stretches if s.position < position]
        self._stretches.append(_Stretch(position, every, offsets, rates))

    def state_dict(self) -> dict[str, Any]:
        """What `set_shares` left, as plain values: where each stretch begins, its shares and the rows given before."""
        return {
            "stretches": [
                {"position": s.position, "shares": dict(s.shares), "offsets": dict(s.offsets)} for s in self._stretches
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the shares of `state_dict`. Raises: ProblemError where they are those of other tasks."""
        own, stretches = self._first(), []
        for told in state["stretches"]:
            if set(told["shares"]) != set(own.shares) or set(told["offsets"]) != set(own.offsets):
                raise ProblemError(f"these shares belong to other tasks than {list(self.split.tasks)}")
            shares, offsets = dict(told["shares"]), dict(told["offsets"])
            stretches.append(_Stretch(told["position"], shares, offsets, self._rates(shares)))
        self._stretches = stretches

    def _first(self) -> _Stretch:
        """Whole shares. With `sampling` the streams are out of step, so that their rounding evens out in a batch."""
        shares = dict.fromkeys(self.split.tasks, 1.0)
        rates = self._rates(shares)
        before = [0.0, *itertools.accumulate(rates.values())]
        offsets = {t: 0.0 if self.sampling is None else c % 1 for t, c in zip(rates, before, strict=False)}
        return _Stretch(1, shares, offsets, rates)

    def _rates(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Rows an update of each task that has data of its own."""
        if self._parts is None:
            return {task: self.batch_size * shares[task] for task, _ in self._streams if task is not None}
        parts = {task: part * shares[task] for task, part in self._parts.items()}
        total = sum(parts.values())
        return {task: self.batch_size * part / total if total else 0.0 for task, part in parts.items()}

    def _stretch(self, position: int) -> _Stretch:
        return next(s for s in reversed(self._stretches) if s.position <= max(position, 1))

    def _chances(self, task: str, count: int, position: int) -> torch.Tensor:
        """Numbers (count,) in [0, 1) of a task at a position."""
        seed = derived_seed(self.seed, 5, self.split.tasks.index(task), position)
        return torch.rand(count, generator=torch.Generator().manual_seed(seed))

    def _some(self, item: tuple[torch.Tensor, Any], task: str, share: float, position: int) -> tuple[torch.Tensor, Any]:
        """The share of what a task's own DataLoader gave, in a random order, at least one row."""
        inputs, targets = item[0], torch.as_tensor(item[1])
        chances = self._chances(task, len(targets) + 1, position)
        rows = chances[1:].argsort()[: max(math.floor(len(targets) * share + float(chances[0])), 1)]
        return inputs[rows], targets[rows]

    def _shared_out(self, batch: Batch, shares: Mapping[str, float], position: int) -> Batch:
        """A batch of shared rows in which each task keeps each of its rows with the probability of its share."""
        rows: dict[str, torch.Tensor | slice] = {}
        targets: dict[str, torch.Tensor] = {}
        for task, own in batch.rows.items():
            values = batch.targets[task]
            if shares[task] < 1:
                used = self._chances(task, len(values), position) < shares[task]
                if not used.any():
                    continue
                own = torch.arange(own.start, own.stop)[used] if isinstance(own, slice) else own[used]
                values = values[used]
            rows[task], targets[task] = own, values
        return Batch(batch.inputs, rows, targets)


class _Shuffled:
    """An endless row of shuffled epochs, read from any place to any other."""

    def __init__(self, rows: Rows, seed: int, number: int) -> None:
        self.rows, self.seed, self.number = rows, seed, number
        self._orders: dict[int, torch.Tensor] = {}

    def batches(self, rate: float) -> int:
        return math.ceil(len(self.rows) / rate - 1e-9)  # a rate that is a share of a batch is rounded

    def part(self, start: int, stop: int) -> tuple[torch.Tensor, Any]:
        size = len(self.rows)
        pieces = [
            self._order(epoch)[max(start - epoch * size, 0) : stop - epoch * size]
            for epoch in range(start // size, (stop - 1) // size + 1)
        ]
        return self.rows.fetch(torch.cat(pieces) if len(pieces) > 1 else pieces[0])

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            if len(self._orders) > 8:  # a few epochs can meet in one batch; older ones are not needed again
                self._orders.clear()
            generator = torch.Generator().manual_seed(derived_seed(self.seed, 1, self.number, epoch))
            self._orders[epoch] = torch.randperm(len(self.rows), generator=generator)
        return self._orders[epoch]


class _Cycled:
    """A DataLoader read over and over."""

    def __init__(self, loader: DataLoader, name: str) -> None:
        self.loader, self.name = loader, name
        self._iterator: Iterator[Any] = iter(())  # the loader's own starts with the first batch

    def batches(self, rate: float) -> int:
        try:
            return max(len(self.loader), 1)
        except TypeError as error:
            raise ProblemError(f"{self.name}: nobody knows the epochs of a DataLoader without a length") from error

    def part(self) -> tuple[torch.Tensor, Any]:
        for _ in range(2):
            for item in self._iterator:
                return paired(item, f"{self.name}: a DataLoader")
            self._iterator = iter(self.loader)
        raise ProblemError(f"{self.name}: a DataLoader gave no batch")
