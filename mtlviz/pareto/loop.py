"""The compiled descent of one trajectory: any problem, any weighting's kernel, SGD or Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, njit, types

from mtlviz.pareto.kernels import PLANE
from mtlviz.runlog.records import Floats, Integers
from mtlviz.weighting.kernels import OBSERVED, SIGNATURE, Mask

OPTIMIZERS = ("adam", "sgd")
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # torch's defaults

FINE, NOT_POSITIVE, NO_WEIGHTS, LEFT = range(4)
"""How a trajectory ends: all steps done; a loss that is not positive where the method needs it; weights that are not
finite; a point, a loss or a gradient out of bounds or not finite."""

_VECTOR, _MATRIX, _STACK = (types.Array(float64, axes, "C") for axes in (1, 2, 3))
_PLACES = types.Array(int64, 1, "C")
_PROBLEM, _KERNEL, _OBSERVER = (types.FunctionType(signature) for signature in (PLANE, SIGNATURE, OBSERVED))
_OUTCOME = types.UniTuple(int64, 3)


class Handed(types.WrapperAddressProtocol):
    """A compiled function with its address, as numba's wrapper address protocol has it.

    Handed itself to a compiled loop, a function has its address looked up at every call.
    """

    def __init__(self, function: Any, signature: Any) -> None:
        result = function.get_compile_result(signature)
        self._function, self._signature = function, signature  # the function lives as long as its address is used
        self._address = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Any:
        """The signature that the address is of."""
        return self._signature


@njit(OBSERVED, cache=True)
def unobserved(losses: Floats, waiting: Mask, constants: Floats, state: Floats) -> None:
    """The observer of a method that does not observe."""


@njit(cache=True)
def _seen(
    problem: Any, constants: Floats, x: Floats, scale: Floats, offset: float,
    losses: Floats, gradients: Floats, gramian: Floats,
) -> bool:  # fmt: skip
    """Writes what a method sees at x (2,): losses (2,), gradients (2, 2), Gramian (2, 2); whether all are finite."""
    problem(x, constants, losses, gradients)
    for t in range(2):
        losses[t] = scale[t] * losses[t] + offset
        gradients[t, 0] *= scale[t]  # number by number: numba makes arrays of slices
        gradients[t, 1] *= scale[t]
    gramian[0, 0] = gradients[0, 0] * gradients[0, 0] + gradients[0, 1] * gradients[0, 1]
    gramian[1, 1] = gradients[1, 0] * gradients[1, 0] + gradients[1, 1] * gradients[1, 1]
    gramian[0, 1] = gradients[0, 0] * gradients[1, 0] + gradients[0, 1] * gradients[1, 1]
    gramian[1, 0] = gramian[0, 1]
    return np.isfinite(gramian[0, 0] + gramian[1, 1] + gramian[0, 1] + losses[0] + losses[1])


@njit(cache=True)
def _flushed(value: float) -> float:
    """The value, or 0 where it is so small that processors reckon with it many times slower, and Adam cannot see it."""
    return value if abs(value) > 1e-250 else 0.0


@njit(cache=True)
def _move(
    x: Floats, weights: Floats, gradients: Floats, lr: float, adam: bool,
    first: Floats, second: Floats, decay1: float, decay2: float,
) -> None:  # fmt: skip
    """One step of x (2,), and of Adam's moments (2,); decay: β to the power of the steps so far, this one included."""
    for i in range(2):
        slope = weights[0] * gradients[0, i] + weights[1] * gradients[1, i]
        if adam:
            first[i] = _flushed(first[i] + (1.0 - _BETA1) * (slope - first[i]))
            second[i] = _flushed(second[i] + (1.0 - _BETA2) * (slope * slope - second[i]))
            slope = first[i] / (1.0 - decay1) / (np.sqrt(second[i] / (1.0 - decay2)) + _EPSILON)
        x[i] -= lr * slope


@njit(cache=True)
def _ended(code: int, last: int, conflicts: int, sound: Floats, late: Floats) -> tuple[int, int, int]:
    """What a trajectory returns that ends early; its last point goes to `late`."""
    late[:] = sound
    return code, last, conflicts


