"""Small dense linear algebra in compiled loops, for the T×T systems of the solvers."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats


@njit(cache=True)
def cholesky_solve(a: Floats, b: Floats, tolerance: float) -> tuple[Floats, bool]:
    """The x of a x = b, a (n, n) symmetric positive definite, b (n,); False where a pivot is ≤ tolerance · a's own.

    A failed pivot says that a row depends on those before it, to within `tolerance` of its length squared.
    """
    n = len(b)
    low = np.zeros((n, n))
    x = np.zeros(n)
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= low[j, k] * low[j, k]
        if not pivot > tolerance * a[j, j]:
            return x, False
        low[j, j] = np.sqrt(pivot)
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
    return x, True
