"""Metrics by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from mtlviz.metrics import METRICS, accuracy, jaccard, mae, pr_auc, rmse, rmse_score, roc_auc


def test_accuracy_of_classes_and_of_binary_logits() -> None:
    assert accuracy(np.array([[1.0, 2], [3, 0], [0, 1]]), np.array([1, 0, 0])) == pytest.approx(200 / 3)
    assert accuracy(np.array([-1.0, 2, 3, -4]), np.array([0.0, 1, 0, 0])) == 75
    assert accuracy(np.array([[-1.0], [2]]), np.array([[0.0], [1]])) == 100


def test_regression_by_hand() -> None:
    outputs, targets = np.array([[0.5], [1.0]]), np.array([0.0, 1.0])
    assert rmse(outputs, targets) == pytest.approx(math.sqrt(0.125))
    assert mae(outputs, targets) == 0.25
    assert rmse_score(outputs, targets) == pytest.approx(100 * (1 - math.sqrt(0.125)))


def test_average_precision_by_hand_and_over_classes() -> None:
    assert pr_auc(np.array([3.0, 2, 1]), np.array([1.0, 0, 1])) == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)  # the fourth class never occurs
    expected = np.mean([average_precision_score(targets == c, outputs[:, c]) for c in range(3)])
    assert pr_auc(outputs, targets) == pytest.approx(100 * expected)


def test_multi_label_accuracy_by_hand_and_against_scikit_learn() -> None:
    outputs = np.array([[1.0, 2, -1], [-1, -1, -1], [-1, -1, -1], [3, -1, 2]])
    targets = np.array([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert jaccard(outputs, targets) == pytest.approx(100 * (1 / 3 + 1 + 0 + 1) / 4)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 6)), (rng.random((40, 6)) < 0.3).astype(np.float32)
    expected = jaccard_score(labels, logits > 0, average="samples", zero_division=1.0)
    assert jaccard(logits, labels) == pytest.approx(100 * expected)


def test_a_single_class_has_no_curve() -> None:
    assert math.isnan(pr_auc(np.array([1.0, 2]), np.zeros(2)))
    assert math.isnan(roc_auc(np.array([1.0, 2]), np.ones(2)))
    assert roc_auc(np.array([1.0, 2, 3]), np.array([0.0, 0, 1])) == 100


def test_each_metric_knows_its_direction() -> None:
    assert {name: m.direction for name, m in METRICS.items()} == {
        "accuracy": "max",
        "pr_auc": "max",
        "roc_auc": "max",
        "jaccard": "max",
        "rmse_score": "max",
        "rmse": "min",
        "mae": "min",
    }
