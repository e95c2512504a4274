"""What a least-squares fit needs to know of a task's samples: their second moments, which add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlviz.errors import TransferError
from mtlviz.runlog.records import Floats

Samples = tuple[Floats, Floats]
"""x (m, d) and y (m,) of one task."""


@dataclass(frozen=True, eq=False)
class Moments:
    """XᵀX (d, d), Xᵀy (d,), ‖y‖² and the number m of samples; all that a linear fit by squared error depends on."""

    second: Floats
    cross: Floats
    power: float
    samples: int

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples together."""
        power, samples = self.power + other.power, self.samples + other.samples
        return Moments(self.second + other.second, self.cross + other.cross, power, samples)

    def weighted(self, weight: float) -> Moments:
        """Of a task whose squared error counts `weight` times."""
        return Moments(weight * self.second, weight * self.cross, weight * self.power, self.samples)


def moments(x: Floats, y: Floats) -> Moments:
    """The moments of x (m, d) and y (m,)."""
    return Moments(x.T @ x, x.T @ y, float(y @ y), len(y))


def sampled(task: str, x: Any, y: Any) -> Samples:
    """A task's samples as float64 arrays (m, d) and (m,).

    Raises: TransferError, naming the task, for no samples, shapes that do not fit, or a number that is not finite.
    """
    try:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise TransferError(f"task {task!r} needs x (m, d) and y (m,) as numbers ({error})") from error
    if x.ndim != 2 or y.shape != x.shape[:1] or 0 in x.shape:
        raise TransferError(
            f"task {task!r} needs x (m, d) and y (m,) with one sample or more; got {x.shape}, {y.shape}"
        )
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            wrong = int((~np.isfinite(values)).sum())
            raise TransferError(
                f"task {task!r}: {name} has {wrong} values that are not finite; leave those samples out"
            )
    return x, y


def all_sampled(tasks: Any) -> dict[str, Samples]:
    """{task: (x (m, d), y (m,))}, checked.

    Raises: TransferError for no mapping, no task, samples that do not fit, or tasks of different dimension.
    """
    if not isinstance(tasks, Mapping) or not tasks or not all(_is_pair(pair) for pair in tasks.values()):
        raise TransferError(
            f"tasks must be {{task: (x (m, d), y (m,))}} with one task or more; got {type(tasks).__name__}"
        )
    checked = {str(name): sampled(str(name), *pair) for name, pair in tasks.items()}
    sizes = {name: x.shape[1] for name, (x, _) in checked.items()}
    if len(set(sizes.values())) > 1:
        raise TransferError(f"tasks must have inputs of one dimension to share a module; got {sizes}")
    return checked


def checked_weights(tasks: Mapping[str, Any], weights: Any) -> dict[str, float]:
    """A weight for each task, 1 where none are given.

    Raises: TransferError for a task that is not there or has no weight, or a weight that is no finite number above 0.
    """
    if weights is None:
        return dict.fromkeys(tasks, 1.0)
    if not isinstance(weights, Mapping) or set(weights) != set(tasks):
        raise TransferError(f"weights must be a number for each of the tasks {list(tasks)}; got {weights!r}")
    numbers = {name: float(weights[name]) for name in tasks}
    if not all(np.isfinite(number) and number > 0 for number in numbers.values()):
        raise TransferError(f"weights must be finite numbers above 0; got {numbers}")
    return numbers


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2
