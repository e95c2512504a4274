"""Fixed weights: a number for each task, by its name, that stays the same all through a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.per_task import check_count, per_task


@kernel
def fixed(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """w_t = constants[t]."""
    return np.where(present, constants, 0.0)


class Fixed(Weighting):
    """w_t as given, for every task that is present: static weights, such as `transfer.svd_task_weights` gives.

    The heads get the gradient of Σ w_t L_t.

    weights: {task: number from 0}, or numbers in the order of the tasks (a pandas Series counts as a mapping of its
    index). By name they find their tasks in any order; names that a problem does not have are left aside, so that the
    same weights serve a part of a problem too. One above 0 at least.

    Raises: WeightingError for weights that are not finite numbers from 0, all 0, or none; and before the first step,
    for a task without a weight, and for weights by name where nobody has said what the tasks are called.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, whose loss is Σ α_i L_i: linear scalarisation.
    """

    name = "fixed"
    needs = frozenset({"losses"})
    heads = "weighted"
    kernel = staticmethod(fixed)

    def __init__(self, weights: Mapping[str, float] | Sequence[float]) -> None:
        super().__init__()
        given: Any = weights
        weights = dict(given) if hasattr(given, "keys") else given  # a Series has keys, too
        values = _numbers(list(weights.values()) if isinstance(weights, Mapping) else weights)
        self.weights = dict(zip(map(str, weights), values, strict=True)) if isinstance(weights, Mapping) else values
        self._names: tuple[str, ...] | None = None

    def introduce(self, names: Sequence[str]) -> None:
        """Takes the order of the tasks. Raises: WeightingError for a task without a weight."""
        names = tuple(names)
        if isinstance(self.weights, dict) and (without := [name for name in names if name not in self.weights]):
            raise WeightingError(
                f"fixed: no weight for {', '.join(map(repr, without))}; the weights are of {', '.join(self.weights)} "
                f"and the tasks are {', '.join(names)}. Give a weight for each task, 0 for one that shall not count"
            )
        self._names = names

    def constants(self) -> Floats:
        """The weights (T,)."""
        if isinstance(self.weights, list):
            return np.array(self.weights)
        if self._names is None:
            raise WeightingError(
                "fixed: weights by task name need the tasks' names: call introduce(names) before the first step, or "
                "give the weights as a list in the order of the tasks"
            )
        return np.array([self.weights[name] for name in self._names])

    def settings(self) -> dict[str, Any]:
        """weights, as they were given."""
        return {"weights": dict(self.weights) if isinstance(self.weights, dict) else list(self.weights)}

    def _checked(
        self, losses: Floats, gramian: Floats, present: Mask | None, *, steps: int
    ) -> tuple[Floats, Floats, Mask]:
        losses, gramian, present = super()._checked(losses, gramian, present, steps=steps)
        check_count("fixed: weights", self.constants().tolist(), losses.shape[-1])
        return losses, gramian, present


def _numbers(weights: Any) -> list[float]:
    """The weights as floats."""
    try:
        values = per_task("fixed: weights", list(weights)) or []
    except (TypeError, ValueError) as error:
        raise WeightingError(
            f"fixed: weights must be {{task: number}} or numbers in the order of the tasks; got {weights!r}"
        ) from error
    if min(values) < 0 or not any(values):
        raise WeightingError(f"fixed: weights must be numbers from 0, and one above it; got {values}")
    return values
