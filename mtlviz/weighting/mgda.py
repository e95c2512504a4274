"""MGDA: the convex combination of the task gradients that is shortest."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.linear import unit_rows
from mtlviz.weighting.solvers.min_norm import min_norm, of_two

Normalization = Literal["none", "l2", "loss", "loss+"]


@njit(cache=True)
def _normalised(gramian: Floats, losses: Floats, by_length: bool, by_loss: bool) -> Floats:
    """The Gramian (n, n) of the gradients over their length, their loss, or both, up to one factor for all.

    A zero gradient stays zero.
    """
    scaled, lengths = unit_rows(gramian)
    for i in range(len(losses)):
        if by_length and lengths[i] > 0.0:
            lengths[i] = 1.0
        if by_loss:
            lengths[i] *= losses.min() / losses[i]
    for i in range(len(losses)):
        for j in range(len(losses)):
            scaled[i, j] *= lengths[i] * lengths[j]
    return scaled


@njit(cache=True)
def _among_present(losses: Floats, gramian: Floats, present: Mask, normalisation: float, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    if len(tasks) == 0:
        return
    chosen = among(gramian, tasks)
    if normalisation != 0.0:
        chosen = _normalised(chosen, losses[tasks], normalisation != 2.0, normalisation >= 2.0)
    weights[tasks] = min_norm(chosen)


@kernel
def mgda(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """argmin of wᵀGw over w ≥ 0, Σw = 1 of the tasks that are present, G of the gradients as they are normalised.

    constants: the normalisation's place in its list.
    """
    weights = np.zeros(len(losses))
    if constants[0] == 0.0 and both(present):
        of_two(gramian, weights)
    else:
        _among_present(losses, gramian, present, constants[0], weights)
    return weights


class MGDA(Weighting):
    """The multiple-gradient descent algorithm: w = argmin wᵀGw on the simplex (Σw = 1).

    The direction d = Jᵀw descends on every task, d·g_t ≥ ‖d‖², and vanishes only where the tasks are Pareto
    stationary. It leans to tasks with small gradients; one task with a zero gradient takes all the weight and stops
    the trunk altogether, under every normalisation. The heads get the gradient of Σ w_t L_t.

    normalization: what the gradients are divided by before w is sought: "none"; "l2", ‖g_t‖; "loss", L_t; "loss+",
    L_t ‖g_t‖. The w found so weights the losses as they are, as in the authors' code, so that J d ≥ 0 holds for the
    normalised gradients' combination and not always for d. The modes with a loss need losses above 0.

    Raises: WeightingError for an unknown normalization.
    Source: Désidéri, CRAS 350 (2012); Sener and Koltun, NeurIPS 2018, arXiv 1810.04650, equation 3; the
    normalisations are in the latter's code (isl-org/MultiObjectiveOptimization), not in the paper.
    Differs: the minimum is exact (Wolfe's active set); the papers' Frank–Wolfe stops early, and the code keeps the
    weights of two tasks within 0.001 and 0.999; the nash-mtl code makes Σw = T. As in the authors' code a head
    rests whose task has weight 0. A zero gradient stays zero where the code would divide 0 by 0.
    """

    name = "mgda"
    needs = frozenset({"gramian"})
    heads = "weighted"
    kernel = staticmethod(mgda)

    def __init__(self, *, normalization: Normalization = "none") -> None:
        super().__init__()
        if normalization not in get_args(Normalization):
            choices = ", ".join(get_args(Normalization))
            raise WeightingError(f"{self.name}: normalization must be one of {choices}, got {normalization!r}")
        self.normalization = normalization
        if normalization.startswith("loss"):
            self.positive = True
            self.needs = self.needs | {"losses"}

    def constants(self) -> Floats:
        """The normalisation's place in its list."""
        return np.array([float(get_args(Normalization).index(self.normalization))])

    def settings(self) -> dict[str, Any]:
        """The normalization."""
        return {"normalization": self.normalization}
