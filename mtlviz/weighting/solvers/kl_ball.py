"""One exact step of mirror ascent over the tasks' probabilities, held inside a KL ball around equal ones."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.log_odds import border_of_two, divergence_of_two
from mtlviz.weighting.solvers.softmax import softmax

LOWEST = -700.0
"""The least log p that is kept: p = 1e-304. A task that sank deeper could hardly come back."""

_LARGEST = 1e300  # gains beyond ± this count as this, so that no sum of them overflows
_EPS = 2.2e-16
_LOG_2 = np.log(2.0)


@njit(cache=True)
def mirror_step(log_p: Floats, gains: Floats, rho: float) -> tuple[Floats, float]:
    """The new log p (n,) and the dual variable λ ≥ 0 of the ball KL(p‖1/n) ≤ ρ.

    p ∝ exp((log p + gains) / (1 + λ)), the maximiser of Σ p_t gains_t − KL(p‖old p) in the ball. λ = 0 where the
    step stays inside, and always for ρ ≥ log n; otherwise p lies on the ball's border. ρ = 0 gives equal p, λ = ∞.
    log_p (n,) need not be normalised; gains (n,) = step size × reward.

    With a = (log p + gains − max) / spread and s = spread / (1 + λ), KL(s) = mean φ(n p_t), φ(u) = u log u − u + 1, so
    a small KL does not cancel. √KL is nearly linear in s, so Newton's steps on √KL(s) = √ρ are few; s ≥ √(8ρ), since
    dKL/ds = s Var_p(a) and Var ≤ 1/4. A step that leaves the bracket is replaced by the bracket's geometric mean.
    """
    count = len(log_p)
    a = np.empty(count)
    for t in range(count):
        a[t] = log_p[t] + min(max(gains[t], -_LARGEST), _LARGEST)
    a -= a.max()
    spread = -a.min()
    if spread == 0.0 or rho == 0.0:
        return np.full(count, -np.log(count)), 0.0 if spread == 0.0 else np.inf
    a /= spread
    s = spread
    kl, _, shift = _tempered(a, s)
    if rho < np.log(count) and kl > rho:
        s = _on_the_border(a, spread, rho)
        shift = _tempered(a, s)[2]
    return s * a - (shift + np.log(count)), spread / s - 1.0


@njit(cache=True)
def _on_the_border(a: Floats, spread: float, rho: float) -> float:
    """The s in (0, spread) with KL(s) = ρ."""
    low, high = 2.8 * np.sqrt(rho), spread
    s = low
    for _ in range(200):
        kl, variance, _ = _tempered(a, s)
        if abs(kl - rho) <= 2 * _EPS * rho:
            break
        if kl > rho:
            high = s
        else:
            low = s
        slope = 0.5 * s * variance / np.sqrt(kl) if kl > 0.0 else 0.0
        following = s - (np.sqrt(kl) - np.sqrt(rho)) / slope if slope > 0.0 else -1.0
        if abs(following - s) <= _EPS * s or high - low <= 2 * _EPS * low:
            break
        s = following if low < following < high else np.sqrt(low) * np.sqrt(high)
    return s


@njit(cache=True)
def _tempered(a: Floats, s: float) -> tuple[float, float, float]:
    """KL(p‖1/n), the variance of a under p, and log mean exp(s a), for p ∝ exp(s a); max a = 0."""
    count = len(a)
    total = 0.0
    for t in range(count):
        total += np.expm1(s * a[t])
    shift = np.log1p(total / count)
    kl, mean, square = 0.0, 0.0, 0.0
    for t in range(count):
        log_ratio = s * a[t] - shift
        ratio = np.exp(log_ratio)
        kl += _excess(log_ratio, ratio)
        mean += ratio * a[t]
        square += ratio * a[t] * a[t]
    mean /= count
    return kl / count, max(square / count - mean * mean, 0.0), shift


@njit(cache=True)
def _excess(x: float, u: float) -> float:
    """φ(u) = u log u − u + 1 ≥ 0, x = log u; near u = 1 by its series Σ x^k / (k (k − 2)!), k ≥ 2."""
    if abs(x) > 0.5:
        return x * u - u + 1.0
    total, term = 0.0, x * x
    for k in range(2, 18):
        total += term / k
        term *= x / (k - 1)
    return total


@njit(cache=True)
def advance(log_p: Floats, gains: Floats, present: Mask, rho: float) -> float:
    """Moves log_p (T,) of the tasks that are present by one `mirror_step` among themselves; returns its λ.

    They share out the probability that they had together, so that p still sums to 1 and an absent task keeps its own;
    the ball is that of the p they have among themselves. No log p falls below `LOWEST`. With nobody present: λ = 0.
    """
    if both(present):
        return advance_of_two(log_p, gains[0], gains[1], rho)
    return _among_present(log_p, gains, present, rho)


@njit(cache=True)
def advance_of_two(log_p: Floats, one: float, other: float, rho: float) -> float:
    """`advance` of two tasks by the gains `one` and `other`; where λ = 0 the log-odds move by their difference.

    The leader's p is 1 / (1 + e^(−s)), s the log-odds over 1 + λ.
    """
    mass = max(log_p[0], log_p[1]) + np.log1p(np.exp(-abs(log_p[0] - log_p[1])))
    first = log_p[0] + min(max(one, -_LARGEST), _LARGEST)
    second = log_p[1] + min(max(other, -_LARGEST), _LARGEST)
    s, dual = abs(first - second), 0.0
    if s > 0.0 and rho == 0.0:
        s, dual = 0.0, np.inf
    elif rho < _LOG_2 and divergence_of_two(s)[0] > rho:
        free, s = s, border_of_two(rho)
        dual = max(free / s - 1.0, 0.0)
    leader = 0 if first >= second else 1
    log_p[leader] = mass - np.log1p(np.exp(-s))
    log_p[1 - leader] = max(log_p[leader] - s, LOWEST)
    return dual


@njit(cache=True)
def _among_present(log_p: Floats, gains: Floats, present: Mask, rho: float) -> float:
    """`advance` of any number of tasks."""
    tasks = np.nonzero(present)[0]
    if len(tasks) == 0:
        return 0.0
    top = log_p[tasks].max()
    mass = top + np.log(np.exp(log_p[tasks] - top).sum())
    moved, dual = mirror_step(log_p[tasks], gains[tasks], rho)
    for i in range(len(tasks)):
        log_p[tasks[i]] = max(moved[i] + mass, LOWEST)
    return dual


@njit(cache=True)
def shares(log_p: Floats, present: Mask) -> Floats:
    """p (T,) of the tasks that are present among themselves, Σp = 1; 0 for the others."""
    return softmax(log_p, present)


def uniform(tasks: int) -> Floats:
    """log p (1, T) of equal probabilities."""
    return np.full((1, tasks), -np.log(tasks))


def notes_where_idle(name: str, rho: float, tasks: int) -> tuple[str, ...]:
    """Says that a ball of ρ ≥ log T holds every p, so that nothing keeps p from drifting to one task."""
    if tasks < 2 or rho < np.log(tasks):
        return ()
    return (
        f"{name}: rho={rho:g} does not constrain {tasks} tasks, since log {tasks} = {np.log(tasks):.3f}: p can "
        f"drift to a single task. Choose a rho below {np.log(tasks):.3f}.",
    )
