"""Two linear tasks through one shared direction: the global optimum, by a search along a curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlviz.runlog.records import Floats
from mtlviz.transfer.moments import Moments

_RANK = 1e-12  # of the largest eigenvalue: what counts as zero
_ROUNDED = 50 * np.finfo(np.float64).eps
_DECADES, _POINTS = 6, 600  # of the first look at the curve, on each side of 0
_LEVEL = 1e-10  # of h: what counts as equally high, since far from the usual ratio rounding errors grow
_PEAKS, _LOOKS, _CLOSER = 4, 8, 33  # how many peaks are looked at again, how often, and with how many points


def best_of_two(first: Moments, second: Moments) -> Floats:
    """The B (d,), of length 1, that makes h(B) = Σ_i (BᵀX_iᵀy_i)² / BᵀX_iᵀX_iB largest; the zero vector where h is 0.

    Where B is optimal it solves (a₁² G₁ + a₂² G₂) B = a₁ c₁ + a₂ c₂ with its own heads a_i, G_i = X_iᵀX_i and
    c_i = X_iᵀy_i. So it lies on the curve of these solutions over the ratio t = a₂/a₁, and is where h is largest on it.
    In coordinates in which G₁ + G₂ is the identity and G₁ is diagonal, each point of the curve costs O(d).
    """
    curve, back = _curve(first, second)
    usual = np.log10(_usual(first, second))
    ratios = np.concatenate([_climbed(curve, sign, usual) for sign in (1.0, -1.0)])
    heights = _heights(curve, ratios)
    level = np.flatnonzero(heights >= (1.0 - _LEVEL) * heights.max())  # where both fit exactly, the curve is level
    usual_most = level[np.argmin(np.abs(np.log10(np.abs(ratios[level])) - usual))]
    direction = back @ _points(curve, ratios[[usual_most]])[0]
    length = float(np.linalg.norm(direction))
    return direction / length if length > 0 else direction


def _climbed(curve: _Curve, sign: float, usual: float) -> Floats:
    """The ratios of one sign at the highest peaks, each looked at ever closer; and the usual one."""
    steps = usual + np.linspace(-_DECADES, _DECADES, _POINTS)
    found = [usual]
    for at in steps[_peaks(_heights(curve, sign * 10.0**steps))]:
        width = steps[1] - steps[0]
        for _ in range(_LOOKS):
            near = np.linspace(at - width, at + width, _CLOSER)
            at, width = near[np.argmax(_heights(curve, sign * 10.0**near))], near[1] - near[0]
        found.append(at)
    return sign * 10.0 ** np.array(found)


class _Curve(NamedTuple):
    """G₁ as diag(s), G₂ as diag(1 − s), and c₁, c₂ in those coordinates, all (q,)."""

    s: Floats
    first: Floats
    second: Floats


def _curve(first: Moments, second: Moments) -> tuple[_Curve, Floats]:
    """The curve, and the matrix (d, q) back to the tasks' own coordinates."""
    values, vectors = np.linalg.eigh(first.second + second.second)
    kept = values > _RANK * max(values[-1], 0.0)
    whitened = vectors[:, kept] / np.sqrt(values[kept])
    s, turn = np.linalg.eigh(whitened.T @ first.second @ whitened)
    back = whitened @ turn
    rounded = _ROUNDED * values[-1] / values[kept][0] if kept.any() else 0.0  # errors of s, from those of G₁
    s = np.where(s < rounded, 0.0, np.where(s > 1.0 - rounded, 1.0, s))
    ones, twos = back.T @ first.cross, back.T @ second.cross
    return _Curve(s, np.where(s > 0, ones, 0.0), np.where(s < 1, twos, 0.0)), back


def _usual(first: Moments, second: Moments) -> float:
    """The ratio of the heads that bring a direction of the usual length to the size of the labels."""
    powers, traces = (first.power, second.power), (float(np.trace(first.second)), float(np.trace(second.second)))
    return float(np.sqrt(powers[1] / powers[0] * traces[0] / traces[1])) if min(*powers, *traces) > 0 else 1.0


def _points(curve: _Curve, ratios: Floats) -> Floats:
    """The points (n, q) of the curve at these ratios a₂/a₁ (n,)."""
    t = ratios[:, None]
    return (curve.first + t * curve.second) / (curve.s + t**2 * (1.0 - curve.s))


def _heights(curve: _Curve, ratios: Floats) -> Floats:
    """h (n,) at these ratios (n,)."""
    points = _points(curve, ratios)
    tops = (points @ curve.first) ** 2, (points @ curve.second) ** 2
    squares = points**2
    bottoms = squares @ curve.s, squares @ (1.0 - curve.s)
    one, two = (np.divide(tops[i], bottoms[i], out=np.zeros_like(tops[i]), where=bottoms[i] > 0) for i in (0, 1))
    return one + two


def _peaks(heights: Floats) -> NDArray[np.intp]:
    """Where the highest peaks are, the ends of the curve among them."""
    padded = np.concatenate([[-np.inf], heights, [-np.inf]])
    peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]))
    return peaks[np.argsort(-heights[peaks], kind="stable")[:_PEAKS]]
