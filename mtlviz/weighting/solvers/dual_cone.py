"""Projections onto the dual cone of the task gradients, from their cosines alone."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.weighting.solvers.linear import dot

_SLACK = 1e-14  # of Σ y: a product with a task below 0 by so much is rounding
_DEPENDENT = 1e-12  # of 1: a task whose squared distance from the span of the others is smaller depends on them


@njit(cache=True)
def dual_cone(cosines: Floats, least: Floats) -> Floats:
    """The y (n,) ≥ least that minimises yᵀ C y: with unit rows U behind C, Uᵀy is the projection of Uᵀ·least.

    cosines (n, n): positive semidefinite with a diagonal of 1, or of 0 where a row is zero; such an entry of y stays
    at its least. least (n,): 0 or more. The projection is onto the dual cone, {d: U d ≥ 0}, and it is unique; y is
    not where gradients depend on each other, and then one y is returned that rests on independent gradients.

    With y = least + x the optimum is x ≥ 0, s = C y ≥ 0, xᵀs = 0. Lawson and Hanson's active set moves one task after
    the other away from its least, and ends after finitely many exact steps. A task that depends on those which moved
    does not move, so s is 0 or more up to about 1e-6 √(yᵀCy) for gradients that nearly depend on each other, and up
    to rounding otherwise. The steps are capped at 10 n; every point on the way is feasible, with a shorter Uᵀy than
    the one before.

    Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, in Gram form.
    """
    n = len(least)
    x = np.zeros(n)
    if n == 0 or least.max() <= 0.0:
        return least.copy()
    q = np.empty(n)
    for i in range(n):
        q[i] = dot(cosines[i], least)
    slope = q.copy()  # s = C y = q + C x
    moved = np.empty(n, np.intp)  # the tasks away from their least, in the order of the factor's rows
    factor = np.zeros((n, n))  # C of the moved tasks is factor · factorᵀ
    shut = np.zeros(n, np.bool_)  # moved already, or dependent on those that moved
    count = 0
    for _ in range(10 * n):
        entering = _lowest(slope, shut, _SLACK * (least.sum() + x.sum()))
        if entering < 0:
            break
        shut[entering] = True
        if not _append(factor, moved, count, cosines, entering):
            continue
        before = count
        count = _descend(factor, moved, count + 1, cosines, q, x)
        if count <= before:  # what depended on a task that left may move again
            shut[:] = x > 0.0
            shut[entering] = True
        _slopes(cosines, q, x, moved, count, slope)
    return least + x


@njit(cache=True)
def turned(cosine: float, own: float, other: float) -> float:
    """One of the two y of `dual_cone` for two rows: max(own, −cosine · other), of its least and that of the other."""
    slope = own + cosine * other
    return own - slope if slope < -_SLACK * (own + other) else own


@njit(cache=True)
def _lowest(slope: Floats, shut: NDArray[np.bool_], slack: float) -> int:
    """The task with the least slope, below 0 by more than `slack` and not shut; -1 where there is none."""
    best = -1
    low = -slack
    for i in range(len(slope)):
        if slope[i] < low and not shut[i]:
            best, low = i, slope[i]
    return best


@njit(cache=True)
def _slopes(cosines: Floats, q: Floats, x: Floats, moved: NDArray[np.intp], count: int, slope: Floats) -> None:
    """slope = q + C x."""
    slope[:] = q
    for k in range(count):
        row, share = cosines[moved[k]], x[moved[k]]
        for i in range(len(q)):
            slope[i] += share * row[i]


@njit(cache=True)
def _append(factor: Floats, moved: NDArray[np.intp], count: int, cosines: Floats, task: int) -> bool:
    """Adds a task as row `count` of the Cholesky factor; false where it depends on the tasks before."""
    pivot = cosines[task, task]
    for k in range(count):
        entry = cosines[task, moved[k]]
        for m in range(k):
            entry -= factor[count, m] * factor[k, m]
        entry /= factor[k, k]
        factor[count, k] = entry
        pivot -= entry * entry
    if pivot <= _DEPENDENT:
        return False
    factor[count, count] = np.sqrt(pivot)
    moved[count] = task
    return True


@njit(cache=True)
def _descend(factor: Floats, moved: NDArray[np.intp], count: int, cosines: Floats, q: Floats, x: Floats) -> int:
    """Moves x to the minimum over the moved tasks, leaving those behind that would turn negative; how many are left.

    At that minimum C x = −q for the moved tasks.
    """
    while count > 0:
        target = _solution(factor, moved, count, q)
        step, leaving = 1.0, -1
        for k in range(count):
            old = x[moved[k]]
            if target[k] <= 0.0 and (leaving < 0 or old < step * (old - target[k])):
                step, leaving = old / (old - target[k]) if old > target[k] else 0.0, k
        if leaving < 0:
            for k in range(count):
                x[moved[k]] = target[k]
            return count
        for k in range(count):
            x[moved[k]] = max((1.0 - step) * x[moved[k]] + step * target[k], 0.0)
        x[moved[leaving]] = 0.0
        rest = moved[leaving + 1 : count].copy()
        count = leaving
        for task in rest:
            if _append(factor, moved, count, cosines, task):
                count += 1
            else:
                x[task] = 0.0
    return count


@njit(cache=True)
def _solution(factor: Floats, moved: NDArray[np.intp], count: int, q: Floats) -> Floats:
    """The z (count,) with factor · factorᵀ z = −q, for the moved tasks."""
    z = np.empty(count)
    for i in range(count):
        total = -q[moved[i]]
        for k in range(i):
            total -= factor[i, k] * z[k]
        z[i] = total / factor[i, i]
    for i in range(count - 1, -1, -1):
        z[i] /= factor[i, i]
        for k in range(i):
            z[k] -= factor[i, k] * z[i]
    return z
