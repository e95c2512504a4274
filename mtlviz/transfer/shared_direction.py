"""Exact fits of tasks in the plane that share one direction: a scan over its angle, convex in all else; compiled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import boolean, float64, int64, njit, types
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats

ANGLES = 48  # of the scan: half a turn in steps of 3.75 degrees
_ROUGH, _FINE = 1e-9, 1e-14  # Newton decrements at which a fit ends, in the scan and at the end
_STEPS, _ROOTS = 60, 60  # the most iterations of a Newton fit and of a search between two angles
_TURN = 1e-12  # radians below which an angle is found

_VECTOR, _MATRIX, _STACK = (types.Array(float64, axes, "C") for axes in (1, 2, 3))
_PLACES, _FLAGS = types.Array(int64, 1, "C"), types.Array(boolean, 2, "C")
_TRIPLE, _PAIR = types.UniTuple(float64, 3), types.UniTuple(float64, 2)


@dataclass(frozen=True)
class Fits:
    """The logits slope_t ⟨b, x⟩ + intercept_t of every sample s and group g, with b = (cos angle, sin angle).

    Attributes:
        angle: (S, G), in radians, from 0 to π.
        slope, intercept: (S, G, T); NaN where a task is not of the group. A task of which a sample has one class only
            is fitted by that class everywhere: its slope is 0 and its intercept infinite, and it pulls nowhere.
        loss: (S, G), the least value: over the group's tasks Σ_i log(1 + exp(−y_i logit_i)) + ridge/2 · slope².
    """

    angle: Floats
    slope: Floats
    intercept: Floats
    loss: Floats


def shared_direction(x: Floats, y: Floats, counts: Sequence[int], groups: NDArray[np.bool_], *, ridge: float) -> Fits:
    """The exact optimum of every sample and group of tasks; the samples are spread over the cores.

    x: (S, N, 2), the tasks' points one after the other, `counts` (T,) of each. y: (S, N), −1 or 1.
    groups: (G, T), which tasks train together; a group of one task is single-task learning.
    ridge: above 0; what the length of a task's own normal vector costs, so that data that can be separated have one
        best fit.
    """
    ends = np.cumsum([0, *counts])
    samples, tasks = len(x), len(counts)
    fits = Fits(
        np.zeros((samples, len(groups))),
        np.full((samples, len(groups), tasks), np.nan),
        np.full((samples, len(groups), tasks), np.nan),
        np.zeros((samples, len(groups))),
    )
    groups = np.ascontiguousarray(groups)

    def fit(first: int) -> None:
        for sample in range(first, samples, workers):
            row = (part[sample] for part in (fits.angle, fits.slope, fits.intercept, fits.loss))
            _fit(x[sample], y[sample], ends, groups, ridge, *row)

    workers = min(os.cpu_count() or 1, samples)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fit, range(workers)))
    return fits


@njit(_TRIPLE(_VECTOR, _VECTOR, int64, int64, float64, float64, float64, float64), cache=True, error_model="numpy")
def _line(
    s: Floats, y: Floats, first: int, end: int, ridge: float, slope: float, intercept: float, tolerance: float
) -> tuple[float, float, float]:
    """Minimises Σ log(1 + exp(−y (slope s + intercept))) + ridge/2 slope² over rows first to end by Newton's method.

    Begins at the given slope and intercept, which come back with the value in front.
    """
    value = before = np.inf
    old_slope, old_intercept, step_slope, step_intercept, part = slope, intercept, 0.0, 0.0, 1.0
    for _ in range(_STEPS):
        value, along, across = 0.5 * ridge * slope * slope, ridge * slope, 0.0
        h11, h12, h22 = ridge, 0.0, 1e-14  # the last as far from both classes no row has curvature left
        for i in range(first, end):
            margin = y[i] * (slope * s[i] + intercept)
            small = np.exp(-abs(margin))
            larger = 1.0 / (1.0 + small)
            value += np.log1p(small) + max(-margin, 0.0)
            pull = -y[i] * (small * larger if margin > 0.0 else larger)
            curvature = small * larger * larger
            along += pull * s[i]
            across += pull
            h11 += curvature * s[i] * s[i]
            h12 += curvature * s[i]
            h22 += curvature
        if value > before + 1e-13 * abs(before) and part > 1e-9:
            part *= 0.5
            slope, intercept = old_slope + part * step_slope, old_intercept + part * step_intercept
            continue
        determinant = h11 * h22 - h12 * h12
        step_slope = -(h22 * along - h12 * across) / determinant
        step_intercept = -(h11 * across - h12 * along) / determinant
        if -(step_slope * along + step_intercept * across) < tolerance:
            break
        old_slope, old_intercept, before, part = slope, intercept, value, 1.0
        slope += step_slope
        intercept += step_intercept
    return value, slope, intercept


@njit(
    _PAIR(_MATRIX, _VECTOR, int64, int64, float64, float64, _VECTOR, float64, _VECTOR), cache=True, error_model="numpy"
)
def _at(
    x: Floats, y: Floats, first: int, end: int, angle: float, ridge: float, own: Floats, tolerance: float, s: Floats
) -> tuple[float, float]:
    """A task's least loss where the direction has this angle, and its derivative in the angle.

    own: (2,), the slope and intercept to begin with; becomes those of the minimum. s: (N,), room for ⟨b, x⟩.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    for i in range(first, end):
        s[i] = cos * x[i, 0] + sin * x[i, 1]
    value, own[0], own[1] = _line(s, y, first, end, ridge, own[0], own[1], tolerance)
    turn = 0.0
    for i in range(first, end):
        margin = y[i] * (own[0] * s[i] + own[1])
        small = np.exp(-abs(margin))
        pull = small / (1.0 + small) if margin > 0.0 else 1.0 / (1.0 + small)
        turn -= y[i] * pull * own[0] * (cos * x[i, 1] - sin * x[i, 0])
    return value, turn


