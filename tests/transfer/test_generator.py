"""The generator plants what it says: covariances, rotations, angles, noise, and errors that are known exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.errors import TransferError
from mtlviz.transfer import PlantedTask, PlantedTasks, three_sources

MANY = 40_000


def test_the_second_moment_is_that_of_d_and_q() -> None:
    tasks = three_sources(features=20, condition=7.0)
    for name, population in tasks.planted(3).items():
        values, vectors = np.linalg.eigh(population.moment)
        ratio = values[-1] / values[0]
        np.testing.assert_allclose(ratio, 49, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(np.trace(population.moment), 20)
        assert np.sum(values > values[-1] / 2) == 2  # a tenth of the coordinates
        x, _ = population.sample(MANY)
        np.testing.assert_allclose(x.T @ x / MANY, population.moment, atol=0.05 * values[-1])
        scales = tasks.scales(tasks.tasks[name].scales)
        np.testing.assert_allclose(np.sort(scales**2), values, rtol=1e-9)
        assert vectors.shape == (20, 20)


def leading(moment: np.ndarray) -> np.ndarray:
    """The directions (d, 2) of the two largest variances."""
    return np.linalg.eigh(moment)[1][:, -2:]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """How much of the span of a (d, 2) lies in that of b: 1 for all, 0 for nothing."""
    return float(np.sum((a.T @ b) ** 2) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_sources_differ_from_the_target_as_planted(seed: int) -> None:
    planted = three_sources(features=20).planted(seed)
    moments = {name: each.moment for name, each in planted.items()}
    target = moments["target"]
    np.testing.assert_allclose(moments["same covariance"], target, atol=1e-12)
    scaled, rotated = moments["other scales"], moments["other rotation"]
    np.testing.assert_allclose(target @ scaled, scaled @ target, atol=1e-9)  # the same directions ...
    assert overlap(leading(target), leading(scaled)) < 1e-12  # ... in another order
    np.testing.assert_allclose(np.linalg.eigvalsh(rotated), np.linalg.eigvalsh(target), rtol=1e-6)
    assert np.abs(target @ rotated - rotated @ target).max() > 0.1  # other directions
    assert overlap(leading(target), leading(rotated)) < 0.6
    thetas = {name: each.theta for name, each in planted.items()}
    for name in ("same covariance", "other scales", "other rotation"):
        np.testing.assert_allclose(thetas[name], thetas["same covariance"], atol=1e-12)
        assert thetas[name] @ thetas["target"] == pytest.approx(0.96)


def test_samples_show_the_rotation_that_the_printed_form_hides() -> None:
    tasks = three_sources(features=20, condition=5.0)
    planted = tasks.planted(0)
    seen = {name: np.cov(each.sample(MANY)[0], rowvar=False) for name, each in planted.items()}
    assert np.linalg.norm(seen["same covariance"] - seen["target"]) < 0.05 * np.linalg.norm(seen["target"])
    assert np.linalg.norm(seen["other rotation"] - seen["target"]) > 0.5 * np.linalg.norm(seen["target"])
    # As printed, X = R Q D, whose second moment D QᵀQ D = D² knows nothing of Q.
    d = np.diag(tasks.scales(0))
    printed = []
    for rotation, name in ((0, "same covariance"), (1, "other rotation")):
        q = (planted[name].root / tasks.scales(0)[:, None]).T
        np.testing.assert_allclose(q @ q.T, np.eye(20), atol=1e-12)
        r = np.random.default_rng(rotation).normal(size=(MANY, 20))
        printed.append(np.cov(r @ q @ d, rowvar=False))
        np.testing.assert_allclose((q @ d).T @ (q @ d), d**2, atol=1e-12)
    assert np.linalg.norm(printed[0] - printed[1]) < 0.05 * np.linalg.norm(printed[0])


def test_a_turned_task_is_the_first_one_in_coordinates_of_its_own() -> None:
    tasks = PlantedTasks(
        {"a": PlantedTask(50, cosine=0.5), "b": PlantedTask(50, cosine=0.5, rotation=1, turned=True)}, condition=3.0
    )
    a, b = tasks.planted(1).values()
    turn = (b.root.T / tasks.scales(0)) @ (
        a.root.T / tasks.scales(0)
    ).T  # Q_b Q_aᵀ, which the inputs of b are turned by
    np.testing.assert_allclose(turn @ turn.T, np.eye(20), atol=1e-12)
    np.testing.assert_allclose(turn @ a.theta, b.theta, atol=1e-12)
    np.testing.assert_allclose(turn.T @ b.moment @ turn, a.moment, atol=1e-12)
    assert abs(a.theta @ b.theta) < 0.9


@given(cosine=st.floats(-1, 1), seed=st.integers(0, 10**6), features=st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_angles_are_as_planted_and_asides_are_shared_by_number(cosine: float, seed: int, features: int) -> None:
    tasks = PlantedTasks(
        {
            "base": PlantedTask(1),
            "first": PlantedTask(1, cosine=cosine),
            "same aside": PlantedTask(1, cosine=cosine),
            "other aside": PlantedTask(1, cosine=cosine, aside=1),
        },
        features=features,
    )
    theta = {name: each.theta for name, each in tasks.planted(seed).items()}
    for name in theta:
        assert np.linalg.norm(theta[name]) == pytest.approx(1)
    for name in ("first", "other aside"):
        assert theta[name] @ theta["base"] == pytest.approx(cosine, abs=1e-9)
    np.testing.assert_allclose(theta["first"], theta["same aside"])
    if abs(cosine) < 0.99 and features > 2:
        assert np.linalg.norm(theta["first"] - theta["other aside"]) > 1e-6


@pytest.mark.parametrize(
    ("teacher", "kind"), [("linear", "regression"), ("relu", "regression"), ("linear", "classification")]
)
def test_labels_noise_and_risk_are_what_a_large_sample_shows(teacher: Any, kind: Any) -> None:
    tasks = three_sources(features=6, condition=3.0, noise=0.4, teacher=teacher, kind=kind)
    population = tasks.planted(2)["other rotation"]
    x, y = population.sample(200_000, part=1)
    clean = x @ population.theta
    if kind == "classification":
        assert set(np.unique(y)) == {-1.0, 1.0}
        truth = np.where(clean > 0, 1.0, -1.0)
        assert np.mean(truth != y) == pytest.approx(0.2, abs=0.01)  # half of the random ones are right
    else:
        truth = np.maximum(clean, 0.0) if teacher == "relu" else clean
        assert np.std(y - truth) == pytest.approx(0.4 * np.std(truth), rel=0.02)
        assert np.mean(y - truth) == pytest.approx(0.0, abs=0.01)
    rng = np.random.default_rng(0)
    for head in (1.0, 0.3, -0.7):
        direction = population.theta + 0.3 * rng.normal(size=6)
        made = head * (np.maximum(x @ direction, 0.0) if teacher == "relu" else x @ direction)
        seen = np.mean(np.sign(made) != truth) if kind == "classification" else np.mean((made - truth) ** 2)
        assert population.risk(direction, head) == pytest.approx(seen, rel=0.03)
    assert population.risk(population.theta) == pytest.approx(0.0, abs=1e-12)
    nothing = 0.5 if kind == "classification" else np.mean(truth**2)
    assert population.risk(np.zeros(6)) == pytest.approx(nothing, rel=0.03)


def test_samples_are_repeatable_nested_and_independent_between_tasks_parts_and_seeds() -> None:
    tasks = three_sources(features=5, noise=0.3, target_samples=7, source_samples=9)
    sample = tasks.sample(4)
    assert {name: x.shape for name, (x, _) in sample.items()} == {
        name: (t.samples, 5) for name, t in tasks.tasks.items()
    }
    population = tasks.planted(4)["same covariance"]
    for again, first in zip(population.sample(9), sample["same covariance"], strict=True):
        np.testing.assert_array_equal(again, first)
    for small, large in zip(population.sample(4), population.sample(20), strict=True):
        np.testing.assert_allclose(small, large[:4], rtol=1e-12)
    others = [population.sample(9, part=1), tasks.sample(5)["same covariance"], sample["other scales"]]
    for x, _ in others:
        assert np.abs(x - sample["same covariance"][0]).min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlantedTask(0), "samples must be a whole number from 1"),
        (lambda: PlantedTask(True), "samples must be a whole number from 1"),
        (lambda: PlantedTask(5, cosine=1.5), "cosine must be a finite number from -1 to 1"),
        (lambda: PlantedTask(5, noise=math.nan), "noise must be a finite number from 0"),
        (lambda: PlantedTask(5, scales=-1), "scales must be a whole number from 0"),
        (lambda: PlantedTasks({}), "one task or more"),
        (lambda: PlantedTasks({"a": 5}), "PlantedTask"),
        (lambda: three_sources(features=1), "features must be a whole number from 2"),
        (lambda: three_sources(condition=0.5), "condition must be a finite number from 1"),
        (lambda: three_sources(teacher="relo"), "did you mean 'relu'"),
        (lambda: three_sources(kind="ranking"), "unknown kind 'ranking'"),
        (lambda: three_sources(teacher="relu", kind="classification"), "a ReLU teacher has no classification"),
        (lambda: three_sources(noise=1.5, kind="classification"), "noise is a share of the labels"),
        (lambda: PlantedTasks({"a": PlantedTask(5, scales=10)}, features=20), "room for 10 sets of 2"),
        (lambda: three_sources().planted(-1), "seed must be a whole number from 0"),
    ],
)
def test_bad_settings_are_told(make: Any, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        make()
