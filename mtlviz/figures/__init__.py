"""Figures of a run: each function draws the frame of the analysis that bears its name, and computes nothing."""

from mtlviz.figures.affinity import affinity
from mtlviz.figures.capacity import capacity_curves
from mtlviz.figures.conflict import conflict_matrix, conflict_rate, layer_conflict
from mtlviz.figures.convergence import convergence
from mtlviz.figures.convergence_study import convergence_changes, convergence_curves
from mtlviz.figures.covariance import covariance_alignment, covariance_scores, covariance_spectra
from mtlviz.figures.curves import gradient_norms, losses, rate_variance, relative_rates, shares, weights
from mtlviz.figures.effective import effective_change
from mtlviz.figures.equity import equity, equity_map
from mtlviz.figures.noise import conflict_test, noise_floor
from mtlviz.figures.pareto import pareto_trajectories
from mtlviz.figures.pareto_directions import update_directions
from mtlviz.figures.rate_balance import rate_balance
from mtlviz.figures.remedies import remedy_changes
from mtlviz.figures.replay import improvement_share, predicted_changes, weights_side_by_side
from mtlviz.figures.sources import source_differences
from mtlviz.figures.three_task import three_task
from mtlviz.figures.three_task_accuracy import three_task_accuracy, three_task_turns
from mtlviz.figures.timeline import timeline
from mtlviz.figures.transfer import transfer_gains
from mtlviz.figures.transfer_prediction import transfer_prediction
from mtlviz.figures.validation import validations

__all__ = [
    "affinity",
    "capacity_curves",
    "conflict_matrix",
    "conflict_rate",
    "conflict_test",
    "convergence",
    "convergence_changes",
    "convergence_curves",
    "covariance_alignment",
    "covariance_scores",
    "covariance_spectra",
    "effective_change",
    "equity",
    "equity_map",
    "gradient_norms",
    "improvement_share",
    "layer_conflict",
    "losses",
    "noise_floor",
    "pareto_trajectories",
    "predicted_changes",
    "rate_balance",
    "rate_variance",
    "relative_rates",
    "remedy_changes",
    "shares",
    "source_differences",
    "three_task",
    "three_task_accuracy",
    "three_task_turns",
    "timeline",
    "transfer_gains",
    "transfer_prediction",
    "update_directions",
    "validations",
    "weights",
    "weights_side_by_side",
]
