"""What every kernel is: one compiled function of a fixed signature, so that compiled loops can call any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import boolean, float64, njit, types
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.weighting.compiled import forget_stale

Mask = NDArray[np.bool_]
Kernel = Callable[[Floats, Floats, Mask, Floats, Floats, Floats], Floats]

_VECTOR, _MATRIX = types.Array(float64, 1, "C"), types.Array(float64, 2, "C")
_MASK = types.Array(boolean, 1, "C")

SIGNATURE = _VECTOR(_VECTOR, _MATRIX, _MASK, _VECTOR, _MATRIX, _VECTOR)
"""(losses (T,), gramian (T, T), present (T,), constants (C,), state (R, T), draws (D,)) -> weights (T,)"""

OBSERVED = types.void(_VECTOR, _MASK, _VECTOR, _MATRIX)
"""(losses (T,) after the update, waiting (T,), constants (C,), state (R, T)) -> None; changes the state."""

_STACK, _MASKS = types.Array(float64, 3, "C"), types.Array(boolean, 2, "C")
_SWEEP = _MATRIX(types.FunctionType(SIGNATURE), _MATRIX, _STACK, _MASKS, _VECTOR, _MATRIX, _MATRIX)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a kernel when it is defined, and keeps it in numba's cache on disk."""
    return njit(SIGNATURE, cache=True)(function)


@njit(cache=True)
def among(gramian: Floats, tasks: NDArray[np.intp]) -> Floats:
    """The rows and columns of `gramian` (T, T) that belong to `tasks` (n,): (n, n)."""
    part = np.empty((len(tasks), len(tasks)))
    for i in range(len(tasks)):
        for j in range(len(tasks)):
            part[i, j] = gramian[tasks[i], tasks[j]]
    return part


forget_stale(among)  # before the first function is compiled, which is the next one


@njit(_SWEEP, cache=True)
def sweep(
    function: Any, losses: Floats, gramians: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats
) -> Floats:
    """The weights (S, T) of S steps in order; changes `state` as the steps would.

    losses (S, T), gramians (S, T, T), present (S, T), draws (S, D).
    """
    weights = np.empty_like(losses)
    for s in range(len(losses)):
        weights[s] = function(losses[s], gramians[s], present[s], constants, state, draws[s])
    return weights