@njit(
    types.void(
        _MATRIX, _VECTOR, _PLACES, types.Array(boolean, 1, "C"), types.Array(boolean, 1, "C"), float64,
        float64, float64, float64, float64, _MATRIX, _VECTOR, _VECTOR,
    ),
    cache=True,
    error_model="numpy",
)  # fmt: skip
def _between(
    x: Floats, y: Floats, ends: Any, group: Any, mixed: Any, ridge: float,
    low: float, high: float, turn_low: float, turn_high: float, own: Floats, s: Floats, found: Floats,
) -> None:  # fmt: skip
    """Finds the angle between low and high at which the group's loss no longer falls, by the Illinois method.

    own: (T, 2), slopes and intercepts to begin with. found: (2,), becomes the angle and the group's loss there.
    """
    kept = 0
    for _ in range(_ROOTS):
        angle = (low * turn_high - high * turn_low) / (turn_high - turn_low)
        value, turn = 0.0, 0.0
        for t in range(len(group)):
            if group[t] and mixed[t]:
                more, further = _at(x, y, ends[t], ends[t + 1], angle, ridge, own[t], _FINE, s)
                value += more
                turn += further
        found[0], found[1] = angle, value
        if turn <= 0.0:
            low, turn_low = angle, turn
            turn_high *= 0.5 if kept < 0 else 1.0
            kept = -1
        else:
            high, turn_high = angle, turn
            turn_low *= 0.5 if kept > 0 else 1.0
            kept = 1
        if abs(turn) < 1e-10 or high - low < _TURN:
            break


@njit(
    types.void(_MATRIX, _VECTOR, _PLACES, _FLAGS, float64, _VECTOR, _MATRIX, _MATRIX, _VECTOR),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _fit(
    x: Floats, y: Floats, ends: Any, groups: Any, ridge: float,
    angles: Floats, slopes: Floats, intercepts: Floats, losses: Floats,
) -> None:  # fmt: skip
    """Fits every group to one sample, x (N, 2), y (N,); writes as `Fits` has it: (G,), (G, T), (G, T), (G,).

    A group's loss at an angle is the sum over its tasks, so that one scan of each task serves all groups. Wherever the
    sum turns from falling to rising between two angles of the scan lies a minimum; the lowest of them is the optimum.
    """
    T, step = len(ends) - 1, np.pi / ANGLES
    s, middle, points = np.empty(len(x)), np.zeros((T, 2)), np.empty_like(x)
    mixed = np.zeros(T, np.bool_)
    value, turn, own = np.zeros((T, ANGLES)), np.zeros((T, ANGLES)), np.zeros((T, ANGLES, 2))
    here = np.zeros(2)
    for t in range(T):
        for i in range(ends[t], ends[t + 1]):
            middle[t] += x[i] / (ends[t + 1] - ends[t])
            mixed[t] = mixed[t] or y[i] != y[ends[t]]
        for i in range(ends[t], ends[t + 1]):  # around the middle slope and intercept do not depend on each other much
            points[i] = x[i] - middle[t]
        here[:] = 0.0
        for k in range(ANGLES if mixed[t] else 0):
            value[t, k], turn[t, k] = _at(points, y, ends[t], ends[t + 1], k * step, ridge, here, _ROUGH, s)
            own[t, k] = here
    now, found = np.zeros((T, 2)), np.zeros(2)
    for g in range(len(groups)):
        losses[g] = np.inf
        for k in range(ANGLES):
            after, falls, rises = (k + 1) % ANGLES, 0.0, 0.0
            for t in range(T):
                if groups[g, t]:
                    falls += turn[t, k]
                    rises += turn[t, after]
            if falls > 0.0 or rises <= 0.0:
                continue
            now[:] = own[:, k]
            _between(points, y, ends, groups[g], mixed, ridge, k * step, (k + 1) * step, falls, rises, now, s, found)
            if found[1] < losses[g]:
                angles[g], losses[g] = found[0] % np.pi, found[1]
                flip = -1.0 if found[0] >= np.pi else 1.0
                for t in range(T):
                    slopes[g, t], intercepts[g, t] = flip * now[t, 0], now[t, 1]
        if losses[g] == np.inf:  # no task of the group has both classes: the direction is nobody's
            angles[g], losses[g] = 0.0, 0.0
        cos, sin = np.cos(angles[g]), np.sin(angles[g])
        for t in range(T):
            if not groups[g, t]:
                slopes[g, t] = intercepts[g, t] = np.nan
            elif mixed[t]:
                intercepts[g, t] -= slopes[g, t] * (cos * middle[t, 0] + sin * middle[t, 1])
            else:
                slopes[g, t], intercepts[g, t] = 0.0, y[ends[t]] * np.inf
