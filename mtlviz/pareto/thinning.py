"""Which points of a trajectory a screen shows: the others lie on the line between those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import boolean, float64, int64, njit, types
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats, Integers

if TYPE_CHECKING:
    from mtlviz.pareto.result import Descent

BANDS = 5  # of time: the points at their borders are always kept
_NEAR = 1.0 / 3.0  # of the tolerance: who has moved less since the last point is not looked at again
_CLOSE, _FAR = _NEAR**2, (1.0 - _NEAR) ** 2  # squared: of the moves, and of the distances from the line

_POINTS = types.Array(float64, 3, "C")
_ROWS = types.Array(float64, 2, "C")
_FLAGS, _ROWS_OF_FLAGS = types.Array(boolean, 1, "C"), types.Array(boolean, 2, "C")
_PLACES = types.Array(int64, 1, "C")


def thinned(descent: Descent, *, tolerance: float = 0.003) -> NDArray[np.bool_]:
    """The points (M, N, K) of the trajectories that are worth drawing, of those that `descent` kept.

    The line through them passes every point left out within the tolerance, in the plane of parameters and in that of
    the own losses. The first and the last point of a trajectory and those at the borders of five equal stretches of
    time are among them; a point that is NaN is not.

    tolerance: as a share of the plane that is shown, for each of its axes; of the own losses, of the front's range,
    which is never more than what is shown.
    """
    methods, starts, count, _ = descent.x.shape
    shape = (methods * starts, count)
    units = np.array([*(high - low for low, high in descent.problem.bounds), *np.ptp(descent.problem.front, axis=0)])
    per_unit = 1.0 / (tolerance * np.where(units > 0, units, 1.0))
    kept = np.zeros(shape, dtype=np.bool_)
    always = np.unique(np.round(np.linspace(0, count - 1, BANDS + 1)).astype(np.int64))
    x, losses = (np.ascontiguousarray(plane).reshape(*shape, 2) for plane in (descent.x, descent.losses))
    _thin(x, losses, per_unit, always, kept)
    return kept.reshape(methods, starts, count)


@njit(float64(float64, float64, float64, float64), cache=True)
def _away(u: float, v: float, along_u: float, along_v: float) -> float:
    """The squared distance of (u, v) from the segment from the origin to (along_u, along_v)."""
    length = along_u * along_u + along_v * along_v
    share = 0.0 if length == 0.0 else min(max((u * along_u + v * along_v) / length, 0.0), 1.0)
    off_u, off_v = u - share * along_u, v - share * along_v
    return off_u * off_u + off_v * off_v


@njit(types.void(_ROWS, int64, int64, _PLACES, _FLAGS), cache=True)
def _between(points: Floats, low: int, high: int, waiting: Integers, kept: NDArray[np.bool_]) -> None:
    """Sets the flags (K,) of the points (K, 4), between low and high, that lie too far from the line between two kept.

    Of those between two that are kept, the one furthest from their line is next (Ramer, Douglas and Peucker); a point's
    distance is the greater of that in either plane.
    """
    waiting[0], waiting[1], top = low, high, 2
    while top > 0:
        first, last, top = waiting[top - 2], waiting[top - 1], top - 2
        a1, a2, a3, a4 = points[first]
        b1, b2, b3, b4 = points[last, 0] - a1, points[last, 1] - a2, points[last, 2] - a3, points[last, 3] - a4
        furthest, place = _FAR, -1
        for k in range(first + 1, last):
            far = max(
                _away(points[k, 0] - a1, points[k, 1] - a2, b1, b2), _away(points[k, 2] - a3, points[k, 3] - a4, b3, b4)
            )
            if far > furthest:
                furthest, place = far, k
        if place >= 0:
            kept[place] = True
            waiting[top], waiting[top + 1], waiting[top + 2], waiting[top + 3] = first, place, place, last
            top += 4


@njit(types.void(_POINTS, _POINTS, types.Array(float64, 1, "C"), _PLACES, _ROWS_OF_FLAGS), cache=True, nogil=True)
def _thin(x: Floats, losses: Floats, per_unit: Floats, always: Integers, kept: NDArray[np.bool_]) -> None:
    """Sets the flags (J, K) of the points to keep; x and losses (J, K, 2), per_unit (4,): tolerances in one unit."""
    count = x.shape[1]
    some, waiting = np.empty(count, np.int64), np.empty(2 * count + 4, np.int64)
    points, chosen = np.empty((count, 4)), np.empty(count, np.bool_)
    for j in range(len(x)):
        end = count
        while end > 0 and not np.isfinite(x[j, end - 1, 0] + x[j, end - 1, 1]):
            end -= 1
        size, border, begin = 0, 0, 0
        for k in range(end):
            here = points[size]
            here[0], here[1] = x[j, k, 0] * per_unit[0], x[j, k, 1] * per_unit[1]
            here[2], here[3] = losses[j, k, 0] * per_unit[2], losses[j, k, 1] * per_unit[3]
            fixed = k == always[border] or k == end - 1
            if not fixed:
                before = points[size - 1]
                moved = max(
                    (here[0] - before[0]) ** 2 + (here[1] - before[1]) ** 2,
                    (here[2] - before[2]) ** 2 + (here[3] - before[3]) ** 2,
                )
                if moved <= _CLOSE:
                    continue
            some[size], chosen[size] = k, fixed
            size += 1
            if fixed:
                border += k == always[border]
                _between(points, begin, size - 1, waiting, chosen)
                begin = size - 1
        for i in range(size):
            kept[j, some[i]] = chosen[i]
