"""The metrics a task can be judged by, all on the scale of percentage points where a scale is ours to choose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import ProblemError, unknown

Direction = Literal["max", "min"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A named figure of merit: `value(outputs, targets)` of raw head outputs (N, ...) and targets (N, ...)."""

    name: str
    label: str
    direction: Direction
    value: Callable[[Array, Array], float]
    needs: str | None = None  # a module that `value` imports when it is first used


def accuracy(outputs: Array, targets: Array) -> float:
    """Percentage of right classes: argmax of (N, C) logits, or the sign of (N,) binary logits."""
    predicted = outputs.argmax(axis=1) if outputs.ndim > 1 and outputs.shape[1] > 1 else outputs.reshape(-1) > 0
    return 100.0 * float(np.mean(predicted == targets.reshape(predicted.shape)))


def pr_auc(outputs: Array, targets: Array) -> float:
    """Average precision × 100 of (N,) binary logits, or its mean over the classes of (N, C) logits that occur.

    Average precision is AP = Σ (R_n − R_{n−1}) P_n; NaN where the targets hold a single class.
    """
    from sklearn.metrics import average_precision_score

    return _over_classes(average_precision_score, outputs, targets)


def roc_auc(outputs: Array, targets: Array) -> float:
    """Area under the ROC curve × 100, binary or as a mean over classes like `pr_auc`; NaN for a single class."""
    from sklearn.metrics import roc_auc_score

    return _over_classes(roc_auc_score, outputs, targets)


def _over_classes(score: Callable[[Array, Array], float], outputs: Array, targets: Array) -> float:
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        truth, scores = [targets.reshape(-1) > 0.5], [outputs.reshape(-1)]
    else:
        classes = np.unique(targets)
        truth, scores = [targets == c for c in classes], [outputs[:, int(c)] for c in classes]
    values = [score(y, s) for y, s in zip(truth, scores, strict=True) if y.any() and not y.all()]
    return 100.0 * float(np.mean(values)) if values else math.nan


def jaccard(outputs: Array, targets: Array) -> float:
    """Multi-label accuracy in %: |predicted ∩ true| / |predicted ∪ true| of the labels of (N, C) logits above 0.

    The mean over the rows; a row with neither predicted nor true labels counts as right. The share of right labels
    says nothing where each row has a few of many: to predict none at all would be right for nearly all of them.

    Source: Godbole and Sarawagi, PAKDD 2004, who call it accuracy.
    """
    predicted, true = outputs > 0, targets > 0.5
    either = (predicted | true).sum(axis=1)
    both = (predicted & true).sum(axis=1)
    return 100.0 * float(np.mean(np.where(either > 0, both / np.maximum(either, 1), 1.0)))


def rmse(outputs: Array, targets: Array) -> float:
    """Root mean squared error, in the units of the target."""
    return float(np.sqrt(np.mean((outputs.reshape(targets.shape) - targets) ** 2)))


def mae(outputs: Array, targets: Array) -> float:
    """Mean absolute error, in the units of the target."""
    return float(np.mean(np.abs(outputs.reshape(targets.shape) - targets)))


def rmse_score(outputs: Array, targets: Array) -> float:
    """(1 − RMSE) × 100, for targets scaled to [0, 1].

    Source: Lu et al., NAACL 2022 industry track, who report regression tasks so.
    """
    return 100.0 * (1.0 - rmse(outputs, targets))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy (%)", "max", accuracy),
        Metric("pr_auc", "PR-AUC × 100", "max", pr_auc, "sklearn.metrics"),
        Metric("roc_auc", "ROC-AUC × 100", "max", roc_auc, "sklearn.metrics"),
        Metric("jaccard", "multi-label accuracy (%)", "max", jaccard),
        Metric("rmse_score", "(1 − RMSE) × 100", "max", rmse_score),
        Metric("rmse", "RMSE", "min", rmse),
        Metric("mae", "MAE", "min", mae),
    )
}


def metric_of(spec: str | Callable[[Array, Array], float], direction: Direction | None, task: str) -> Metric:
    """The metric that `spec` names, or a user's own function with its direction.

    Raises: ProblemError for an unknown name (the choices are listed), or a function without a direction.
    """
    if direction not in (None, "max", "min"):
        raise ProblemError(f"task {task!r}: direction must be 'max' or 'min', got {direction!r}")
    if isinstance(spec, str):
        if spec not in METRICS:
            raise ProblemError(f"task {task!r}: {unknown('metric', spec, METRICS)}")
        known = METRICS[spec]
        if direction not in (None, known.direction):
            raise ProblemError(f"task {task!r}: {spec} gets better towards {known.direction}, not {direction}")
        return known
    if not callable(spec):
        raise ProblemError(f"task {task!r}: metric must be a name or a function, got {type(spec).__name__}")
    if direction is None:
        raise ProblemError(f"task {task!r}: a metric of your own needs direction='max' or direction='min'")
    name = getattr(spec, "__name__", type(spec).__name__)
    return Metric(name, name, direction, spec)
