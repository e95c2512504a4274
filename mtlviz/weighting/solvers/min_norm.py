"""The point of least norm in the convex hull of the task gradients, from their Gramian alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats
from mtlviz.weighting.solvers.linear import cholesky_solve

_DEPENDENT = 1e-14  # a pivot this small, relative to its row, is rounding: the point lies in the others' affine hull
_ROUNDING = 1e-14  # relative error granted to a product with the Gramian
_GAP = 1e-13  # relative duality gap at which a point counts as the nearest


@njit(cache=True)
def min_norm(gramian: Floats) -> Floats:
    """The w (T,) ≥ 0, Σw = 1, that minimises wᵀ G w; `gramian` (T, T) positive semidefinite.

    Two tasks have a closed form; more go through Wolfe's active-set algorithm in Gram form, which ends after finitely
    many exact steps. Where w is not unique (duplicates), any minimiser is returned; wᵀGw is the same for all of them.
    A zero row has norm 0 and takes all the weight.

    Source: P. Wolfe, Finding the nearest point in a polytope, Mathematical Programming 11 (1976).
    """
    count = len(gramian)
    largest = 0.0
    first = 0
    for i in range(count):
        largest = max(largest, gramian[i, i])
        if gramian[i, i] < gramian[first, first]:
            first = i
    w = np.zeros(count)
    w[first] = 1.0
    if count == 1 or gramian[first, first] <= 0.0:
        return w
    if count == 2:
        return _of_two(gramian)
    g = gramian / largest
    corral = np.zeros(count, np.bool_)
    corral[first] = True
    for _ in range(20 * count + 50):
        entering = _steepest(g, w)
        if entering < 0 or corral[entering]:
            break
        corral[entering] = True
        if not _to_affine_minimum(g, w, corral):
            break
    return w / w.sum()


@njit(cache=True)
def _of_two(g: Floats) -> Floats:
    """w₁ = clip((G₂₂ − G₁₂) / (G₁₁ + G₂₂ − 2 G₁₂), 0, 1); equal gradients share the weight."""
    w = np.empty(2)
    distance = g[0, 0] + g[1, 1] - 2.0 * g[0, 1]
    if distance <= 4e-16 * (g[0, 0] + g[1, 1]):
        w[0] = 0.5
    else:
        w[0] = min(max((g[1, 1] - g[0, 1]) / distance, 0.0), 1.0)
    w[1] = 1.0 - w[0]
    return w


@njit(cache=True)
def _steepest(g: Floats, w: Floats) -> int:
    """The task i with the least (Gw)_i, or -1 where none lies below wᵀGw by more than rounding: w is optimal."""
    count = len(w)
    products = np.zeros(count)
    errors = np.zeros(count)
    for i in range(count):
        for j in range(count):
            products[i] += g[i, j] * w[j]
            errors[i] += abs(g[i, j]) * w[j]
    norm = 0.0
    error = 0.0
    best = 0
    for i in range(count):
        norm += w[i] * products[i]
        error += w[i] * errors[i]
        if products[i] < products[best]:
            best = i
    slack = _GAP * norm + _ROUNDING * (error + errors[best])
    return -1 if products[best] >= norm - slack else best


@njit(cache=True)
def _to_affine_minimum(g: Floats, w: Floats, corral: Floats) -> bool:
    """Moves w to the minimum over the corral's affine hull, leaving tasks behind whose weight would turn negative.

    False where the corral is affinely dependent to rounding, so that w cannot improve in that direction.
    """
    count = len(w)
    for _ in range(count):
        members = np.nonzero(corral)[0]
        n = len(members)
        system = np.empty((n, n))
        for i in range(n):
            for j in range(n):
                system[i, j] = g[members[i], members[j]] + 1.0  # (G + 11ᵀ) u = 1 gives the affine minimum u / Σu
        u, solved = cholesky_solve(system, np.ones(n), _DEPENDENT)
        if not solved:
            return False
        v = u / u.sum()
        if v.min() > 0.0:
            w[:] = 0.0
            for i in range(n):
                w[members[i]] = v[i]
            return True
        step = 1.0
        leaving = -1
        for i in range(n):
            if v[i] <= 0.0:
                ratio = w[members[i]] / (w[members[i]] - v[i]) if w[members[i]] > v[i] else 0.0
                if ratio < step or leaving < 0:
                    step, leaving = ratio, i
        for i in range(n):
            w[members[i]] = max((1.0 - step) * w[members[i]] + step * v[i], 0.0)
        w[members[leaving]] = 0.0
        corral[members[leaving]] = False
    return False
