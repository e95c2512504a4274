"""Equal weights: the plain sum of the losses."""

from __future__ import annotations

import numpy as np

from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask, kernel
from mtlviz.weighting.method import Weighting


@kernel
def equal(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """w_t = 1 for every task that is present."""
    weights = np.empty(len(present))
    for t in range(len(present)):
        weights[t] = 1.0 if present[t] else 0.0
    return weights


class Equal(Weighting):
    """Linear scalarisation with w_t = 1: the sum of the losses, dominated by those of large scale.

    The heads get the gradient of Σ L_t, which is the same here as that of Σ w_t L_t.

    Source: called LS in Navon et al., ICML 2022, arXiv 2202.01017, whose code sums the losses too.
    """

    name = "equal"
    needs = frozenset({"losses"})
    heads = "sum"
    kernel = staticmethod(equal)