@njit(
    _OUTCOME(
        _PROBLEM, _VECTOR, _VECTOR, float64, _KERNEL, _OBSERVER, _VECTOR, _MATRIX, _MATRIX, types.boolean,
        _VECTOR, float64, types.boolean, float64, _PLACES, _MATRIX, _MATRIX, _VECTOR,
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)  # fmt: skip
def trajectory(
    problem: Any, problem_constants: Floats, scale: Floats, offset: float,
    kernel: Any, observer: Any, constants: Floats, state: Floats, draws: Floats, positive: bool,
    start: Floats, lr: float, adam: bool, limit: float,
    kept: Integers, kept_x: Floats, kept_weights: Floats, late: Floats,
) -> tuple[int, int, int]:  # fmt: skip
    """Descends from `start` (2,); returns how it ended, the last step that has weights, and the steps with a conflict.

    At the steps `kept` (K,), from 0 up, the point and its weights go to kept_x (K, 2) and kept_weights (K, 2), which
    come full of NaN; the point after nine tenths of the steps goes to `late` (2,), or, where a trajectory ends early,
    its last point with weights. draws (S + 1, D) for S steps: the last point has weights too. limit: of |x_i|.
    """
    steps = kept[-1]
    nearly = steps - max(steps // 10, 1)
    x, first, second = start.copy(), np.zeros(2), np.zeros(2)  # Adam's moments
    losses, gradients, gramian = np.empty(2), np.empty((2, 2)), np.empty((2, 2))
    present = np.ones(2, np.bool_)
    sound = np.full(2, np.nan)
    conflicts, place = 0, 0
    decay1 = decay2 = 1.0
    for step in range(steps + 1):
        if not _seen(problem, problem_constants, x, scale, offset, losses, gradients, gramian):
            return _ended(LEFT, step - 1, conflicts, sound, late)
        if step > 0:
            observer(losses, present, constants, state)
        if positive and min(losses[0], losses[1]) <= 0.0:
            return _ended(NOT_POSITIVE, step - 1, conflicts, sound, late)
        weights = kernel(losses, gramian, present, constants, state, draws[step])
        if not np.isfinite(weights[0] + weights[1]):
            return _ended(NO_WEIGHTS, step - 1, conflicts, sound, late)
        sound[0], sound[1] = x[0], x[1]
        conflicts += gramian[0, 1] < 0.0
        if step == kept[place]:
            kept_x[place], kept_weights[place] = x, weights
            place += 1
        if step == nearly:
            late[:] = x
        decay1 = _flushed(decay1 * _BETA1)
        decay2 = _flushed(decay2 * _BETA2)
        _move(x, weights, gradients, lr, adam, first, second, decay1, decay2)
        if step < steps and not (abs(x[0]) <= limit and abs(x[1]) <= limit):
            return _ended(LEFT, step, conflicts, sound, late)
    return FINE, steps, conflicts


@njit(
    _VECTOR(
        _PROBLEM, _VECTOR, _VECTOR, float64, _KERNEL, _OBSERVER, _VECTOR, _MATRIX, _MATRIX, types.boolean, _MATRIX
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)  # fmt: skip
def led_along(
    problem: Any, problem_constants: Floats, scale: Floats, offset: float,
    kernel: Any, observer: Any, constants: Floats, state: Floats, draws: Floats, positive: bool, path: Floats,
) -> Floats:  # fmt: skip
    """The weights (2,) at the last point of a path (K, 2), of a method that was led along it; NaN where it has none."""
    losses, gradients, gramian = np.empty(2), np.empty((2, 2)), np.empty((2, 2))
    present = np.ones(2, np.bool_)
    weights = np.full(2, np.nan)
    for step in range(len(path)):
        finite = _seen(problem, problem_constants, path[step], scale, offset, losses, gradients, gramian)
        if not finite or (positive and min(losses[0], losses[1]) <= 0.0):
            return np.full(2, np.nan)
        if step > 0:
            observer(losses, present, constants, state)
        weights = kernel(losses, gramian, present, constants, state, draws[step])
    return weights
