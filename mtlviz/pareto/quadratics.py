"""Two convex bowls of adjustable angle and conditioning: the problem that every weighted sum can solve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtlviz.errors import ParetoError
from mtlviz.pareto.kernels import plane_kernel
from mtlviz.pareto.objectives import Objectives, checked_number
from mtlviz.runlog.records import Floats

APART = 1.0  # of either minimum from the origin, on the x1 axis


@plane_kernel
def quadratics(x: Floats, constants: Floats, losses: Floats, gradients: Floats) -> None:
    """L_t = ½ (x − m_t)ᵀ A_t (x − m_t). constants (10,): m_t and the entries 11, 12, 22 of A_t, loss by loss."""
    for t in range(2):
        u, v = x[0] - constants[5 * t], x[1] - constants[5 * t + 1]
        a, b, c = constants[5 * t + 2], constants[5 * t + 3], constants[5 * t + 4]
        gradients[t, 0], gradients[t, 1] = a * u + b * v, b * u + c * v
        losses[t] = 0.5 * (u * gradients[t, 0] + v * gradients[t, 1])


@dataclass(frozen=True, kw_only=True)
class Quadratics(Objectives):
    """L_t = ½ (x − m_t)ᵀ A_t (x − m_t) with m = (1, 0) and (−1, 0), and A_t of the eigenvalues √κ and 1/√κ.

    The Pareto set is x(λ) = (λA₁ + (1 − λ)A₂)⁻¹ (λA₁m₁ + (1 − λ)A₂m₂), λ from 1 to 0. The front is convex.

    angle: between the long axes of the two bowls, in degrees, from 0 (the same shape) to 180; they lie at ± angle / 2
    to the x1 axis. conditioning: κ ≥ 1, the ratio of each bowl's eigenvalues; 1 is round.

    Raises: ParetoError for an angle or a conditioning out of range, and as `Objectives` does.
    """

    name = "quadratics"
    title = "Two convex quadratics"
    kernel = staticmethod(quadratics)
    bounds = ((-3.0, 3.0), (-3.0, 3.0))
    usual_starts = ((-2.5, 2.0), (0.0, 2.6), (2.5, 1.0), (-1.5, -2.2), (2.0, -2.0))

    angle: float = 90.0
    conditioning: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("angle", "conditioning"):
            object.__setattr__(self, name, checked_number(f"quadratics: {name}", getattr(self, name)))
        if not 0.0 <= self.angle <= 180.0:
            raise ParetoError(f"quadratics: angle must be in [0, 180] degrees, got {self.angle!r}")
        if not 1.0 <= self.conditioning <= 1e6:
            raise ParetoError(f"quadratics: conditioning must be in [1, 1e6], got {self.conditioning!r}")

    def constants(self) -> Floats:
        """m_t and the entries 11, 12, 22 of A_t, one loss after the other (10,)."""
        minima, shapes = self._bowls()
        return np.concatenate([[*minima[t], shapes[t, 0, 0], shapes[t, 0, 1], shapes[t, 1, 1]] for t in range(2)])

    def set_at(self, t: Floats) -> Floats:
        """Points (n, 2) at λ = ½ (1 + tanh(b (1 − 2t)) / tanh b), b = ½ log κ: even steps of λ would leap over all of a
        steep bowl's front but its ends."""
        minima, shapes = self._bowls()
        bend = max(0.5 * np.log(self.conditioning), 1e-3)
        across = np.tanh(bend * (1.0 - 2.0 * np.asarray(t, dtype=np.float64))) / np.tanh(bend)
        share = 0.5 * np.stack([1.0 + across, 1.0 - across], axis=-1)
        system = np.einsum("nt,tij->nij", share, shapes)
        right = np.einsum("nt,tij,tj->ni", share, shapes, minima)
        return np.linalg.solve(system, right[..., None])[..., 0]

    def _bowls(self) -> tuple[Floats, Floats]:
        """The minima (2, 2) and the matrices A (2, 2, 2)."""
        half = np.radians(self.angle) / 2.0
        widths = np.diag([self.conditioning**-0.5, self.conditioning**0.5])  # the long axis is the flat one
        turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (half, -half)]
        return np.array([[APART, 0.0], [-APART, 0.0]]), np.stack([turn @ widths @ turn.T for turn in turns])
