"""What a run log says: each function takes a log (or one of its frames) and returns a new frame, named after it."""

from mtlviz.analysis.affinity import affinity, affinity_curves
from mtlviz.analysis.capacity import capacity_curves, capacity_rule
from mtlviz.analysis.comparison import delta_m, mean_rank, method_table
from mtlviz.analysis.conflict import conflict_matrix, conflict_rate, layer_conflict
from mtlviz.analysis.convergence import convergence, replay_events
from mtlviz.analysis.covariance import (
    covariance_alignment,
    covariance_cosine,
    covariance_scores,
    covariance_similarity,
    covariance_spectra,
)
from mtlviz.analysis.curves import gradient_norms, losses, rate_variance, relative_rates, shares, weights
from mtlviz.analysis.effective import effective_change
from mtlviz.analysis.noise import conflict_test, noise_floor
from mtlviz.analysis.recent import recent
from mtlviz.analysis.remedies import remedy_changes
from mtlviz.analysis.replay import replay
from mtlviz.analysis.summary import run_summary, task_table
from mtlviz.analysis.timeline import timeline
from mtlviz.analysis.transfer import transfer_gains, transfer_matrix
from mtlviz.analysis.transfer_prediction import rank_correlations, transfer_prediction
from mtlviz.analysis.validation import validations
from mtlviz.analysis.what_if import improvement_share, predicted_changes, replayed_weights

__all__ = [
    "affinity",
    "affinity_curves",
    "capacity_curves",
    "capacity_rule",
    "conflict_matrix",
    "conflict_rate",
    "conflict_test",
    "convergence",
    "covariance_alignment",
    "covariance_cosine",
    "covariance_scores",
    "covariance_similarity",
    "covariance_spectra",
    "delta_m",
    "effective_change",
    "gradient_norms",
    "improvement_share",
    "layer_conflict",
    "losses",
    "mean_rank",
    "method_table",
    "noise_floor",
    "predicted_changes",
    "rank_correlations",
    "rate_variance",
    "recent",
    "relative_rates",
    "remedy_changes",
    "replay",
    "replay_events",
    "replayed_weights",
    "run_summary",
    "shares",
    "task_table",
    "timeline",
    "transfer_gains",
    "transfer_matrix",
    "transfer_prediction",
    "validations",
    "weights",
]
