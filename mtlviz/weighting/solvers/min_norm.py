"""The point of least norm in the convex hull of the task gradients, from their Gramian alone."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.weighting.solvers.linear import cholesky_solve

_ROUNDING = 1e-15  # error of the Gramian's entries, relative to the two lengths: it came from rounded gradients
_GAP = 1e-13  # relative duality gap at which a point counts as the nearest


@njit(cache=True)
def min_norm(gramian: Floats) -> Floats:
    """The w (T,) ≥ 0, Σw = 1, that minimises wᵀ G w; `gramian` (T, T) positive semidefinite.

    Two tasks have a closed form; more go through Wolfe's active-set algorithm in Gram form, which ends after finitely
    many exact steps. Where w is not unique (duplicates), any minimiser is returned; wᵀGw is the same for all of them.
    A zero row has norm 0 and takes all the weight.

    The algorithm sees gradients of length 1, so that short rows do not drown in the rounding of long ones: with
    r_i = ‖g_i‖, C_ij = G_ij / (r_i r_j), b_i = min r / r_i and u_i = w_i / b_i the problem is to minimise uᵀ C u over
    u ≥ 0, bᵀu = 1, and u is optimal where (C u)_i ≥ b_i uᵀCu for all i.

    Source: P. Wolfe, Finding the nearest point in a polytope, Mathematical Programming 11 (1976).
    """
    count = len(gramian)
    first = 0
    for i in range(count):
        if gramian[i, i] < gramian[first, first]:
            first = i
    w = np.zeros(count)
    if count == 2:
        of_two(gramian, w)
        return w
    w[first] = 1.0
    if count == 1 or gramian[first, first] <= 0.0:
        return w
    cosines = np.empty((count, count))
    b = np.empty(count)
    for i in range(count):
        r = np.sqrt(gramian[i, i])
        b[i] = np.sqrt(gramian[first, first]) / r
        for j in range(count):
            cosines[i, j] = gramian[i, j] / r / np.sqrt(gramian[j, j])  # in this order, so that nothing overflows
    corral = np.zeros(count, np.bool_)
    corral[first] = True
    u = w.copy()
    for _ in range(20 * count + 50):
        entering = _steepest(cosines, b, u, corral)
        if entering < 0:
            break
        corral[entering] = True
        _to_affine_minimum(cosines, b, u, corral)
    w = u * b
    return w / w.sum()


@njit(cache=True)
def of_two(g: Floats, w: Floats) -> None:
    """Writes w ∝ (G₂₂ − G₁₂, G₁₁ − G₁₂), neither below 0; equal gradients share the weight.

    A zero gradient takes it all; of two zero gradients, the first does.
    """
    a, b = max(g[1, 1] - g[0, 1], 0.0), max(g[0, 0] - g[0, 1], 0.0)
    if min(g[0, 0], g[1, 1]) <= 0.0:
        w[0], w[1] = (0.0, 1.0) if g[1, 1] < g[0, 0] else (1.0, 0.0)
    elif a + b > 4e-16 * (g[0, 0] + g[1, 1]):
        w[0], w[1] = a / (a + b), b / (a + b)
    else:
        w[0] = w[1] = 0.5


@njit(cache=True)
def _steepest(cosines: Floats, b: Floats, u: Floats, corral: NDArray[np.bool_]) -> int:
    """The task outside the corral with the least (Cu)_i − b_i uᵀCu, or -1 where none lies below 0 beyond rounding."""
    count = len(u)
    products = np.zeros(count)
    norm = 0.0
    length = 0.0
    for i in range(count):
        for j in range(count):
            products[i] += cosines[i, j] * u[j]
        norm += u[i] * products[i]
        length += u[i]
    best = -1
    least = 0.0
    for i in range(count):
        below = products[i] - b[i] * norm
        slack = _GAP * b[i] * norm + _ROUNDING * length * (1.0 + b[i] * length)
        if not corral[i] and below < -slack and below < least:
            best, least = i, below
    return best


@njit(cache=True)
def _to_affine_minimum(cosines: Floats, b: Floats, u: Floats, corral: NDArray[np.bool_]) -> None:
    """Moves u to the minimum over the corral's affine hull, leaving tasks behind whose weight would turn negative.

    Where C v = λ b the norm is least, and (C + bbᵀ) v = b has such a v; the added bbᵀ makes the system regular where
    gradients oppose each other. Where the corral is affinely dependent to rounding, v is that of a Gramian which
    differs by rounding.
    """
    count = len(u)
    for _ in range(count):
        members = np.nonzero(corral)[0]
        n = len(members)
        system = np.empty((n, n))
        right = b[members] / b[members].max()  # its length does not change v, but long rows alone would lose it
        for i in range(n):
            for j in range(n):
                system[i, j] = cosines[members[i], members[j]] + right[i] * right[j]
        v = cholesky_solve(system, right, _ROUNDING)
        v /= np.dot(v, b[members])
        if v.min() > 0.0:
            u[:] = 0.0
            u[members] = v
            return
        step = 1.0
        leaving = -1
        for i in range(n):
            if v[i] <= 0.0:
                ratio = u[members[i]] / (u[members[i]] - v[i]) if u[members[i]] > v[i] else 0.0
                if ratio < step or leaving < 0:
                    step, leaving = ratio, i
        for i in range(n):
            u[members[i]] = max((1.0 - step) * u[members[i]] + step * v[i], 0.0)
        u[members[leaving]] = 0.0
        corral[members[leaving]] = False
