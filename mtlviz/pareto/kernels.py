"""What every two-objective problem is: one compiled function of a fixed signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float64, njit, types

from mtlviz.runlog.records import Floats

_VECTOR, _MATRIX, _STACK = (types.Array(float64, axes, "C") for axes in (1, 2, 3))

PLANE = types.void(_VECTOR, _VECTOR, _VECTOR, _MATRIX)
"""(x (2,), constants (C,), losses (2,), gradients (2, 2)) -> None; writes the last two, a row of gradients a loss."""

_EVALUATE = types.void(types.FunctionType(PLANE), _VECTOR, _MATRIX, _MATRIX, _STACK)


def plane_kernel(function: Callable[..., Any]) -> Any:
    """Compiles the losses and gradients of a problem when it is defined, and keeps them in numba's cache on disk."""
    return njit(PLANE, cache=True)(function)


@njit(_EVALUATE, cache=True, nogil=True)
def _evaluate(problem: Any, constants: Floats, x: Floats, losses: Floats, gradients: Floats) -> None:
    for i in range(len(x)):
        problem(x[i], constants, losses[i], gradients[i])


def evaluated(problem: Any, constants: Floats, x: Floats) -> tuple[Floats, Floats]:
    """The losses (..., 2) and gradients (..., 2, 2) at the points x (..., 2)."""
    points = np.ascontiguousarray(x, dtype=np.float64)
    losses = np.empty((points.size // 2, 2))
    gradients = np.empty((points.size // 2, 2, 2))
    _evaluate(problem, constants, points.reshape(-1, 2), losses, gradients)
    return losses.reshape(points.shape), gradients.reshape(*points.shape, 2)
