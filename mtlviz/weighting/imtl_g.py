"""IMTL-G: the direction that has the same projection on every task's gradient."""

from __future__ import annotations

import numpy as np
from numba import njit

from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, among, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.linear import two_unit_rows, unit_rows
from mtlviz.weighting.solvers.symmetric_eigen import symmetric_eigen

_RANK = 1e-11  # of T: gradients in single precision that depend on each other leave cosine eigenvalues of up to 3e-14
_CANCELLED = 1e-8  # a sum smaller than its terms by so much has lost half of its digits


@njit(cache=True)
def _of_two(gramian: Floats, weights: Floats) -> bool:
    """Writes w = (‖g₂‖, ‖g₁‖) / (‖g₁‖ + ‖g₂‖), or zeros for opposite gradients; false where one gradient is zero."""
    cosine, first, second = two_unit_rows(gramian)
    if not (first > 0.0 and second > 0.0):
        return False
    if 1.0 + cosine > 2.0 * _RANK:  # the eigenvalue whose vector is (1, 1)
        weights[0], weights[1] = second / (first + second), first / (first + second)
    return True


@njit(cache=True)
def _among_present(gramian: Floats, present: Mask, weights: Floats) -> None:
    """Writes the weights (T,) of the tasks that are present, where they can sum to 1."""
    tasks = np.nonzero(present)[0]
    count = len(tasks)
    if count == 0:
        return
    cosines, lengths = unit_rows(among(gramian, tasks))
    values, vectors = symmetric_eigen(cosines)
    y = np.zeros(count)  # C⁺ 1
    square = 0.0  # 1ᵀ C⁺ 1, the squared length of the direction Uᵀy
    for k in range(len(values)):
        if values[k] > _RANK * count:
            part = vectors[k].sum()
            y += part / values[k] * vectors[k]
            square += part * part / values[k]
    if square < _CANCELLED:
        return
    shortest = 1.0
    for i in range(count):
        if lengths[i] > 0.0:
            shortest = min(shortest, lengths[i])
    for i in range(count):  # times the shortest length, so that nothing overflows
        y[i] = y[i] * (shortest / lengths[i]) if lengths[i] > 0.0 else 0.0
    total = y.sum()
    if abs(total) > _CANCELLED * np.abs(y).sum():
        weights[tasks] = y / total


@kernel
def imtl_g(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """v / Σv with v = D⁻¹ C⁺ 1, G = D C D and D the gradients' lengths, for the tasks that are present."""
    weights = np.zeros(len(losses))
    if not (both(present) and _of_two(gramian, weights)):
        _among_present(gramian, present, weights)
    return weights


class IMTLG(Weighting):
    """Impartial gradients: d·u_t is the same for every task, u_t = g_t / ‖g_t‖, and Σw = 1.

    Weights may be negative. Where they can only sum to 1 with d pointing uphill on every task, they do, as the paper's
    two conditions ask. The heads get the gradient of Σ L_t: a negative weight would be ascent on a head.

    A task with a zero gradient has no u_t: it gets weight 0 and the others are as if it were away. Where no direction
    has equal projections (more gradients than dimensions, for one), d is along the least-squares solution of
    d·u_t = 1. All weights are 0, no step, where that solution is 0, as for opposite gradients, and where Σw = 1 would
    need weights above 1e8, or all gradients are zero. The unit gradients decide what is dependent (eigenvalues of the
    cosines up to 1e-11 T count as 0, above what gradients in single precision leave): a duplicate shares the projection
    evenly at any scale of its loss.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, Towards Impartial Multi-task Learning, ICLR 2021
    (OpenReview IMPnRXEWpvr), equation 6. Differs: the paper's inverse, which fails where gradients depend on each
    other, is a pseudo-inverse on the unit gradients; where the inverse exists both agree. The heads are the paper's
    and LibMTL's; the nash-mtl code weights them as well.
    """

    name = "imtl_g"
    needs = frozenset({"gramian"})
    heads = "sum"
    kernel = staticmethod(imtl_g)
