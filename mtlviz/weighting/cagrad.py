"""CAGrad: of all directions near the mean gradient, the one that does best by the worst task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.conflict_averse import conflict_averse, of_two


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, c: float, pull: Floats) -> None:
    """Writes v (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    if len(tasks) > 0:
        pull[tasks] = conflict_averse(among(gramian, tasks), c)


@kernel
def cagrad(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """(1/T + v) / scale of the tasks that are present, Jᵀv the pull towards the worst. constants: c, scale."""
    weights = np.zeros(len(losses))
    if not (both(present) and of_two(gramian, constants[0], weights)):
        _among_present(gramian, present, constants[0], weights)
    count = present.sum()
    for t in range(len(losses)):
        if present[t]:
            weights[t] = (1.0 / count + weights[t]) / constants[1]
    return weights


class CAGrad(Weighting):
    """Conflict-averse descent: d maximises min_t g_t·d over the ball ‖d − g₀‖ ≤ c ‖g₀‖ round the mean gradient g₀.

    The weights are 1/T + c ‖g₀‖ w / ‖g_w‖ with w = argmin g_w·g₀ + c ‖g₀‖ ‖g_w‖ over the simplex, g_w = Jᵀw, and T
    the number of tasks present: d keeps the scale of a mean, Σ weights ≥ 1. One task: weight 1 + c. The heads get the
    gradient of Σ L_t.

    Where g_w = 0 (the tasks are Pareto stationary, or one has a zero gradient) the formula is 0/0, and many d of the
    ball are equally good. d is then the one of them that is nearest to g₀, DualProj's. Weights that the Gramian's
    rounding cannot tell from that case count as it (‖g_w‖ ≤ 1e-7 Σ w_t ‖g_t‖, or ‖g_w‖² < 0 by rounding); d never
    leaves the ball. g₀ = 0: weights 1/T, d = 0.

    c: 0 is the mean gradient, 1 excluded; the larger, the nearer to MGDA. rescale: 0 leaves d as it is, 1 divides it by
    1 + c², 2 by 1 + c.

    Raises: WeightingError for a c outside [0, 1) or another rescale.
    Source: Liu, Liu, Jin, Stone and Liu, NeurIPS 2021, arXiv 2110.14048, Algorithm 1. Differs: solved exactly, where
    the authors' code takes a general optimiser with 1e-8 under every root; at g_w = 0 that code returns g₀, TorchJD 0.
    c = 0.4 is the authors' value for NYUv2 and the default of the nash-mtl code, which divides d by 1 + c² and
    multiplies it by T; LibMTL has c = 0.5. No rescaling by default, as in Algorithm 1.
    """

    name = "cagrad"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(cagrad)

    def __init__(self, *, c: float = 0.4, rescale: int = 0) -> None:
        super().__init__()
        if not 0.0 <= c < 1.0:
            raise WeightingError(f"cagrad: c must be in [0, 1), got {c!r}")
        if isinstance(rescale, bool) or rescale not in (0, 1, 2):
            raise WeightingError(f"cagrad: rescale must be 0, 1 or 2, got {rescale!r}")
        self.c, self.rescale = float(c), int(rescale)

    def constants(self) -> Floats:
        """c, and what d is divided by."""
        return np.array([self.c, (1.0, 1.0 + self.c**2, 1.0 + self.c)[self.rescale]])

    def settings(self) -> dict[str, Any]:
        """c and rescale."""
        return {"c": self.c, "rescale": self.rescale}
