"""Tasks that share a direction: scikit-learn alone, scipy from many starts together, and the exact accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm
from sklearn.linear_model import LogisticRegression

from mtlviz.transfer.held_out import cloud_accuracy
from mtlviz.transfer.shared_direction import Fits, shared_direction

COUNTS = (6, 15, 30)
ENDS = np.cumsum([0, *COUNTS])
GROUPS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 1, 1)], dtype=bool)
RIDGE = 0.05


def made(samples: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tasks whose boundaries differ, off the origin; those of the last have wrong labels among them."""
    rng = np.random.default_rng(seed)
    x, y = [], []
    for count, angle, noise in zip(COUNTS, (0.3, 0.9, 2.6), (0.0, 0.0, 0.2), strict=True):
        z = rng.standard_normal((samples, count, 2)) * (2.0, 0.7)
        side = (z @ (np.cos(angle), np.sin(angle)) > 0.1) ^ (rng.random((samples, count)) < noise)
        x.append(z + rng.normal(0, 4, 2))
        y.append(np.where(side, 1.0, -1.0))
    return np.concatenate(x, axis=1), np.concatenate(y, axis=1)


def weights(fits: Fits, s: int, g: int, t: int) -> np.ndarray:
    return fits.slope[s, g, t] * np.array([np.cos(fits.angle[s, g]), np.sin(fits.angle[s, g])])


def loss(x: np.ndarray, y: np.ndarray, w: np.ndarray, c: float) -> float:
    return float(np.logaddexp(0, -y * (x @ w + c)).sum() + RIDGE / 2 * w @ w)


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, np.ndarray, Fits]:
    x, y = made()
    return x, y, shared_direction(x, y, COUNTS, GROUPS, ridge=RIDGE)


def test_alone_it_is_scikit_learns_logistic_regression(fitted: tuple[np.ndarray, np.ndarray, Fits]) -> None:
    x, y, fits = fitted
    compared = 0
    for s in range(len(x)):
        for t in range(3):
            own = slice(ENDS[t], ENDS[t + 1])
            if len(set(y[s, own])) == 2:
                theirs = LogisticRegression(C=1 / RIDGE, tol=1e-12, solver="newton-cholesky").fit(x[s, own], y[s, own])
                np.testing.assert_allclose(weights(fits, s, t, t), theirs.coef_[0], atol=2e-5)
                np.testing.assert_allclose(fits.intercept[s, t, t], theirs.intercept_[0], atol=2e-5)
                compared += 1
    assert compared > 30


def test_together_no_start_of_a_general_minimiser_finds_less(fitted: tuple[np.ndarray, np.ndarray, Fits]) -> None:
    x, y, fits = fitted
    rng = np.random.default_rng(1)

    def whole(free: np.ndarray, s: int, tasks: np.ndarray) -> float:
        b = np.array([np.cos(free[0]), np.sin(free[0])])
        heads = zip(tasks, free[1:].reshape(-1, 2), strict=True)
        return sum(loss(x[s, ENDS[t] : ENDS[t + 1]], y[s, ENDS[t] : ENDS[t + 1]], a * b, c) for t, (a, c) in heads)

    for s in range(3):
        for g in (3, 5):
            tasks = np.flatnonzero(GROUPS[g])
            assert all(len(set(y[s, ENDS[t] : ENDS[t + 1]])) == 2 for t in tasks)
            heads = np.stack([fits.slope[s, g, tasks], fits.intercept[s, g, tasks]], axis=1).ravel()
            np.testing.assert_allclose(whole(np.array([fits.angle[s, g], *heads]), s, tasks), fits.loss[s, g])
            starts = [np.array([angle, *rng.normal(0, 1, 2 * len(tasks))]) for angle in np.linspace(0, np.pi, 8)]
            found = min(minimize(whole, start, args=(s, tasks), tol=1e-7).fun for start in starts)
            assert fits.loss[s, g] <= found + 1e-6
            assert fits.loss[s, g] >= found - 1e-4  # and it is what some start of theirs finds


def test_it_is_the_same_at_any_place_and_after_any_turn(fitted: tuple[np.ndarray, np.ndarray, Fits]) -> None:
    x, y, fits = fitted
    turn = 0.7
    turned = x @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    moved = turned + np.repeat([(30.0, -7.0), (0.0, 12.0), (-5.0, -5.0)], COUNTS, axis=0)
    again = shared_direction(moved, y, COUNTS, GROUPS, ridge=RIDGE)
    np.testing.assert_allclose(again.loss, fits.loss, rtol=1e-7)
    gap = (again.angle - fits.angle - turn + np.pi / 2) % np.pi - np.pi / 2
    np.testing.assert_allclose(gap, 0, atol=1e-6)


def test_a_task_of_one_class_says_that_class_and_pulls_nowhere() -> None:
    x, y = made(1)
    y[0, : ENDS[1]] = -1.0
    fits = shared_direction(x, y, COUNTS, GROUPS, ridge=RIDGE)
    for g in (0, 3, 5):
        assert (fits.slope[0, g, 0], fits.intercept[0, g, 0]) == (0.0, -np.inf)
    assert fits.loss[0, 0] == 0.0
    assert fits.angle[0, 3] == fits.angle[0, 1]
    assert np.isnan(fits.slope[0, 1, 0])


@pytest.mark.parametrize(("centre", "intercept"), [((0.0, 0.0), 0.0), ((0.7, -1.2), 0.4), ((-3.0, 0.1), -2.0)])
def test_the_accuracy_is_the_probability_of_the_right_side(centre: tuple[float, float], intercept: float) -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    n, w = np.array([0.6, 0.8]), np.array([[1.0, 0.3], [-0.4, 1.0], [0.6, 0.8], [-1.2, -1.6]])
    got = cloud_accuracy(np.array(centre), covariance, n, w, np.full(4, intercept))
    for accuracy, one in zip(got, w, strict=True):
        both = np.stack([n, one])
        plane = multivariate_normal(both @ centre + (0.0, intercept), both @ covariance @ both.T, allow_singular=True)
        minus = multivariate_normal(-plane.mean, plane.cov, allow_singular=True)
        assert accuracy == pytest.approx(plane.cdf([0, 0]) + minus.cdf([0, 0]), abs=2e-5)


def test_the_accuracy_of_a_turned_line_is_its_angle_and_of_no_line_the_larger_class() -> None:
    turn = np.radians(30)
    w = np.array([[np.sin(turn), np.cos(turn)], [0.0, 2.0], [0.0, -1.0], [0.0, 0.0]])
    got = cloud_accuracy(np.zeros(2), np.eye(2), np.array([0.0, 1.0]), w, np.array([0.0, 0.0, 0.0, np.inf]))
    np.testing.assert_allclose(got, [1 - 30 / 180, 1.0, 0.0, 0.5], atol=1e-7)
    above = np.array([0.0, 1.0])
    one = cloud_accuracy(above, np.eye(2), np.array([0.0, 1.0]), np.zeros((2, 2)), np.array([np.inf, -np.inf]))
    np.testing.assert_allclose(one, [norm.cdf(1), norm.cdf(-1)])
