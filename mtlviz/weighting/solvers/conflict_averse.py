"""The direction near the mean gradient that does best by the worst task, from the Gramian alone."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.weighting.solvers.dual_cone import dual_cone
from mtlviz.weighting.solvers.linear import cholesky_solve

_ROUNDING = 1e-15  # error of a cosine
_GAP = 1e-13  # by how much of ‖g₀‖ a task's ĝ_t·d may miss the optimum
_VANISHES = 1e-14  # ‖g_w‖² counts as 0 below this part of (Σ w_t ‖g_t‖)², where the Gramian's own rounding begins
_SHORTEST = 1e-280  # a squared length below counts as 0


@njit(cache=True)
def conflict_averse(gramian: Floats, c: float) -> Floats:
    """The v (T,) ≥ 0 for which d = g₀ + Jᵀv has the largest min_t g_t·d among all d with ‖d − g₀‖ ≤ c ‖g₀‖.

    gramian (T, T): positive semidefinite; g₀ = Jᵀ1/T is the mean gradient; c ≥ 0. With g_w = Jᵀw and
    w = argmin g_w·g₀ + c ‖g₀‖ ‖g_w‖ over the simplex, v = c ‖g₀‖ w / ‖g_w‖. The other cases:

    - g₀ = 0, or c = 0: v = 0.
    - g_w = 0 (‖g_w‖ ≤ 1e-7 Σ w_t ‖g_t‖, which a Gramian cannot tell from 0; so it is for a zero gradient, unless
      every d in the ball harms some task): the largest min_t g_t·d is 0, and many d attain it. Returned is the one
      nearest to g₀: its projection onto {d: g_t·d ≥ 0 for all t}, as DualProj has it.

    A Gramian with negative eigenvalues, as single-precision rounding leaves them, has no such d where they decide:
    ‖g_w‖ counts as 0 where its square is negative, and v is then a point that the ball still holds, vᵀGv ≤ c² ‖g₀‖².

    An active set in the manner of Wolfe's min-norm point: the minimum over the affine hull of some tasks has a closed
    form, tasks enter where their g_t·d is below the value and leave where their weight would turn negative. The
    value falls with every step, so the steps are finite; T steps without a fall turn rounding and are the last, the
    cap is 20 T + 50, and w is on the simplex at any time. Rows have length 1 inside: with r_t = ‖g_t‖, C the cosines,
    b_t = min r / r_t, u_t = w_t / b_t and lengths in units of ‖g₀‖ the problem is to minimise γ·u + c √(uᵀCu),
    γ_t = ĝ_t·g₀, over u ≥ 0, bᵀu = 1.

    Source: P. Wolfe, Finding the nearest point in a polytope, Mathematical Programming 11 (1976), for the active set.
    """
    v = np.zeros(len(gramian))
    if len(gramian) == 2 and of_two(gramian, c, v):
        return v
    rows = np.nonzero(np.diag(gramian) > _SHORTEST)[0]
    n = len(rows)
    if n == 0 or c == 0.0:
        return v
    lengths = np.sqrt(np.diag(gramian)[rows])
    cosines = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            cosines[i, j] = gramian[rows[i], rows[j]] / lengths[i] / lengths[j]  # in this order: nothing overflows
    r = lengths / lengths.max()
    gamma = _products(cosines, r)
    squared = np.dot(gamma, r)  # (T ‖g₀‖)²
    if squared <= _VANISHES * r.sum() ** 2:
        return v
    gamma /= np.sqrt(squared)
    mean = r / np.sqrt(squared)
    v[rows] = _pull(cosines, gamma, mean, r, c, n < len(gramian)) / mean / len(gramian)
    return v


@njit(cache=True)
def of_two(gramian: Floats, c: float, v: Floats) -> bool:
    """Writes the v of two tasks, which comes with zeros; true where v is the answer, 0 where g₀ = 0.

    False, and nothing written, where the general way has to decide: c = 0, a zero gradient, opposite gradients or a
    Gramian that no two vectors have (‖g₁ × g₂‖² ≤ 0), and wherever ‖g_w‖ may count as 0.

    In units of the longer gradient, whose weight is v₁, with ρ the shorter one's length, x their cosine and
    δ = (1 − ρ²) / 2: all of the pull is along the shorter one, v = (0, c ‖g₀‖ / ρ), unless v₁ is positive in

        v = (ρ (ρ − x) q − δ, (1 − ρx) q + δ) / ‖g₁ − g₂‖², q² = c² − (1 − c²) δ² / (ρ² (1 − x²)).
    """
    longest, shortest = max(gramian[0, 0], gramian[1, 1]), min(gramian[0, 0], gramian[1, 1])
    if not (shortest > _SHORTEST and c > 0.0):
        return False
    longest, shortest = np.sqrt(longest), np.sqrt(shortest)
    longer = 0 if gramian[0, 0] > gramian[1, 1] else 1
    ratio, over = shortest / longest, (longest - shortest) / longest
    cosine = gramian[0, 1] / longest / shortest
    opening = 1.0 - cosine
    squared = over * over + 2.0 * ratio * (1.0 + cosine)  # (2 ‖g₀‖)²
    if squared <= _VANISHES * (1.0 + ratio) ** 2:
        return True
    ball = 0.5 * c * np.sqrt(squared)
    if opening > over:  # ρ > x
        height = ratio * ratio * opening * (1.0 + cosine)
        if height <= 0.0:
            return False
        delta = 0.5 * over * (1.0 + ratio)
        q = np.sqrt(max(c * c - (1.0 - c * c) * delta * delta / height, 0.0))
        first = ratio * (opening - over) * q - delta
        if first > 0.0:
            second, between = (over + ratio * opening) * q + delta, over * over + 2.0 * ratio * opening
            if ball * between <= np.sqrt(_VANISHES) * (first + ratio * second):
                return False
            v[longer], v[1 - longer] = first / between, second / between
            return True
    v[1 - longer] = ball / ratio
    return True


@njit(cache=True)
def _pull(cosines: Floats, gamma: Floats, mean: Floats, r: Floats, c: float, zero: bool) -> Floats:
    """The x (n,) ≥ 0 with d = g₀ + Σ x_t ĝ_t, in units of ‖g₀‖; `zero`: a zero gradient stands beside these."""
    n = len(r)
    b = r.min() / r
    u = np.zeros(n)
    corral = np.zeros(n, np.bool_)
    first = np.argmin((gamma + c) * r)
    u[first] = 1.0 / b[first]
    corral[first] = True
    norm = 1.0
    least, stalls = np.inf, 0
    restarted = False
    for _ in range(20 * n + 50):
        _to_affine_minimum(cosines, gamma, b, c, u, corral)
        products = _products(cosines, u)
        squared = np.dot(u, products)
        vanished = squared <= _VANISHES * u.sum() ** 2
        norm = np.sqrt(max(squared, 0.0))
        value = 0.0
        if not vanished:
            gains = gamma + c / norm * products  # ĝ_t·d
            value = np.dot(u, gains)
            entering = _worst(gains, b * value, _GAP + _ROUNDING * c * u.sum() / norm, corral)
            stalls = 0 if value < least else stalls + 1
            least = min(least, value)
            if entering >= 0 and stalls <= n:
                corral[entering] = True
                continue
        if not (vanished or (zero and value >= 0.0)):
            break
        x = dual_cone(cosines, mean) - mean
        length = np.sqrt(max(np.dot(x, _products(cosines, x)), 0.0))
        if length <= c or restarted:  # a second time only where C has a negative eigenvalue
            return x * min(c / max(length, c), 1.0)
        restarted, least = True, np.inf
        u[:] = x / np.dot(b, x)  # outside the ball; on the way there the value falls below 0
        corral[:] = x > 0.0
    return c / max(norm, np.sqrt(_VANISHES) * u.sum()) * u


@njit(cache=True)
def _products(cosines: Floats, u: Floats) -> Floats:
    """C u."""
    products = np.zeros(len(u))
    for j in range(len(u)):
        if u[j] != 0.0:
            for i in range(len(u)):
                products[i] += cosines[j, i] * u[j]
    return products


@njit(cache=True)
def _worst(gains: Floats, fair: Floats, slack: float, corral: NDArray[np.bool_]) -> int:
    """The task outside the corral that gains least beside its fair share, or -1 where none is below by the slack."""
    worst = -1
    least = -slack
    for i in range(len(gains)):
        below = gains[i] - fair[i]
        if not corral[i] and below < least - _GAP * abs(fair[i]):
            worst, least = i, below
    return worst


@njit(cache=True)
def _to_affine_minimum(
    cosines: Floats, gamma: Floats, b: Floats, c: float, u: Floats, corral: NDArray[np.bool_]
) -> None:
    """Moves u to the minimum over the corral's affine hull, leaving tasks behind whose weight would turn negative.

    The hull's nearest point to 0, at the distance a, is u_a; along the hull −g₀ has the part u_b, of length π. Where
    π < c the minimum is u_a + a / √(c² − π²) u_b; otherwise the value falls forever along u_b.
    """
    for _ in range(len(u)):
        members = np.nonzero(corral)[0]
        n = len(members)
        system = np.empty((n, n))
        right = b[members] / b[members].max()
        for i in range(n):
            for j in range(n):
                system[i, j] = cosines[members[i], members[j]] + right[i] * right[j]  # regular for opposite rows too
        nearest = cholesky_solve(system, right, _ROUNDING)
        along = -cholesky_solve(system, gamma[members], _ROUNDING)
        along -= np.dot(right, along) / np.dot(right, nearest) * nearest
        nearest /= np.dot(b[members], nearest)
        distance = part = 0.0
        for i in range(n):
            for j in range(n):
                distance += nearest[i] * nearest[j] * cosines[members[i], members[j]]
            part -= along[i] * gamma[members[i]]
        bounded = part < c * c
        if bounded:
            target = nearest + np.sqrt(max(distance, 0.0) / (c * c - part)) * along
            if target.min() > 0.0:
                u[:] = 0.0
                u[members] = target
                return
            along = target - u[members]
        step, leaving = np.inf, -1
        for i in range(n):
            if along[i] < 0.0 and -u[members[i]] / along[i] < step:
                step, leaving = -u[members[i]] / along[i], i
        if leaving < 0:
            return
        for i in range(n):
            u[members[i]] = max(u[members[i]] + step * along[i], 0.0)
        u[members[leaving]] = 0.0
        corral[members[leaving]] = False
