"""Small dense linear algebra in compiled loops, for the T×T systems of the solvers."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats

_NOTHING = 1e-140  # of the longest row's length: squares and quotients of lengths above it stay finite


@njit(cache=True, fastmath={"reassoc", "contract"})
def dot(x: Floats, y: Floats) -> float:
    """Σ x y, in any order of the terms, so that the processor can add several at once."""
    total = 0.0
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(cache=True)
def cholesky_solve(a: Floats, b: Floats, tolerance: float) -> Floats:
    """The x of a x = b, a (n, n) symmetric positive semidefinite, b (n,).

    A row that depends on those before it has a pivot of rounding only. It counts as at least tolerance · a's own
    diagonal entry, so x is exact for a matrix that differs from a by so much on the diagonal.
    """
    n = len(b)
    low = np.zeros((n, n))
    x = np.zeros(n)
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= low[j, k] * low[j, k]
        low[j, j] = np.sqrt(max(pivot, tolerance * a[j, j]))
        for i in range(j + 1, n):
            entry = a[i, j]
            for k in range(j):
                entry -= low[i, k] * low[j, k]
            low[i, j] = entry / low[j, j]
    for i in range(n):
        total = b[i]
        for k in range(i):
            total -= low[i, k] * x[k]
        x[i] = total / low[i, i]
    for i in range(n - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, n):
            total -= low[k, i] * x[k]
        x[i] = total / low[i, i]
    return x


@njit(cache=True)
def two_unit_rows(gramian: Floats) -> tuple[float, float, float]:
    """What `unit_rows` gives for two rows: their cosine, and the length of each over the longer one's."""
    first, second = np.sqrt(max(gramian[0, 0], 0.0)), np.sqrt(max(gramian[1, 1], 0.0))
    longest = max(first, second)
    if min(first, second) > _NOTHING * longest:
        return _cosine(gramian[1, 0], second, first), first / longest, second / longest
    return 0.0, 1.0 if first > second else 0.0, 1.0 if second > first else 0.0


@njit(cache=True)
def _cosine(product: float, one: float, other: float) -> float:
    """Of two rows with this product and these lengths."""
    return min(max(product / one / other, -1.0), 1.0)  # in this order, so that nothing overflows


@njit(cache=True)
def unit_rows(gramian: Floats) -> tuple[Floats, Floats]:
    """The cosines (n, n) between the rows behind a Gramian (n, n), and the rows' lengths (n,) over the longest one's.

    A row shorter than 1e-140 of the longest counts as zero: its length, its cosines and its place on the diagonal are
    0. Every other place on the diagonal is 1.
    """
    n = len(gramian)
    roots = np.empty(n)
    lengths = np.zeros(n)
    cosines = np.zeros((n, n))
    for i in range(n):
        roots[i] = np.sqrt(max(gramian[i, i], 0.0))
    longest = roots.max()
    for i in range(n):
        if roots[i] > _NOTHING * longest:
            lengths[i] = roots[i] / longest
    for i in range(n):
        if lengths[i] > 0.0:
            cosines[i, i] = 1.0
        for j in range(i):
            if lengths[i] > 0.0 and lengths[j] > 0.0:
                cosines[i, j] = cosines[j, i] = _cosine(gramian[i, j], roots[i], roots[j])
    return cosines, lengths
