"""UPGrad: each task's gradient, turned until it harms no task, and their mean."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.preference import PreferenceWeighting, preferred, preferred_of_two
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.dual_cone import dual_cone, turned
from mtlviz.weighting.solvers.linear import two_unit_rows, unit_rows


@njit(cache=True)
def _of_two(gramian: Floats, preference: Floats, weights: Floats) -> None:
    """Writes w_t = p_t + max(0, −cos) p_s ‖g_s‖ / ‖g_t‖, s the other task."""
    cosine, first, second = two_unit_rows(gramian)
    weights[0], weights[1] = one, other = preferred_of_two(preference)
    turn = turned(cosine, 0.0, 1.0)
    if turn > 0.0:
        weights[0] += other * turn * (second / first)
        weights[1] += one * turn * (first / second)


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, preference: Floats, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    count = len(tasks)
    if count == 0:
        return
    chosen = preferred(preference, present)
    cosines, lengths = unit_rows(among(gramian, tasks))
    least = np.zeros(count)
    for t in range(count):
        if lengths[t] == 0.0:
            weights[tasks[t]] += chosen[t]
            continue
        least[t] = 1.0
        y = dual_cone(cosines, least)  # of the gradient at length 1; its own length and preference come back here
        least[t] = 0.0
        for i in range(count):
            if y[i] > 0.0:
                weights[tasks[i]] += chosen[t] * y[i] * (lengths[t] / lengths[i])


@kernel
def upgrad(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """Σ_t v⁽ᵗ⁾, v⁽ᵗ⁾ = argmin of vᵀGv over v ≥ p_t e_t, for the tasks that are present. constants: p (T,) or none."""
    weights = np.zeros(len(losses))
    if both(present):
        _of_two(gramian, constants, weights)
    else:
        _among_present(gramian, present, constants, weights)
    return weights


class UPGrad(PreferenceWeighting):
    """Unconflicting projection of gradients: d = Σ_t p_t π(g_t), π the projection onto the dual cone {d: J d ≥ 0}.

    No task gets worse to first order, d·g_t ≥ 0, and d is linear in the length of each gradient. Of T tasks with no
    conflict the weights are p, so their sum is 1 there and more with conflict: the paper's own scale. The heads get
    the gradient of Σ L_t.

    A task with a zero gradient keeps the weight p_t, which adds nothing to d. Opposite gradients cancel to d = 0.
    Where gradients depend on each other d is still unique and the weights are not: they rest on independent ones.

    preference: p (T,), numbers from 0; None for 1/T of the tasks present, the paper's mean.

    Raises: WeightingError for a preference that is not finite numbers from 0, or not one for each task.
    Source: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, 2024, arXiv 2406.16232, section 2.2 and
    Proposition 1. Differs: the quadratic programs are solved exactly, without the ridge of the authors' code.
    """

    name = "upgrad"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(upgrad)
