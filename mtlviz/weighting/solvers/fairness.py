"""The weights of α-fairness, (G w)_t = w_t^(−1/α), of which Nash's bargaining solution is the one with α = 1."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import among
from mtlviz.weighting.solvers.fairness_of_two import RIDGE, SHORTEST, of_two

_FLOOR = np.exp(-600.0)  # of z; a weight that would be smaller is returned as 0
_EPS = 2.3e-16
_UNSEEN = 1e-18  # of the least q: a z below changes no sum of products
_SUMS = {"reassoc", "contract", "nsz"}  # lets sums run in vector registers; NaN and inf keep their meaning


@njit(cache=True, error_model="numpy")
def fair_weights(gramian: Floats, power: float) -> Floats:
    """The w (T,) ≥ 0 with (G w)_t = w_t^(−p), p = `power` > 0 (α = 1 / p); `gramian` (T, T) positive semidefinite.

    They minimise the strictly convex ½ wᵀGw − Σ w_t^(1−p) / (1 − p), with log w_t in place of the power for p = 1, by
    Newton's method with a line search; two tasks have a shorter form, `of_two`. What is returned where the equation
    has no solution:

    - A zero row (squared length below 1e-280) gets weight 0, and the others are solved without it.
    - Where a combination of the rows with weights ≥ 0 vanishes, the weights would grow without bound. The cosines
      therefore have 1 + 1e-12 on their diagonal: w solves the equation of G + 1e-12 · diag(G). With p = 1 that
      bounds w_t ‖g_t‖ by 1e6 √T, and the direction Jᵀw then vanishes to rounding.
    - Where that has no minimum (G is indefinite by more, as in single precision), or 200 steps do not reach it, the
      1e-12 is raised by factors of 100 until they do, and then brought down again for as long as each solution leads to
      the next. Where that ends above 1e-12, w solves the equation of that G + ridge · diag(G).
    - A weight below 1e-260 of its scale is 0.

    With r_t = ‖g_t‖ / max ‖g‖, C the cosines and z = r ∘ w the equation is (C z)_t = q_t, q_t = (z_t / r_t)^(−p) / r_t,
    so that short rows do not drown in the rounding of long ones.
    """
    w = np.zeros(len(gramian))
    rows = np.nonzero(np.diag(gramian) > SHORTEST)[0]
    if len(rows) == 0:
        return w
    if len(rows) == 2:
        two = np.empty(2)
        if of_two(among(gramian, rows), power, two):
            w[rows] = two
            return w
    lengths = np.sqrt(np.diag(gramian)[rows])
    longest = lengths.max()
    cosines = _cosines(gramian, rows, lengths)
    logs = np.log(lengths / longest)
    z = np.empty(len(rows))
    ridge = RIDGE
    while True:
        np.fill_diagonal(cosines, 1.0 + ridge)
        if _path(cosines, logs, power, z) or ridge > len(rows):
            break
        ridge *= 100.0
    while ridge > RIDGE:  # back down, each solution the start of the next
        ridge, reached = max(0.7 * ridge, RIDGE), z.copy()
        np.fill_diagonal(cosines, 1.0 + ridge)
        if not _descend(cosines, logs, power, z):
            z[:] = reached
            break
    for i in range(len(rows)):
        if z[i] > _FLOOR:
            log = np.log(z[i]) - logs[i] - 2.0 / (1.0 + power) * np.log(longest)
            w[rows[i]] = np.exp(min(log, 700.0))
    return w


@njit(cache=True, error_model="numpy")
def _cosines(gramian: Floats, rows: NDArray[np.intp], lengths: Floats) -> Floats:
    """C (n, n), symmetric and within ±1."""
    n = len(rows)
    cosines = np.empty((n, n))
    inverse = 1.0 / lengths
    for i in range(n):
        for j in range(i):
            cosine = gramian[rows[i], rows[j]] * inverse[i] * inverse[j]  # in this order, so that nothing overflows
            cosines[i, j] = cosines[j, i] = min(max(cosine, -1.0), 1.0)
    return cosines


@njit(cache=True, error_model="numpy")
def _path(cosines: Floats, logs: Floats, power: float, z: Floats) -> bool:
    """Writes the solution to z; whether it got there. A power below ½ is approached by halves, each from the last."""
    stage = max(power, 0.5)
    z[:] = _start(cosines, logs, stage)
    arrived = _descend(cosines, logs, stage, z)
    while arrived and stage > power:
        stage = max(power, 0.5 * stage)
        arrived = _descend(cosines, logs, stage, z)
    return arrived


@njit(cache=True, error_model="numpy")
def _start(cosines: Floats, logs: Floats, power: float) -> Floats:
    """The solution for orthogonal rows, z_t = r_t^((p−1)/(p+1)), times the factor that minimises along it."""
    z = np.exp((power - 1.0) / (power + 1.0) * logs)
    products = np.empty(len(z))
    _times(cosines, z, products)
    orthogonal = np.dot(z, z)  # Σ z_t q_t there
    return z * (orthogonal / max(np.dot(z, products), 1e-9 * orthogonal)) ** (1.0 / (1.0 + power))


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _times(matrix: Floats, x: Floats, y: Floats) -> None:
    """Writes matrix (n, n) times x (n,) to y."""
    for i in range(len(x)):
        total = 0.0
        for j in range(len(x)):
            total += matrix[i, j] * x[j]
        y[i] = total


@njit(cache=True, error_model="numpy")
def _demand(z: float, log: float, power: float) -> float:
    """q = (z / r)^(−p) / r, with log = log r."""
    if power == 1.0:
        return 1.0 / z
    return np.exp(min(-power * (np.log(z) - log) - log, 600.0))


@njit(cache=True, error_model="numpy")
def _descend(cosines: Floats, logs: Floats, power: float, z: Floats) -> bool:
    """Moves z to the solution; whether it got there, to rounding."""
    n = len(z)
    q, products, lacking, curvature, move = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    lower = np.empty((n, n))
    repaired = close = False
    for count in range(200):
        _times(cosines, z, products)
        unseen = _settled(cosines, logs, power, z, products, q)
        for i in range(n):
            lacking[i] = 0.0 if z[i] < unseen else q[i] - products[i]
            if not close:
                curvature[i] = power * q[i] / z[i]
        if not close and not _factored(cosines, curvature, lower):
            return False
        _solve(lower, lacking, move)
        largest = 0.0
        far = False
        for i in range(n):
            if z[i] < unseen:
                move[i] = 0.0
            largest = max(largest, (1.0 + power) * abs(move[i] / z[i]))
            far = far or _far(move[i], z[i])
        if largest < 1e-7 or close:  # what is left is its square, or after the factor of another z, its 1e-4
            z += move
            _times(cosines, z, products)
            _settled(cosines, logs, power, z, products, q)
            return True
        if far and not repaired:
            _repair(cosines, logs, power, z, products, move)
            repaired = True
            continue
        repaired = False
        step = 1.0
        if largest > 0.2:
            step = _line_search(logs, power, z, q, lacking, curvature, move)
        close = largest < 1e-4
        if step * largest < 1e-14 or (count > 5 and not close and _within_rounding(cosines, z, q, lacking)):
            return True
        z += step * move
    return False


@njit(cache=True, error_model="numpy")
def _settled(cosines: Floats, logs: Floats, power: float, z: Floats, products: Floats, q: Floats) -> float:
    """Writes q, and solves for each z_t alone that no equation but its own can see; returns the bound for those."""
    for i in range(len(z)):
        q[i] = _demand(z[i], logs[i], power)
    unseen = _UNSEEN * q.min()
    for i in range(len(z)):
        if z[i] < unseen:
            others = products[i] - cosines[i, i] * z[i]
            z[i] = min(_coordinate(cosines[i, i], others, logs[i], power), unseen)
            q[i] = _demand(z[i], logs[i], power)
    return unseen


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _factored(cosines: Floats, curvature: Floats, lower: Floats) -> bool:
    """Writes the Cholesky factor of C + diag(curvature) to `lower`, its diagonal inverted; False if not definite."""
    for i in range(len(curvature)):
        for j in range(i):
            entry = cosines[i, j]
            for k in range(j):
                entry -= lower[i, k] * lower[j, k]
            lower[i, j] = entry * lower[j, j]
        pivot = cosines[i, i] + curvature[i]
        for k in range(i):
            pivot -= lower[i, k] * lower[i, k]
        if not pivot > 0.0:
            return False
        lower[i, i] = 1.0 / np.sqrt(pivot)
    return True


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _solve(lower: Floats, right: Floats, x: Floats) -> None:
    """Writes to x the solution of L Lᵀ x = right, L as `_factored` leaves it."""
    n = len(x)
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= lower[i, k] * x[k]
        x[i] = total * lower[i, i]
    for i in range(n - 1, -1, -1):
        x[i] *= lower[i, i]
        for k in range(i):
            x[k] -= lower[i, k] * x[i]


@njit(cache=True, error_model="numpy")
def _line_search(
    logs: Floats, power: float, z: Floats, q: Floats, lacking: Floats, curvature: Floats, move: Floats
) -> float:
    """A step along `move` at which the slope of the potential has fallen to a tenth, and z stays positive."""
    n = len(z)
    slope = -np.dot(lacking, move)
    edge = np.inf
    for i in range(n):
        if move[i] < 0.0:
            edge = min(edge, -0.99 * z[i] / move[i])
    low, high = 0.0, np.inf
    step = min(1.0, edge)
    for _ in range(100):
        here = 0.0
        for i in range(n):  # C move = lacking − curvature ∘ move
            products = q[i] - lacking[i] + step * (lacking[i] - curvature[i] * move[i])
            here += move[i] * (products - _demand(z[i] + step * move[i], logs[i], power))
        if abs(here) <= -0.1 * slope or (here < 0.0 and step == edge):
            break
        if here < 0.0:
            low = step
        else:
            high = step
        step = min(4.0 * step, edge) if high == np.inf else 0.5 * (low + high)
    return step


@njit(cache=True, error_model="numpy")
def _far(move: float, z: float) -> bool:
    """Whether the Newton step leads so far that the potential's quadratic model says little of z."""
    return move < -0.9 * z or move > 9.0 * z


