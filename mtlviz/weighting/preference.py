"""How much each task counts before a method changes it: an option that several methods share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask
from mtlviz.weighting.method import Weighting


@njit(cache=True)
def preferred(preference: Floats, present: Mask) -> Floats:
    """The preferences of the tasks that are present (n,), which sum to what all T of them do.

    preference: (T,), or empty for 1/n each. Raises: ValueError where it is given for another number of tasks.
    """
    count = 0
    for t in range(len(present)):
        count += present[t]
    if len(preference) == 0:
        return np.full(count, 1.0 / max(count, 1))
    if len(preference) != len(present):
        raise ValueError("preference needs a number for each task")
    chosen = preference[np.nonzero(present)[0]]
    total = chosen.sum()
    return chosen * (preference.sum() / total) if total > 0.0 else chosen


@njit(cache=True)
def preferred_of_two(preference: Floats) -> tuple[float, float]:
    """What `preferred` gives for two tasks that are both present."""
    if len(preference) == 0:
        return 0.5, 0.5
    if len(preference) != 2:
        raise ValueError("preference needs a number for each task")
    return preference[0], preference[1]


class PreferenceWeighting(Weighting, abstract=True):
    """A weighting with a preference (T,): 1/T for each task that is present, unless one is given.

    preference: a number of 0 or more for each task. In a step where some are absent, the others' are scaled up to the
    same sum.

    Raises: WeightingError for a preference that is not a list of finite numbers from 0 with one above 0, and, on a
    step, for one of another length than the number of tasks.
    """

    def __init__(self, *, preference: Sequence[float] | Floats | None = None) -> None:
        super().__init__()
        given = np.empty(0) if preference is None else np.array(preference, dtype=np.float64)
        if preference is not None and not (
            given.ndim == 1 and np.isfinite(given).all() and (given >= 0).all() and given.any()
        ):
            raise WeightingError(
                f"{self.name}: preference must be one finite number from 0 for each task, and one above 0; "
                f"got {preference!r}"
            )
        self.preference = None if preference is None else tuple(float(value) for value in given)

    def constants(self) -> Floats:
        """The preference (T,), or nothing."""
        return np.array(self.preference or (), dtype=np.float64)

    def settings(self) -> dict[str, Any]:
        """preference, a list."""
        return {"preference": None if self.preference is None else list(self.preference)}

    def _checked(
        self, losses: Floats, gramian: Floats, present: Mask | None, *, steps: int
    ) -> tuple[Floats, Floats, Mask]:
        checked = super()._checked(losses, gramian, present, steps=steps)
        tasks = checked[0].shape[-1]
        if self.preference is not None and len(self.preference) != tasks:
            raise WeightingError(
                f"{self.name}: preference has {len(self.preference)} numbers and there are {tasks} tasks; "
                "give one for each"
            )
        return checked
