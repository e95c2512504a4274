"""BanditMTL: an adversary moves weight to the tasks with large losses, inside a KL ball around equal weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.solvers.kl_ball import advance, notes_where_idle, shares, uniform


@kernel
def bandit_mtl(
    losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats
) -> Floats:
    """w = p, then one step of mirror ascent on p. constants: ρ, η. state (1, T): log p."""
    weights = shares(state[0], present)
    advance(state[0], constants[1] * losses, present, constants[0])
    return weights


class BanditMTL(Weighting):
    """min over θ, max over p of Σ p_t L_t, p in the ball KL(p‖1/T) ≤ ρ: a surrogate for the mean loss plus √(2ρ Var).

    Each step weighs with the p of the step before, and then p moves by one step of mirror ascent on this step's losses,
    p_t ∝ (p_t exp(η L_t))^{1/(1+λ)}, with the exact λ ≥ 0 that keeps p in the ball. The first weights are equal.
    Weights sum to 1: w = p (the public code divides by T as well). The heads get the gradient of Σ w_t L_t.
    It favours tasks of large loss scale. With tasks absent, the others share out what p they have together.

    rho: ρ ≥ 0, the radius of the ball; 0 keeps p equal. **ρ ≥ log T does not constrain p at all**, so that p drifts to
    one task (log 2 = 0.69, log 3 = 1.10, log 4 = 1.39): a UserWarning says so on the first step of such a run.
    eta: η > 0, the step size on p, per unit of loss.

    Raises: WeightingError for a ρ that is negative or an η that is not positive, or either not finite.
    Source: Mao, Wang, Liu, Lin and Hu, BanditMTL, ACL 2021, 2021.acl-long.428, Algorithms 1 and 2.
    Differs: read off public code, whose defaults ρ = 1.2 and η = 0.5 are kept. λ is solved to rounding, and in log p,
    so that large losses neither overflow nor take a task's weight for good: no log p falls below −700.
    """

    name = "bandit_mtl"
    needs = frozenset({"losses"})
    heads = "weighted"
    kernel = staticmethod(bandit_mtl)

    def __init__(self, *, rho: float = 1.2, eta: float = 0.5) -> None:
        super().__init__()
        if not (np.isfinite(rho) and rho >= 0):
            raise WeightingError(f"bandit_mtl: rho must be finite and not negative, got {rho!r}")
        if not (np.isfinite(eta) and eta > 0):
            raise WeightingError(f"bandit_mtl: eta must be positive and finite, got {eta!r}")
        self.rho, self.eta = float(rho), float(eta)

    def constants(self) -> Floats:
        """ρ, η."""
        return np.array([self.rho, self.eta])

    def initial_state(self, tasks: int) -> Floats:
        """(1, T): log p of equal probabilities."""
        return uniform(tasks)

    def notes(self, tasks: int) -> tuple[str, ...]:
        """That ρ does not constrain p, where so."""
        return notes_where_idle(self.name, self.rho, tasks)

    def settings(self) -> dict[str, Any]:
        """rho and eta."""
        return {"rho": self.rho, "eta": self.eta}