@njit(cache=True, error_model="numpy")
def _repair(cosines: Floats, logs: Floats, power: float, z: Floats, products: Floats, move: Floats) -> None:
    """Minimises over each z_t alone that is far from its place; changes z and `products` = C z."""
    for i in range(len(z)):
        if _far(move[i], z[i]):
            alone = _coordinate(cosines[i, i], products[i] - cosines[i, i] * z[i], logs[i], power)
            products += (alone - z[i]) * cosines[i]
            z[i] = alone


@njit(cache=True, error_model="numpy")
def _coordinate(diagonal: float, others: float, log: float, power: float) -> float:
    """The z of diagonal · z + others = q(z), by Newton's method on the logarithms of both sides."""
    if others >= 0.0:
        x = log
        for _ in range(100):
            own = diagonal * np.exp(x)
            value = np.log(others + own) + power * (x - log) + log
            change = value / (power + own / (others + own))
            x = min(max(x - change, -700.0), 700.0)
            if abs(change) < 1e-12 * (1.0 + abs(x)):
                break
        return max(np.exp(x), _FLOOR)
    x = np.log(-others)  # of what is above −others
    for _ in range(100):
        above = np.exp(x)
        z = (above - others) / diagonal
        value = x + power * (np.log(z) - log) + log
        change = value / (1.0 + power * above / (above - others))
        x = min(max(x - change, -700.0), 700.0)
        if abs(change) < 1e-12 * (1.0 + abs(x)):
            break
    return (np.exp(x) - others) / diagonal


@njit(cache=True, error_model="numpy")
def _within_rounding(cosines: Floats, z: Floats, q: Floats, lacking: Floats) -> bool:
    """Whether every equation holds to the rounding of its own terms, so that no step can better it."""
    for i in range(len(z)):
        terms = q[i]
        for j in range(len(z)):
            terms += abs(cosines[i, j]) * z[j]
        if abs(lacking[i]) > 2.0 * _EPS * terms:
            return False
    return True
