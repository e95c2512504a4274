"""FairGrad: the weights at which the update is α-fair to the tasks, from equal gains to max-min."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.fairness import fair_weights
from mtlviz.weighting.solvers.fairness_of_two import of_two


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, power: float, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    if len(tasks) > 0:
        weights[tasks] = fair_weights(among(gramian, tasks), power)


@kernel
def fairgrad(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """The w > 0 with (G w)_t = w_t^(−1/α) of the tasks that are present. constants: α."""
    weights = np.zeros(len(losses))
    if not (both(present) and of_two(gramian, 1.0 / constants[0], weights)):
        _among_present(gramian, present, 1.0 / constants[0], weights)
    return weights


class FairGrad(Weighting):
    """The α-fair update: the w > 0 with (G w)_t = w_t^(−1/α), that is, w_t = (g_t · d)^(−α) for d = Jᵀw.

    The smaller a task's gain g_t · d, the larger its weight, the more so the larger α: α = 1 is Nash-MTL (proportional
    fairness), α = 2 the least potential delay, α → 0 equal weights, α → ∞ the max-min. The scale is the equation's
    own: no fixed sum. The heads get the gradient of Σ w_t L_t.

    A task with a zero gradient gets weight 0. Where the tasks are Pareto stationary no w exists: G then counts as
    G + 1e-12 · diag(G), in rare cases more, so that w stays finite and d vanishes to rounding; see `fair_weights`.

    alpha: α, from 0.5 to 5; beyond, gradients of very unequal lengths give weights that no float can hold.

    Raises: WeightingError for an alpha outside that.
    Source: Ban and Ji, ICML 2024, arXiv 2402.15638, equation 4. Differs: solved to rounding by a damped Newton method
    on the convex problem behind the equation, where the authors' code takes a least-squares fit. α = 2 by default, as
    in the authors' runs; the default of their class and of LibMTL, 1, would repeat Nash-MTL. As in LibMTL the heads
    are weighted; the authors' code gives them Σ L_t, multiplies the shared gradient by T and clips it to norm 1.
    """

    name = "fairgrad"
    needs = frozenset({"gramian"})
    heads = "weighted"
    kernel = staticmethod(fairgrad)

    def __init__(self, *, alpha: float = 2.0) -> None:
        super().__init__()
        if not 0.5 <= alpha <= 5.0:
            raise WeightingError(f"fairgrad: alpha must be from 0.5 to 5, got {alpha!r}")
        self.alpha = float(alpha)

    def constants(self) -> Floats:
        """α."""
        return np.array([self.alpha])

    def settings(self) -> dict[str, Any]:
        """alpha."""
        return {"alpha": self.alpha}
