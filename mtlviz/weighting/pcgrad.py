"""PCGrad: each task's gradient loses its part against every other, one after the other in a random order."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.linear import two_unit_rows, unit_rows

Reduction = Literal["sum", "mean"]


@njit(cache=True)
def _of_two(gramian: Floats, weights: Floats) -> None:
    """Writes w_i = 1 + max(0, −cos) ‖g_j‖ / ‖g_i‖."""
    cosine, first, second = two_unit_rows(gramian)
    weights[0] = weights[1] = 1.0
    if cosine < 0.0:
        weights[0] -= cosine * (second / first)
        weights[1] -= cosine * (first / second)


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, draws: Floats, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    count = len(tasks)
    if count == 0:
        return
    cosines, lengths = unit_rows(among(gramian, tasks))
    others = np.empty(count - 1, np.intp)
    share = np.empty(count)  # v_i = ‖g_i‖ Σ_j share_j u_j
    products = np.empty(count)  # v_i·u_j / ‖g_i‖
    for i in range(count):
        for k in range(count - 1):
            others[k] = k + (k >= i)
        share[:] = 0.0
        share[i] = 1.0
        products[:] = cosines[i]
        for n in range(count - 1):
            chosen = n + int(draws[tasks[i] * (len(present) - 1) + n] * (count - 1 - n))
            j, others[chosen] = others[chosen], others[n]
            against = products[j]
            if against < 0.0:
                share[j] -= against
                for k in range(count):
                    products[k] -= against * cosines[j, k]
        weights[tasks[i]] += 1.0
        for j in range(count):
            if j != i and share[j] > 0.0:
                weights[tasks[j]] += share[j] * (lengths[i] / lengths[j])


@kernel
def pcgrad(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """The weights of Σ_i v_i, v_i the projected gradient of task i. constants: 1 for the mean, 0 for the sum.

    draws (T (T − 1),): T − 1 for task i; each picks the next among the others that are still to come.
    """
    weights = np.zeros(len(losses))
    if both(present):
        _of_two(gramian, weights)
    else:
        _among_present(gramian, present, draws, weights)
    if constants[0] == 1.0:
        weights /= max(present.sum(), 1)
    return weights


class PCGrad(Weighting):
    """Gradient surgery: task i starts from g_i and, for every other task j in random order, drops its part against g_j.

    v ← v − (v·g_j / ‖g_j‖²) g_j where v·g_j < 0, g_j as it was; d = Σ_i v_i. A later projection may bring back a
    conflict that an earlier one removed, so that d may still harm a task from T = 3 on. The weights are 1 or more, 1
    without conflict: the paper's sum. The heads get the gradient of Σ L_t.

    Two tasks leave nothing to chance. Opposite gradients give d = 0. A zero gradient conflicts with none: its own
    weight is 1, which adds nothing to d.

    reduction: "sum", or "mean" to divide by the number of tasks present.

    Raises: WeightingError for an unknown reduction.
    Source: Yu, Kumar, Gupta, Levine, Hausman and Finn, NeurIPS 2020, arXiv 2001.06782, Algorithm 1.
    """

    name = "pcgrad"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(pcgrad)

    def __init__(self, *, reduction: Reduction = "sum") -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise WeightingError(f"pcgrad: reduction must be sum or mean, got {reduction!r}")
        self.reduction = reduction

    def constants(self) -> Floats:
        """1 for the mean, 0 for the sum."""
        return np.array([float(self.reduction == "mean")])

    def draws(self, tasks: int) -> int:
        """T (T − 1): an order of the other tasks for each."""
        return tasks * (tasks - 1)

    def settings(self) -> dict[str, Any]:
        """The reduction."""
        return {"reduction": self.reduction}
