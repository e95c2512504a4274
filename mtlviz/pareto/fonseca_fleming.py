"""Fonseca and Fleming's problem: a concave front, whose middle no weighted sum can reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mtlviz.pareto.kernels import plane_kernel
from mtlviz.pareto.objectives import Objectives
from mtlviz.runlog.records import Floats

CENTRE = 1.0 / math.sqrt(2.0)


@plane_kernel
def fonseca_fleming(x: Floats, constants: Floats, losses: Floats, gradients: Floats) -> None:
    """L_t = 1 − exp(−‖x ∓ (1, 1)/√2‖²)."""
    for t in range(2):
        centre = CENTRE * (1.0 - 2.0 * t)
        u, v = x[0] - centre, x[1] - centre
        height = math.exp(-u * u - v * v)
        losses[t] = 1.0 - height
        gradients[t, 0], gradients[t, 1] = 2.0 * u * height, 2.0 * v * height


@dataclass(frozen=True, kw_only=True)
class FonsecaFleming(Objectives):
    """L₁ = 1 − exp(−Σ(x_i − 1/√2)²), L₂ = 1 − exp(−Σ(x_i + 1/√2)²), in two dimensions.

    The Pareto set is the diagonal from (1, 1)/√2 to −(1, 1)/√2. The front is concave between two short convex ends: a
    weighted sum of the losses has its minima near the ends, and the point in the middle, where both losses are
    1 − 1/e, is the worst of the set for the average. So two points tie for the best average.

    Raises: ParetoError as `Objectives` does.
    Source: Fonseca and Fleming, Evolutionary Computation 3 (1995), for n = 2.
    """

    name = "fonseca_fleming"
    title = "Fonseca and Fleming: a concave front"
    kernel = staticmethod(fonseca_fleming)
    bounds = ((-2.0, 2.0), (-2.0, 2.0))
    usual_starts = ((-1.4, 1.0), (0.3, 1.5), (1.5, 0.2), (-1.0, -1.5), (0.9, -1.3))

    def set_at(self, t: Floats) -> Floats:
        """Points (n, 2) at (1 − 2t) (1, 1)/√2."""
        return np.repeat((CENTRE * (1.0 - 2.0 * np.asarray(t, dtype=np.float64)))[..., None], 2, axis=-1)
