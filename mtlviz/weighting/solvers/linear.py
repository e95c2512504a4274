"""Small dense linear algebra in compiled loops, for the T×T systems of the solvers."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats


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
