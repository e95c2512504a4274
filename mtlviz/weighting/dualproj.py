"""DualProj: the mean gradient, turned until it harms no task."""

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
    """Writes w_t = max(p_t, −cos p_s ‖g_s‖ / ‖g_t‖), s the other task; p_t for a zero gradient."""
    cosine, first, second = two_unit_rows(gramian)
    weights[0], weights[1] = one, other = preferred_of_two(preference)
    if first > 0.0 and second > 0.0:
        weights[0] = max(turned(cosine, one * first, other * second) / first, one)
        weights[1] = max(turned(cosine, other * second, one * first) / second, other)


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, preference: Floats, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    if len(tasks) == 0:
        return
    chosen = preferred(preference, present)
    cosines, lengths = unit_rows(among(gramian, tasks))
    y = dual_cone(cosines, chosen * lengths)
    for i in range(len(tasks)):
        weights[tasks[i]] = chosen[i]
        if lengths[i] > 0.0:
            weights[tasks[i]] = max(y[i] / lengths[i], chosen[i])  # the division must not fall below p by rounding


@kernel
def dualproj(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """argmin of vᵀGv over v ≥ p, for the tasks that are present. constants: p (T,) or none."""
    weights = np.zeros(len(losses))
    if both(present):
        _of_two(gramian, constants, weights)
    else:
        _among_present(gramian, present, constants, weights)
    return weights


class DualProj(PreferenceWeighting):
    """d = π(Σ_t p_t g_t), π the projection onto the dual cone {d: J d ≥ 0}: the nearest direction that harms no task.

    w ≥ p, and w = p where the mean gradient conflicts with no task: the sum is 1 there and more with conflict, the
    method's own scale. The heads get the gradient of Σ L_t.

    A task with a zero gradient keeps the weight p_t, which adds nothing to d. Opposite gradients cancel to d = 0.
    Where gradients depend on each other d is still unique and the weights are not: they rest on independent ones.

    preference: p (T,), numbers from 0; None for 1/T of the tasks present.

    Raises: WeightingError for a preference that is not finite numbers from 0, or not one for each task.
    Source: Lopez-Paz and Ranzato, NeurIPS 2017, arXiv 1706.08840, equation 11 (there against the gradients of past
    tasks, a memory); for the tasks of a step, Quinton and Rey, 2024, arXiv 2406.16232. Differs: the quadratic program
    is solved exactly, without the ridge or the margin of the field's code.
    """

    name = "dualproj"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(dualproj)
