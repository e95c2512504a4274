"""Figures of a run: each function draws the frame of the analysis that bears its name, and computes nothing."""

from mtlviz.figures.conflict import conflict_matrix, conflict_rate, layer_conflict
from mtlviz.figures.curves import gradient_norms, losses, rate_variance, relative_rates, shares, weights
from mtlviz.figures.validation import validations

__all__ = [
    "conflict_matrix",
    "conflict_rate",
    "gradient_norms",
    "layer_conflict",
    "losses",
    "rate_variance",
    "relative_rates",
    "shares",
    "validations",
    "weights",
]
