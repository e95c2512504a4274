"""The weights of α-fairness for two tasks: a closed form for α = 1, and one equation of one unknown for the others."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats

RIDGE = 1e-12
"""Added to the unit diagonal of the cosines: above their rounding, below what a residual shows."""
SHORTEST = 1e-280
"""A squared length below counts as 0, since 1 / length must stay finite."""

_THIN = 1e-30  # a gradient shorter than so much of the other may have a weight that e^s does not hold


@njit(cache=True, error_model="numpy")
def of_two(gramian: Floats, power: float, w: Floats) -> bool:
    """Writes the w (2,) of `fair_weights`; false, and nothing written, where a gradient is zero, or nearly and p ≠ 1.

    For p = 1, w_t = 1 / (‖g_t‖ √(1 + x)), x the cosine; here and below a = 1 + 1e-12 stands for 1. Otherwise, with
    ρ ≤ 1 the ratio of the lengths and k = ρ w₂ / w₁, w₂ of the shorter gradient, the quotient of the two equations is

        (k + x) / (1 + xk) = k^(−p) ρ^(p−1), and then w₁^(1+p) = 1 / (‖g₁‖² (1 + xk)).
    """
    if not min(gramian[0, 0], gramian[1, 1]) > SHORTEST:
        return False
    first, second = np.sqrt(gramian[0, 0]), np.sqrt(gramian[1, 1])
    cosine = min(max(gramian[1, 0] / second / first, -1.0), 1.0)
    if power == 1.0:
        z = 1.0 / np.sqrt(1.0 + cosine + RIDGE)
        w[0], w[1] = z / first, z / second
        return True
    longer = 0 if first > second else 1
    longest, ratio = max(first, second), min(first, second) / max(first, second)
    if ratio < _THIN:
        return False
    side, gap = abs(cosine), 1.0 - abs(cosine) + RIDGE
    e = np.exp(_tilt(side, gap, cosine < 0.0, (power - 1.0) * np.log(ratio), power))
    low = gap + side + side * e
    if cosine < 0.0:
        k, gain = (gap * e + side * e + side) / low, gap * (gap + 2.0 * side) / low
    else:
        k, gain = e, low
    w[longer] = (gain * longest * longest) ** (-1.0 / (1.0 + power))
    w[1 - longer] = k * w[longer] / ratio
    return True


@njit(cache=True, error_model="numpy")
def _tilt(side: float, gap: float, opposed: bool, target: float, power: float) -> float:
    """The s of s + p L(s) = target for an obtuse angle, of p s + L(s) = target for others; target = (p − 1) log ρ.

    L(s) = log((a e^s + |x|) / (a + |x| e^s)), side = |x|, gap = a − |x|. The equation of k says p log k + L(log k) =
    target for x ≥ 0; for x < 0, where log k = L(s), L's inverse stands in L's place. L is odd, and from 0 on it is
    concave: Newton's steps from the left go up to the root without a bracket.
    """
    one, goal = gap + side, abs(target)
    straight, bent = (1.0, power) if opposed else (power, 1.0)
    s = goal / (straight + bent * gap / (one + side))  # L lies below its tangent at 0
    for _ in range(50):
        rise = np.expm1(s)
        e = 1.0 + rise
        low = one + side * e
        lacking = goal - straight * s - bent * np.log1p(gap * rise / low)
        step = lacking / (straight + bent * e * gap * (one + side) / ((one * e + side) * low))
        s += step
        if step <= 1e-8 * s:  # the next one would be its square
            break
    return s if target >= 0.0 else -s
