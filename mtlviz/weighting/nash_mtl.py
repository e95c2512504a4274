"""Nash-MTL: the weights are the bargaining solution, at which every task gains its own share of the update."""

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
def _among_present(gramian: Floats, present: Mask, every: float, state: Floats, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present, anew or those kept in `state`."""
    tasks = np.nonzero(present)[0]
    if len(tasks) == 0:
        return
    if every <= 1.0:
        weights[tasks] = fair_weights(among(gramian, tasks), 1.0)
        return
    if state[1][tasks].min() <= 0.0:
        state[0][tasks] = fair_weights(among(gramian, tasks), 1.0)
        state[1][tasks] = every
    state[1][tasks] -= 1.0
    weights[tasks] = state[0][tasks]


@njit(cache=True)
def _shorten(gramian: Floats, max_norm: float, weights: Floats) -> None:
    """Divides the weights (T,), 0 for absent tasks, so that ‖Jᵀw‖ is at most max_norm."""
    squared = 0.0
    for i in range(len(weights)):
        for j in range(len(weights)):
            if weights[i] > 0.0 and weights[j] > 0.0:
                squared += gramian[i, j] * weights[i] * weights[j]
    norm = np.sqrt(max(squared, 0.0))
    if norm > max_norm:
        weights *= max_norm / norm


@kernel
def nash_mtl(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """The α > 0 with α_t (G α)_t = 1 of the tasks that are present. constants: every, max_norm (0: no limit).

    state (2, T) where every > 1: the last α, and for how many more steps it serves.
    """
    weights = np.zeros(len(losses))
    if not (constants[0] <= 1.0 and both(present) and of_two(gramian, 1.0, weights)):
        _among_present(gramian, present, constants[0], state, weights)
    if constants[1] > 0.0:
        _shorten(gramian, constants[1], weights)
    return weights


class NashMTL(Weighting):
    """The Nash bargaining solution: the α > 0 with α_t (G α)_t = 1, so that the tasks share the update equally.

    The direction d = Jᵀα does not change when a loss is multiplied by a constant (α_t is divided by it), and
    ‖d‖² = T, the number of tasks present. The scale is the equation's own: no fixed sum. The heads get the gradient
    of Σ α_t L_t. Two tasks: α_t = 1 / (‖g_t‖ √(1 + cos)).

    A task with a zero gradient gets weight 0; the others bargain without it. Where the tasks are Pareto stationary (a
    combination of their gradients vanishes) no α exists: G then counts as G + 1e-12 · diag(G), in rare cases more, so
    that α_t ‖g_t‖ stays below 1e6 √T and d vanishes to rounding, while the heads' weights grow; see `fair_weights`.
    Heads that are stepped by plain SGD need `max_norm` or a clipped gradient then; Adam bears it.

    every: solve anew every so many steps; between them the last α serves on. A task that joins starts a new solution.
    max_norm: where ‖d‖ is longer, all weights shrink so that ‖d‖ is this; None: no limit.

    Raises: WeightingError for an `every` below 1 or a max_norm that is not positive and finite.
    Source: Navon et al., ICML 2022, arXiv 2202.01017, equation 3. Differs: the equation is solved to rounding by a
    damped Newton method, where the paper's sequence of convex problems stops early; no warm start. The authors' code
    clips the shared gradient to norm 1 (max_norm=1; its heads keep the unclipped α, here they follow): with an exact
    α that is a division by √T, so the default leaves it out.
    """

    name = "nash_mtl"
    needs = frozenset({"gramian"})
    heads = "weighted"
    kernel = staticmethod(nash_mtl)

    def __init__(self, *, every: int = 1, max_norm: float | None = None) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise WeightingError(f"nash_mtl: every must be a whole number of steps from 1, got {every!r}")
        if max_norm is not None and not (np.isfinite(max_norm) and max_norm > 0):
            raise WeightingError(f"nash_mtl: max_norm must be positive and finite, or None, got {max_norm!r}")
        self.every, self.max_norm = every, None if max_norm is None else float(max_norm)

    def constants(self) -> Floats:
        """every, and max_norm or 0."""
        return np.array([float(self.every), self.max_norm or 0.0])

    def initial_state(self, tasks: int) -> Floats:
        """(2, T) zeros where weights are kept for later steps, else nothing."""
        return np.zeros((2 if self.every > 1 else 0, tasks))

    def settings(self) -> dict[str, Any]:
        """every and max_norm."""
        return {"every": self.every, "max_norm": self.max_norm}
