"""The step that compiled loops take most: two tasks, both present."""

from __future__ import annotations

from numba import njit

from mtlviz.weighting.kernels import Mask


@njit(cache=True)
def both(present: Mask) -> bool:
    """Whether there are two tasks and both are present."""
    return len(present) == 2 and present[0] and present[1]
