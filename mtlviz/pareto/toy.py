"""The toy problem of CAGrad and Nash-MTL: two valleys that end in steep walls, and a convex front behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from mtlviz.pareto.kernels import plane_kernel
from mtlviz.pareto.objectives import Objectives
from mtlviz.runlog.records import Floats

LEAST = 5e-6  # of the argument of the logarithm, as in the authors' code


@njit(cache=True)
def _walls(x: Floats, c: float, slope: float, losses: Floats, gradients: Floats) -> None:
    """Adds c f_t; slope is dc/dx₂."""
    turn = math.tanh(x[1])
    bend = 1.0 - turn * turn
    for t in range(2):
        towards = 1.0 - 2.0 * t
        inner = 0.5 * (-x[0] - 7.0 + 10.0 * t) + towards * turn + 2.0 * t
        size = LEAST if abs(inner) < LEAST else abs(inner)
        f = math.log(size) + 6.0
        f_slope = 0.0 if abs(inner) < LEAST else c * np.sign(inner) / size
        losses[t] += c * f
        gradients[t, 0] -= 0.5 * f_slope
        gradients[t, 1] += slope * f + f_slope * towards * bend


@njit(cache=True)
def _bowls(x: Floats, c: float, slope: float, losses: Floats, gradients: Floats) -> None:
    """Adds c q_t; slope is dc/dx₂."""
    down = x[1] + 8.0
    for t in range(2):
        aside = x[0] - 7.0 + 14.0 * t
        q = (aside * aside + 0.1 * down * down) / 10.0 - 20.0
        losses[t] += c * q
        gradients[t, 0] += 0.2 * c * aside
        gradients[t, 1] += slope * q + 0.02 * c * down


@plane_kernel
def toy(x: Floats, constants: Floats, losses: Floats, gradients: Floats) -> None:
    """L_t = c₁ f_t + c₂ q_t; at its seams the gradient of torch.clamp, which passes at the bound."""
    gate = math.tanh(0.5 * x[1])
    slope = 0.5 * (1.0 - gate * gate)
    for t in range(2):
        losses[t] = gradients[t, 0] = gradients[t, 1] = 0.0
    if not gate < 0.0:  # so that NaN stays NaN
        _walls(x, gate, slope, losses, gradients)
    if not gate > 0.0:
        _bowls(x, -gate, -slope, losses, gradients)


@dataclass(frozen=True, kw_only=True)
class Toy(Objectives):
    """L_t = c₁ f_t + c₂ q_t with the gates c₁ = max(tanh(x₂/2), 0) and c₂ = max(tanh(−x₂/2), 0).

    f₁ = log max(|½(−x₁ − 7) − tanh(−x₂)|, 5e-6) + 6, f₂ = log max(|½(−x₁ + 3) + tanh(−x₂) + 2|, 5e-6) + 6;
    q_{1,2} = ((−x₁ ± 7)² + 0.1 (−x₂ − 8)²) / 10 − 20. The losses fall below 0 on the way. In the lower half plane q₁
    and q₂ share their curvature, so the Pareto set is x₁ = 7 (2λ − 1) for every weight λ of the first loss, with x₂
    near −8.36 by one equation, solved to rounding.

    On the seam x₂ = 0 both gates are 0, and so are the losses; the gradient there is the sum of those of both sides,
    as torch.clamp's passes at its bound. Where |…| < 5e-6 the gradient of f is 0, and so it is at |…| = 0.

    Raises: ParetoError as `Objectives` does.
    Source: Liu, Liu, Jin, Stone and Liu, NeurIPS 2021, arXiv 2110.14048 (CAGrad), and the authors' code; the scale
    (0.1, 1) and the five starts are those of Navon et al., ICML 2022, arXiv 2202.01017 (Nash-MTL).
    Differs: the front is computed, where their code draws x₂ = −8.3552 throughout; the offset is ours.
    """

    name = "toy"
    title = "Toy of CAGrad and Nash-MTL"
    kernel = staticmethod(toy)
    bounds = ((-11.0, 11.0), (-11.0, 11.0))
    usual_scale = (0.1, 1.0)
    usual_starts = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))

    def set_at(self, t: Floats) -> Floats:
        """Points (n, 2) with x₁ = 7 (1 − 2t); x₂ by Newton's method on the derivative of c₂ (λ q₁ + (1 − λ) q₂)."""
        x1 = 7.0 * (1.0 - 2.0 * np.asarray(t, dtype=np.float64))
        share = (x1 + 7.0) / 14.0
        across = share * (x1 - 7.0) ** 2 + (1.0 - share) * (x1 + 7.0) ** 2
        x2 = np.full_like(x1, -8.36)
        for _ in range(20):
            gate = np.tanh(-0.5 * x2)
            slope = -0.5 * (1.0 - gate**2)
            down = x2 + 8.0
            q = (across + 0.1 * down**2) / 10.0 - 20.0
            first = slope * q + 0.02 * gate * down
            second = gate * slope * q + 0.04 * slope * down + 0.02 * gate
            x2 = x2 - first / second
        return np.stack([x1, x2], axis=-1)
