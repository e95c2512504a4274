"""Exact fits: alone and shared, against brute force and each other; and as much capacity as tasks, Prop. 1."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from mtlviz.errors import TransferError
from mtlviz.transfer import PlantedTask, PlantedTasks, relu_fit, shared_fit, single_fit, three_sources
from mtlviz.transfer.generator import Pair
from mtlviz.transfer.linear import _descended, head
from mtlviz.transfer.moments import moments

Data = dict[str, Pair]


def made(seed: int, samples: tuple[int, ...], features: int, noise: float = 0.5) -> Data:
    """Tasks of random θ, each with label noise."""
    rng = np.random.default_rng([7, seed])
    scale = 10 ** rng.uniform(-0.5, 0.5, features)
    data = {}
    for task, count in enumerate(samples):
        x = rng.normal(size=(count, features)) * scale
        data[f"task {task}"] = x, x @ rng.normal(size=features) + noise * rng.normal(size=count)
    return data


def test_a_task_alone_is_ordinary_least_squares_and_the_shortest_solution_where_there_are_many() -> None:
    (x, y), (few, z) = made(0, (40, 5), 8).values()
    np.testing.assert_allclose(single_fit(x, y), LinearRegression(fit_intercept=False).fit(x, y).coef_, rtol=1e-9)
    np.testing.assert_allclose(single_fit(few, z), np.linalg.pinv(few.T @ few, rcond=1e-10) @ few.T @ z, rtol=1e-6)
    np.testing.assert_allclose(few @ single_fit(few, z), z)


@pytest.mark.parametrize("seed", range(3))
def test_two_tasks_through_one_direction_are_solved_globally_as_a_fine_grid_shows(seed: int) -> None:
    data = made(seed, (9, 14), 2)
    fit = shared_fit(data, weights={"task 0": 2.0, "task 1": 0.5})
    known = [moments(*data["task 0"]).weighted(2.0), moments(*data["task 1"]).weighted(0.5)]
    angles = np.linspace(0, np.pi, 20_001)
    grid = np.stack([np.cos(angles), np.sin(angles)])  # (2, n)
    h = sum((t.cross @ grid) ** 2 / np.sum(grid * (t.second @ grid), axis=0) for t in known)
    assert fit.loss == pytest.approx(sum(t.power for t in known) - h.max(), rel=1e-6)
    assert abs(fit.directions[:, 0] @ grid[:, np.argmax(h)]) == pytest.approx(1, abs=1e-6)
    by_hand = sum(
        a * np.sum((x @ fit.theta(n) - y) ** 2) for a, (n, (x, y)) in zip((2.0, 0.5), data.items(), strict=True)
    )
    assert fit.loss == pytest.approx(by_hand, rel=1e-9)


@example(seed=808427, features=2, samples=(1, 1), condition=1.0, cosine=0.0)  # a head of 1e5
@given(
    seed=st.integers(0, 10**6),
    features=st.integers(2, 8),
    samples=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    condition=st.sampled_from([1.0, 10.0, 100.0]),
    cosine=st.floats(-1, 1),
)
@settings(max_examples=40, deadline=None)
def test_no_descent_finds_better_than_the_curve_of_two_tasks(
    seed: int, features: int, samples: tuple[int, int], condition: float, cosine: float
) -> None:
    tasks = PlantedTasks(
        {"a": PlantedTask(samples[0], noise=0.3), "b": PlantedTask(samples[1], cosine=cosine, scales=1, noise=0.3)},
        features=features,
        condition=condition,
    )
    data = tasks.sample(seed)
    known = [moments(*pair) for pair in data.values()]
    power = sum(task.power for task in known)
    best = shared_fit(data).loss
    for start in range(4):
        found = _descended(np.random.default_rng([start, seed]).normal(size=(features, 1)), known, 1e-13)[0]
        residuals = [x @ found @ head(found, task) - y for (x, y), task in zip(data.values(), known, strict=True)]
        assert 0 <= best <= sum(float(left @ left) for left in residuals) + 1e-8 * power


@given(
    seed=st.integers(0, 10**6),
    samples=st.lists(st.integers(2, 25), min_size=1, max_size=4),
    further=st.integers(0, 2),
    features=st.integers(2, 8),
)
@settings(max_examples=25, deadline=None)
def test_from_as_much_capacity_as_tasks_on_there_is_no_transfer(
    seed: int, samples: list[int], further: int, features: int
) -> None:
    """Proposition 1: with r ≥ k an optimum has B A_i = θ_i for all i."""
    data = made(seed, tuple(samples), features)
    fit = shared_fit(data, rank=len(samples) + further)
    for name, (x, y) in data.items():
        alone = single_fit(x, y)
        size = np.linalg.norm(x @ alone) + np.linalg.norm(y)
        assert np.linalg.norm(x @ (fit.theta(name) - alone)) <= 2e-4 * size  # where m < d only X θ is determined
        if len(y) > 2 * features:
            np.testing.assert_allclose(fit.theta(name), alone, atol=2e-3 * np.linalg.norm(alone))


def test_with_less_capacity_than_tasks_there_is_transfer() -> None:
    data = made(1, (30, 30, 30), 5)
    alone = sum(float(np.sum((x @ single_fit(x, y) - y) ** 2)) for x, y in data.values())
    losses = [shared_fit(data, rank=rank).loss for rank in (1, 2, 3)]
    assert losses[0] > 1.05 * losses[1] > 1.05**2 * losses[2]
    assert losses[2] == pytest.approx(alone, rel=1e-8)


def test_three_tasks_through_one_direction_reach_the_best_of_a_grid_on_the_sphere() -> None:
    data = made(5, (12, 9, 20), 3)
    fit = shared_fit(data)
    assert fit.converged
    known = [moments(*pair) for pair in data.values()]
    points = np.random.default_rng(0).normal(size=(3, 200_000))
    h = sum((t.cross @ points) ** 2 / np.sum(points * (t.second @ points), axis=0) for t in known)
    least = sum(t.power for t in known) - h.max()
    assert fit.loss <= least
    assert fit.loss == pytest.approx(least, rel=0.01)


def test_weight_moves_the_direction_to_the_task() -> None:
    data = made(2, (30, 30), 5)
    alone = single_fit(*data["task 0"])
    cosines = []
    for weight in (0.1, 1.0, 10.0, 1e6):
        direction = shared_fit(data, weights={"task 0": weight, "task 1": 1.0}).directions[:, 0]
        cosines.append(abs(direction @ alone) / np.linalg.norm(alone) / np.linalg.norm(direction))
    assert cosines == sorted(cosines)
    assert cosines[-1] == pytest.approx(1, abs=1e-4)


def test_a_relu_unit_is_found_again_and_tasks_share_it() -> None:
    tasks = three_sources(teacher="relu", features=6, condition=5.0, target_samples=40, source_samples=60, cosine=1.0)
    planted, data = tasks.planted(1), tasks.sample(1)
    alone = relu_fit({"target": data["target"]})
    together = relu_fit(
        {name: data[name] for name in ("target", "other rotation")}, weights={"target": 1, "other rotation": 3}
    )
    for fit in (alone, together):
        assert fit.loss == pytest.approx(0, abs=1e-9)
        for name in fit.heads:
            risk = planted[name].risk(fit.directions[:, 0], float(fit.heads[name][0]))
            assert risk == pytest.approx(0, abs=1e-8)


def test_the_relu_search_ends_where_no_small_step_lowers_the_loss() -> None:
    data = three_sources(teacher="relu", features=5, condition=3.0, noise=0.5).sample(0)
    pair = {name: data[name] for name in ("target", "other scales")}
    fit = relu_fit(pair)

    def seen(direction: np.ndarray) -> float:
        total = 0.0
        for x, y in pair.values():
            units = np.maximum(x @ direction, 0)
            total += float(np.sum((y - units * (units @ y) / (units @ units)) ** 2))
        return total

    direction = fit.directions[:, 0]
    assert fit.converged
    assert seen(direction) == pytest.approx(fit.loss)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 1e-1):
        around = [seen(direction + size * rng.normal(size=5)) for _ in range(50)]
        assert min(around) >= fit.loss * (1 - 1e-6)
    opposite = {name: (x, -y) for name, (x, y) in pair.items()}
    assert relu_fit(opposite).loss == pytest.approx(fit.loss, rel=1e-6)  # heads take any sign


GOOD = np.eye(3), np.arange(3.0)


@pytest.mark.parametrize("fit", [shared_fit, relu_fit])
@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "one task or more"),
        ([GOOD], "tasks must be"),
        ({"a": np.eye(3)}, "tasks must be"),
        ({"a": GOOD, "b": (np.eye(2), np.ones(2))}, r"one dimension to share a module; got {'a': 3, 'b': 2}"),
        ({"a": (np.eye(3), np.ones(2))}, r"task 'a' needs x \(m, d\) and y \(m,\)"),
        ({"a": (np.empty((0, 3)), np.empty(0))}, "with one sample or more"),
        ({"a": (np.full((3, 3), np.nan), np.ones(3))}, "task 'a': x has 9 values that are not finite"),
        ({"a": (np.eye(3), np.array([1, np.inf, 0]))}, "task 'a': y has 1 values that are not finite"),
        ({"a": ([["b"]], [1])}, "as numbers"),
    ],
)
def test_tasks_that_do_not_fit_are_told(fit: Any, tasks: Any, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        fit(tasks)


def test_bad_options_are_told_and_hard_data_give_no_warning() -> None:
    for options, message in (
        ({"rank": 0}, "rank must be a whole number from 1"),
        ({"starts": 0}, "starts must be a whole number from 1"),
        ({"weights": {"b": 1.0}}, "weights must be a number for each of the tasks"),
        ({"weights": {"a": 0.0}}, "weights must be finite numbers above 0"),
        ({"tolerance": -1.0}, "tolerance must be a finite number from 0 to 1"),
    ):
        with pytest.raises(TransferError, match=message):
            shared_fit({"a": GOOD}, **options)
    nothing, constant = np.zeros((4, 3)), np.ones((4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in (
            {"a": (nothing, np.ones(4)), "b": GOOD},
            {"a": (constant, np.zeros(4)), "b": (constant, np.ones(4))},
        ):
            for rank in (1, 2, 5):
                assert np.isfinite(shared_fit(pair, rank=rank).loss)
            assert np.isfinite(relu_fit(pair).loss)
