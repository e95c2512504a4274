"""What follows from losses, weights and Gramians; computed here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mtlviz.runlog.records import PHASES, Floats, Integers

_ROUNDING = 16 * np.finfo(np.float64).eps  # times T: what rounding leaves of a wᵀGw that is zero, relative to its terms

Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Triangle:
    """Where the entries of a symmetric (T, T) matrix lie in its upper triangle of M = T(T+1)/2 values, row by row."""

    tasks: int
    flat: Indices  # (M,) of the triangle's entries in the flattened matrix
    full: Indices  # (T·T,) of the flattened matrix's entries in the triangle
    diagonal: Indices  # (T,) of the diagonal in the triangle
    pairs: Indices  # (T(T-1)/2,) of the pairs a < b in the triangle
    a: Indices  # (T(T-1)/2,) first task of each pair
    b: Indices  # (T(T-1)/2,) second task of each pair


@lru_cache(maxsize=32)
def triangle(tasks: int) -> Triangle:
    """The triangle of T tasks."""
    rows, cols = np.triu_indices(tasks)
    places = np.zeros((tasks, tasks), dtype=np.intp)
    places[rows, cols] = places[cols, rows] = np.arange(len(rows))
    a, b = np.triu_indices(tasks, 1)
    return Triangle(tasks, rows * tasks + cols, places.ravel(), places.diagonal().copy(), places[a, b], a, b)


def gramians(upper: Floats, tasks: int) -> Floats:
    """Upper triangles (..., M) as symmetric matrices (..., T, T)."""
    return upper[..., triangle(tasks).full].reshape(*upper.shape[:-1], tasks, tasks)


def norms(upper: Floats, tasks: int) -> Floats:
    """Gradient norms ‖g_t‖ = √G_tt: (..., M) -> (..., T); NaN where the task is absent."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(upper[..., triangle(tasks).diagonal])


def relative_rates(losses: Floats, norm: Floats, phases: NDArray[np.int8]) -> Floats:
    """L_t / ‖g_t‖ (EMTL), (..., T); NaN where the task is absent, its gradient is zero, or it is held.

    A task is held by soft labels while another learns from true ones (`phases` (..., T), as stored): its gradient
    vanishes, and the quotient says nothing of its pace.
    """
    learning = (phases == PHASES.index("supervised")).any(axis=-1, keepdims=True)
    return np.where((phases == PHASES.index("distilled")) & learning, np.nan, _ratio(losses, norm))


def dots(upper: Floats, tasks: int) -> Floats:
    """⟨g_a, g_b⟩ of the pairs a < b: (..., M) -> (..., T(T-1)/2)."""
    return upper[..., triangle(tasks).pairs]


def cosines(dot: Floats, norm: Floats) -> Floats:
    """Cosine of the angle between the gradients of each pair, (..., pairs), within [-1, 1]; NaN where a norm is 0."""
    index = triangle(norm.shape[-1])
    # One division after the other: the product of two norms may underflow where both quotients are fine.
    return np.clip(_ratio(_ratio(dot, norm[..., index.a]), norm[..., index.b]), -1.0, 1.0)


def conflicts(dot: Floats) -> Floats:
    """1.0 where a pair's gradients conflict (⟨g_a, g_b⟩ < 0), 0.0 where not, NaN where a task is absent."""
    return np.where(np.isnan(dot), np.nan, (dot < 0).astype(np.float64))


def conflict_rates(dot: Floats) -> Floats:
    """Share of the present pairs that conflict: (..., pairs) -> (...); NaN where no pair is present."""
    present = ~np.isnan(dot)
    return _ratio((dot < 0).sum(axis=-1).astype(np.float64), present.sum(axis=-1).astype(np.float64))


def rate_variances(rates: Floats) -> Floats:
    """Population variance of the relative rates over the tasks that have one: (..., T) -> (...); else NaN."""
    present = np.isfinite(rates)
    count = present.sum(axis=-1).astype(np.float64)
    values = np.where(present, rates, 0.0)
    mean = _ratio(values.sum(axis=-1), count)
    with np.errstate(over="ignore", invalid="ignore"):
        return _ratio((np.where(present, values - mean[..., None], 0.0) ** 2).sum(axis=-1), count)


def updates(weights: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Each task's share of the update and the update's norm.

    share_t = w_t (G w)_t / wᵀGw, where absent tasks count as zero; NaN where the task is absent or the update is zero.
    norm = √(wᵀGw), the length of the weighted sum of the shared gradients.

    The update is zero where wᵀGw is no more than rounding: at most 16 T ε |w|ᵀ|G||w|, with ε = 2⁻⁵². There its norm
    is 0 and it has no shares: as at the optimum of MGDA, where the gradients cancel.

    Args:
        weights: (..., T)
        upper: (..., M) upper triangles of the Gramians.

    Returns:
        Shares (..., T) and norms (...).
    """
    tasks = weights.shape[-1]
    absent = np.isnan(upper[..., triangle(tasks).diagonal])
    G = np.nan_to_num(gramians(upper, tasks), nan=0.0, posinf=np.inf, neginf=-np.inf)
    w = np.where(absent, 0.0, weights)
    with np.errstate(invalid="ignore", over="ignore"):
        parts = w * np.matmul(G, w[..., None])[..., 0]  # (..., T)
        total = parts.sum(axis=-1)
        size = np.abs(w)
        terms = (size * np.matmul(np.abs(G), size[..., None])[..., 0]).sum(axis=-1)  # |w|ᵀ|G||w|
        total = np.where(total <= np.where(np.isfinite(terms), _ROUNDING * tasks * terms, 0.0), 0.0, total)
        shares = np.where(absent | ~(total[..., None] > 0), np.nan, _ratio(parts, total[..., None]))
        return shares, np.sqrt(total)


def with_held(weights: Floats, present: Flags, held: Flags) -> Floats:
    """Weights (..., T) in which the tasks that are held get the mean of those that are balanced; 0 where absent.

    present, held: (..., T); a task that learns from soft labels is held, so long as some present task is not: `weights`
    are those of the present tasks that are not held, and where there is none they stay as they are.
    """
    learning, held = present & ~held, present & held
    count = learning.sum(axis=-1, keepdims=True)
    mean = np.where(learning, weights, 0.0).sum(axis=-1, keepdims=True) / np.maximum(count, 1)
    return np.where(held & (count > 0), mean, np.where(present, weights, 0.0))


def discarded(step: Integers, position: Integers, rewinds: tuple[Integers, Integers]) -> Flags:
    """Which rows (n,) a rewind threw away: those up to its step whose position lies after the one it went back to.

    Args:
        step: (n,)
        position: (n,)
        rewinds: their steps (R,), in order, and the positions that they went back to (R,).
    """
    at, to = rewinds
    if not len(at):
        return np.zeros(len(step), dtype=np.bool_)
    furthest = np.minimum.accumulate(to[::-1])[::-1]  # (R,) over this rewind and all later ones
    index = np.searchsorted(at, step, side="left")  # the first rewind at or after the row
    limit = np.append(furthest, np.iinfo(np.int64).max)[index]
    return position > limit


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is zero or NaN."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    result = np.full(shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.divide(numerator, denominator, out=result, where=np.broadcast_to(denominator, shape) != 0)
