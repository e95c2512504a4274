"""How large a share of each batch a task gets where each task has data of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from torch.utils.data import DataLoader

from mtlviz.data.splits import Split
from mtlviz.errors import ProblemError, unknown


@dataclass(frozen=True)
class Proportional:
    """Batches of `batch_size` rows in all, of which task t gets the share p_t ∝ (w_t N_t)^power, and at least `floor`.

    N_t: rows of the task's training data. power: from 0 (all tasks alike) by 1 (as large as their data).
    weights: {task: w_t above 0}, 1 where a task is not named. Each row then counts w_t times: a whole number gives the
    shares of data in which the task's rows stand so often, without the memory for them.
    floor: a share of the batch, at most 1/T. Tasks below it are lifted to it, and the others shrink in proportion.

    Raises: ProblemError for a power that is not a finite number from 0, a floor outside [0, 1], or a weight that is no
    finite number above 0.
    Source: Clark et al., ACL 2019, arXiv 1907.04829, use power 0.75. Lu et al., NAACL 2022 industry track, lift small
    tasks by hand. Differs: they do not say by how much; `floor` is one rule for it.
    """

    power: float = 1.0
    floor: float = 0.0
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("power", self.power, math.inf), ("floor", self.floor, 1.0)):
            number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not 0 <= value <= most:
                raise ProblemError(f"Proportional: {name} must be a number from 0{_up_to(most)}, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.weights is not None:
            object.__setattr__(self, "weights", _times(self.weights, "Proportional: weights"))

    def shares(self, rows: Mapping[str, int]) -> dict[str, float]:
        """The share p_t of each task, from its number of rows N_t; they add up to 1.

        Raises: ProblemError where the floors of T tasks exceed the batch.
        """
        if self.floor * len(rows) > 1 + 1e-12:
            raise ProblemError(
                f"Proportional: floor={self.floor:g} for each of {len(rows)} tasks is more than a batch; "
                f"the most is {1 / len(rows):g}"
            )
        counted = {task: count * (self.weights or {}).get(task, 1.0) for task, count in rows.items()}
        largest = max(counted.values())
        mass = {task: (count / largest) ** self.power for task, count in counted.items()}
        lifted: set[str] = set()
        while True:
            left, whole = 1 - self.floor * len(lifted), sum(m for task, m in mass.items() if task not in lifted)
            shares = {task: self.floor if task in lifted else left * m / whole for task, m in mass.items()}
            below = {task for task, share in shares.items() if share < self.floor} - lifted
            if not below or len(lifted | below) == len(rows):  # the last is a floor of 1/T, but for rounding
                return shares if not below else dict.fromkeys(rows, 1 / len(rows))
            lifted |= below

    def of_split(self, split: Split) -> dict[str, float]:
        """The share p_t of each task of a split.

        Raises: ProblemError for data that tasks share, data in a DataLoader, floors that exceed the batch, and a weight
        for a task that the split does not know.
        """
        if strangers := [task for task in self.weights or {} if task not in split.tasks]:
            raise ProblemError(f"Proportional: weights: {unknown('task', strangers[0], split.tasks)}")
        if split.shared is not None:
            raise ProblemError(f"{split.name}: sampling needs data per task; here all tasks share the rows of a batch")
        rows: dict[str, int] = {}
        for task, source in split.by_task.items():
            if isinstance(source, DataLoader):
                raise ProblemError(
                    f"{split.name}: task {task!r} comes from a DataLoader, whose batches have a size of their own; "
                    "sampling needs tensors or a Dataset"
                )
            rows[task] = len(source)
        return self.shares(rows)

    def config(self) -> dict[str, Any]:
        """The settings as plain values."""
        told = {"kind": "proportional", "power": self.power, "floor": self.floor}
        return told | ({"weights": dict(self.weights)} if self.weights else {})

    def duplicated(self, times: Mapping[str, float]) -> Proportional:
        """The same with the rows of some tasks counted so many times more: {task: number above 0}."""
        before, more = self.weights or {}, _times(times, "duplicated")
        return replace(self, weights={**before, **{task: before.get(task, 1.0) * more[task] for task in more}})


def _times(weights: Mapping[str, float], needs: str) -> dict[str, float]:
    """The weights as floats. Raises: ProblemError for what is no {task: finite number above 0}."""
    if not isinstance(weights, Mapping):
        raise ProblemError(f"{needs} must be {{task: number above 0}}, got {weights!r}")
    for task, value in weights.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ProblemError(f"{needs}: task {task!r} needs a finite number above 0, got {value!r}")
    return {task: float(value) for task, value in weights.items()}


def fitting(sampling: Proportional | None, train: Split) -> Proportional | None:
    """The sampling of a problem. Raises: ProblemError for what is none, or does not fit the training data."""
    if sampling is not None and not isinstance(sampling, Proportional):
        raise ProblemError(f"sampling must be an mtlviz.data.Proportional or None, got {sampling!r}")
    if sampling is not None:
        sampling.of_split(train)
    return sampling


def _up_to(most: float) -> str:
    return "" if math.isinf(most) else f" to {most:g}"
