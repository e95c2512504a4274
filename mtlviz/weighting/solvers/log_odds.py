"""The KL ball around equal probabilities of two tasks, which is an interval of one number: the log-odds."""

from __future__ import annotations

import numpy as np
from numba import njit

_LOG_2 = np.log(2.0)
_SERIES = 1e-6  # of ρ: below, the next term of the border's series is rounding


@njit(cache=True)
def divergence_of_two(s: float) -> float:
    """KL(p‖½) of p = 1 / (1 + e^(−s)) and 1 − p, for the log-odds s ≥ 0.

    With m = tanh(s/2), the difference of both: (s m + log(1 − m²)) / 2, which does not cancel for small s; for large
    ones log 2 less the entropy.
    """
    fall = np.expm1(-s)
    if s < 1.0:
        m = -fall / (2.0 + fall)
        return 0.5 * (s * m + np.log1p(-m * m))
    rest = 1.0 + fall
    return _LOG_2 - np.log1p(rest) - s * rest / (1.0 + rest)


@njit(cache=True)
def border_of_two(rho: float) -> float:
    """The log-odds s > 0 with KL(s) = ρ, 0 < ρ < log 2.

    With u = s²/8, KL = u − u² + 8u³/9 − …, so u = ρ + ρ² + 10ρ³/9 + … to begin with; then Newton's steps on √KL, which
    is concave in s: from the left they go up to the root without a bracket. dKL/ds = s p (1 − p).
    """
    s = np.sqrt(8.0 * rho * (1.0 + rho * (1.0 + rho * (10.0 / 9.0))))
    if rho < _SERIES:
        return s
    for _ in range(100):
        root, rest = np.sqrt(divergence_of_two(s)), np.exp(-s)
        slope = 0.5 * s * rest / ((1.0 + rest) ** 2 * root)
        step = (np.sqrt(rho) - root) / slope
        s += step
        if abs(step) <= 1e-8 * s:  # the next one would be its square
            break
    return s
