"""The KL ball around equal probabilities of two tasks, which is an interval of one number: the log-odds."""

from __future__ import annotations

import numpy as np
from numba import njit

_LOG_2 = np.log(2.0)
_SERIES = 1e-3  # of ρ: below, the next term of the border's series is rounding


@njit(cache=True)
def divergence_of_two(s: float) -> tuple[float, float]:
    """KL(p‖½) of p = 1 / (1 + e^(−s)) and 1 − p, for the log-odds s ≥ 0; and e^(−s).

    With m = tanh(s/2), the difference of both: (s m + log(1 − m²)) / 2, which does not cancel for small s; for large
    ones log 2 less the entropy.
    """
    fall = np.expm1(-s)
    rest = 1.0 + fall
    if s < 1.0:
        m = -fall / (2.0 + fall)
        return 0.5 * (s * m + np.log1p(-m * m)), rest
    rest = np.exp(-s)  # 1 + fall has lost its digits where s is large
    return _LOG_2 - np.log1p(rest) - s * rest / (1.0 + rest), rest


@njit(cache=True)
def border_of_two(rho: float) -> float:
    """The log-odds s > 0 with KL(s) = ρ, 0 < ρ < log 2.

    With u = s²/8, KL = u − u² + 8u³/9 − …, so u = ρ + ρ² + 10ρ³/9 + … to begin with; then Newton's steps on √KL, which
    is concave in s: from the left they go up to the root without a bracket. dKL/ds = s p (1 − p).
    """
    rest = 59.0 / 45.0 + rho * (7594.0 / 4725.0 + rho * (85994.0 / 42525.0))
    s = np.sqrt(8.0 * rho * (1.0 + rho * (1.0 + rho * (10.0 / 9.0 + rho * rest))))
    if rho < _SERIES:
        return s
    for _ in range(100):
        kl, rest = divergence_of_two(s)
        root = np.sqrt(kl)
        slope = 0.5 * s * rest / ((1.0 + rest) ** 2 * root)
        step = (np.sqrt(rho) - root) / slope
        s += step
        if abs(step) <= 1e-8 * s:  # the next one would be its square
            break
    return s
