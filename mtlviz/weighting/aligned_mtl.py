"""Aligned-MTL: the gradients' principal components, all made equally long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.preference import PreferenceWeighting, preferred, preferred_of_two
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.linear import dot, two_unit_rows, unit_rows
from mtlviz.weighting.solvers.symmetric_eigen import symmetric_eigen

Scale = Literal["min", "median", "rmse"]

_DEPENDENT = 1e-14  # of the squared sine of two gradients: below, `symmetric_eigen` says whether they are


@njit(cache=True)
def _of_two(gramian: Floats, scale: float, tolerance: float, preference: Floats, weights: Floats) -> bool:
    """Writes √σ G^(−1/2) p, G^(−1/2) = (adj G + √det G) / √(det G (tr G + 2 √det G)), or where λ₂ does not count vvᵀp.

    v ∝ (G₁₁ − λ₂, G₁₂), G₁₁ ≥ G₂₂, is the eigenvector of λ₁. False, and nothing written, where a gradient is zero,
    where rounding decides whether λ₂ counts, and where not even λ₁ does.
    """
    cosine, first, second = two_unit_rows(gramian)
    if not (first > 0.0 and second > 0.0 and tolerance < 0.5):
        return False
    one, other = preferred_of_two(preference)
    a, b, product = first * first, second * second, cosine * first * second
    squared = (1.0 - cosine) * (1.0 + cosine)  # of the sine
    root = first * second * np.sqrt(squared)  # of the determinant
    high = 0.5 * (a + b + np.sqrt((a - b) ** 2 + 4.0 * product * product))
    low = root * root / high
    if low <= 2.0 * tolerance * high:
        long = max(a, b) - low
        x, y = (long, product) if a >= b else (product, long)
        part = (x * one + y * other) / (x * x + y * y)
        weights[0], weights[1] = part * x, part * y
        return True
    if squared < _DEPENDENT:
        return False
    sigma = 0.5 * (a + b) if scale == 2.0 else low
    factor = np.sqrt(sigma / (a + b + 2.0 * root)) / root
    weights[0] = factor * ((b + root) * one - product * other)
    weights[1] = factor * ((a + root) * other - product * one)
    return True


@njit(cache=True)
def _among_present(
    gramian: Floats, present: Mask, scale: float, tolerance: float, preference: Floats, weights: Floats
) -> None:
    """Writes the weights (T,) of the tasks that are present."""
    tasks = np.nonzero(present)[0]
    count = len(tasks)
    if count == 0:
        return
    chosen = preferred(preference, present)
    scaled, lengths = unit_rows(among(gramian, tasks))
    for i in range(count):
        for j in range(count):
            scaled[i, j] *= lengths[i] * lengths[j]
    values, vectors = symmetric_eigen(scaled)
    rank = 0
    while rank < len(values) and values[rank] > count * tolerance * values[0]:
        rank += 1
    if rank == 0:
        weights[tasks] = chosen
        return
    sigma = values[rank - 1]
    if scale == 1.0:
        sigma = values[rank // 2]
    elif scale == 2.0:
        sigma = values[:rank].mean()
    for k in range(rank):
        part = np.sqrt(sigma / values[k]) * dot(vectors[k], chosen)
        for i in range(count):
            weights[tasks[i]] += part * vectors[k, i]


@kernel
def aligned_mtl(
    losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats
) -> Floats:
    """√σ V Λ^{−1/2} Vᵀ p of the tasks that are present. constants: place of σ's mode in Scale, tolerance, p or none."""
    weights = np.zeros(len(losses))
    scale, tolerance, preference = constants[0], constants[1], constants[2:]
    if not (both(present) and _of_two(gramian, scale, tolerance, preference, weights)):
        _among_present(gramian, present, scale, tolerance, preference, weights)
    return weights


class AlignedMTL(PreferenceWeighting):
    """Independent component alignment: w = √σ V Λ^{−1/2} Vᵀ p, from G = V Λ Vᵀ.

    The aligned gradients √σ Λ^{−1/2} … J have singular values that are all √σ, so the linear system they span has
    condition 1, and d is their mean under p. A weight may be negative. The weights have the method's own scale: for
    orthogonal gradients of one length they are p. The heads get the gradient of Σ L_t.

    Only the R eigenvalues above tolerance · T · λ_max count, so a zero gradient gets weight 0, and duplicates share
    one component. Where all gradients are zero w = p.

    scale: σ is the least of the R eigenvalues ("min", the paper's), the median ("median", the lower of two middle
    ones), or their mean ("rmse"). tolerance: of the rank. By default it is 1.2e-7, the spacing of single-precision
    floats, as in the authors' code: gradients in single precision that depend on each other leave eigenvalues below
    it. So a task whose gradient is shorter than about √(1.2e-7 T) of the longest gets next to no weight; a smaller
    tolerance counts it.
    preference: p (T,), numbers from 0; None for 1/T of the tasks present.

    Raises: WeightingError for an unknown scale, a tolerance outside [0, 1), or a preference that is not finite numbers
    from 0, or not one for each task.
    Source: Senushkin, Patakin, Kuznetsov and Konushin, CVPR 2023, arXiv 2305.19000, Algorithm 1. Differs: the
    eigenvalues come from Jacobi rotations, exact to their own size; where the paper sums, the mean (p = 1/T) as
    TorchJD takes it. TorchJD's tolerance is the spacing of the Gramian's own floats; the authors' and LibMTL's is
    that of torch's default, which are single.
    """

    name = "aligned_mtl"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(aligned_mtl)

    def __init__(
        self,
        *,
        scale: Scale = "min",
        tolerance: float = float(np.finfo(np.float32).eps),
        preference: Sequence[float] | Floats | None = None,
    ) -> None:
        super().__init__(preference=preference)
        if scale not in get_args(Scale):
            raise WeightingError(f"aligned_mtl: scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")
        if not 0 <= tolerance < 1:
            raise WeightingError(f"aligned_mtl: tolerance must be in [0, 1), got {tolerance!r}")
        self.scale, self.tolerance = scale, float(tolerance)

    def constants(self) -> Floats:
        """The scale's place in its list, the tolerance, and the preference (T,) or nothing."""
        return np.concatenate([[float(get_args(Scale).index(self.scale)), self.tolerance], super().constants()])

    def settings(self) -> dict[str, Any]:
        """scale, tolerance and preference."""
        return {"scale": self.scale, "tolerance": self.tolerance} | super().settings()
