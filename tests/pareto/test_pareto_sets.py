"""Pareto sets, fronts, minimisers and best averages against brute force in the whole plane."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize, minimize_scalar

import mtlviz as mv
from mtlviz.pareto import PROBLEMS, FonsecaFleming, Objectives, Quadratics
from mtlviz.runlog.records import Floats
from tests.pareto import peers
from tests.pareto.test_problems import PAIRS, at_the_walls, every, in_the_plane


@pytest.mark.parametrize("conditioning", [1, 10, 300, 1e4, 1e6])
@pytest.mark.parametrize("angle", [0, 1, 30, 90, 140, 180])
def test_the_front_of_the_quadratics_has_no_gaps(angle: float, conditioning: float) -> None:
    """Even steps of λ would leave two thirds of a steep bowl's front between two points."""
    problem = Quadratics(angle=angle, conditioning=conditioning)
    size = np.linalg.norm(np.ptp(problem.front, axis=0))
    assert np.linalg.norm(np.diff(problem.front, axis=0), axis=1).max() < 0.02 * size
    between = problem.own_losses(problem.set_at((np.arange(0, 2000, 7) + 0.5) / 2000))
    assert problem.distance_to_front(between).max() < 5e-6 * size
    np.testing.assert_allclose(problem.pareto_set[[0, -1]], [[1, 0], [-1, 0]], atol=1e-10)


@every
def test_mgda_finds_no_direction_on_the_pareto_set(name: str) -> None:
    problem, peer = PAIRS[name]
    x = problem.pareto_set
    gradients = peers.value_and_gradients(peer, x)[1]
    lengths = np.linalg.norm(gradients, axis=-1)
    direction = (peers.mgda(gradients)[..., None] * gradients).sum(axis=-2)
    assert (np.linalg.norm(direction, axis=-1) <= 1e-7 * lengths.max(axis=-1)).all()
    own = mv.weighting.MGDA()
    g = problem.gradients(x[1000])
    assert np.linalg.norm(own(problem.losses(x[1000]), g @ g.T) @ g) <= 1e-7 * lengths[1000].max()
    beside = problem.gradients(x[200:-200] + np.array([0.0, 0.3]))
    away = (peers.mgda(beside)[..., None] * beside).sum(axis=-2)
    assert (np.linalg.norm(away, axis=-1) > 1e-3 * np.linalg.norm(beside, axis=-1).max(axis=-1)).all()


def least(value: Callable[[Floats], float], problem: Objectives, *, tries: int = 12) -> Floats:
    """The best point (2,) of the plane that scipy finds from several starts."""
    found = [
        minimize(value, x0, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000})
        for x0 in in_the_plane(problem, tries)
    ]
    return min(found, key=lambda one: one.fun).x


@every
def test_the_ends_of_the_pareto_set_are_the_minima_of_the_losses(name: str) -> None:
    problem, peer = PAIRS[name]
    for t, end in ((0, problem.pareto_set[0]), (1, problem.pareto_set[-1])):
        point = least(lambda x, t=t: float(peer(torch.from_numpy(x))[t]), problem)
        np.testing.assert_allclose(end, point, atol=2e-6)
        assert np.abs(peers.value_and_gradients(peer, end)[1][t]).max() < 1e-9


@every
def test_no_point_of_the_plane_dominates_the_front(name: str) -> None:
    problem, peer = PAIRS[name]
    x = in_the_plane(problem, 200_000, 1)
    near = problem.pareto_set[np.random.default_rng(2).integers(0, 2001, size=100_000)]
    near = near + np.random.default_rng(3).normal(size=near.shape) * 10 ** np.linspace(-6, 0, len(near))[:, None]
    x = np.concatenate([x, near, at_the_walls(50_000)]) if name == "toy" else np.concatenate([x, near])
    losses, front = peer(torch.from_numpy(x)).numpy(), problem.front
    assert (np.diff(front[:, 0]) > 0).all()
    assert (np.diff(front[:, 1]) < 0).all()
    slack = 1e-9 * np.ptp(front, axis=0)
    place = np.searchsorted(front[:, 0], losses[:, 0] + slack[0])  # the first of the front with a larger first loss
    second = np.append(front[:, 1], -np.inf)[place]  # has the largest second loss among those that could be dominated
    assert not (losses[:, 1] < second - slack[1]).any()
    assert (losses.min(axis=0) >= front.min(axis=0) - slack).all()


@every
@settings(max_examples=30)
@given(share=st.floats(0.01, 0.99))
def test_minimisers_are_the_best_points_of_the_plane(name: str, share: float) -> None:
    problem, peer = PAIRS[name]
    weights = np.array([share, 1 - share])
    found = problem.minimisers(weights)
    values, gradients = peers.value_and_gradients(peer, found)
    assert np.abs((weights[:, None] * gradients).sum(axis=-2)).max() < 1e-5  # stationary
    anywhere = peer(torch.from_numpy(in_the_plane(problem, 20_000))).numpy()
    low = min((values @ weights).min(), (anywhere @ weights).min())
    np.testing.assert_allclose(values @ weights, low, atol=1e-9)  # all of them, and none of the plane is better


@every
def test_the_best_average_is_that_of_a_search_in_the_plane(name: str) -> None:
    problem, peer = PAIRS[name]
    point = least(lambda x: float(peer(torch.from_numpy(x)).mean()), problem)
    distance = np.linalg.norm(problem.best_average - point, axis=1)
    assert distance.min() < 1e-6
    assert float(problem.distance_to_best(point)) < 1e-6
    tilted = least(lambda x: float(peer(torch.from_numpy(x)) @ torch.tensor([0.1, 1.0], dtype=torch.float64)), problem)
    np.testing.assert_allclose(problem.minimisers((0.1, 1.0)), [tilted], atol=1e-6)
    np.testing.assert_allclose(problem.minimisers((0.1, 1.0)), problem.minimisers((1e-4, 1e-3)), atol=1e-7)


@every
def test_the_distance_to_the_front_is_that_to_its_nearest_point(name: str) -> None:
    problem, peer = PAIRS[name]
    places = np.linspace(0, 1, 10_001)
    fine = peer(torch.from_numpy(problem.set_at(places))).numpy()
    losses = peer(torch.from_numpy(in_the_plane(problem, 40, 4))).numpy()

    def exact(one: Floats) -> float:
        """The distance of these losses, refined about the nearest of the fine points."""

        def away(t: float) -> float:
            return float(np.linalg.norm(peer(torch.from_numpy(problem.set_at(np.array([t]))[0])).numpy() - one))

        place = places[np.linalg.norm(fine - one, axis=1).argmin()]
        between = (max(place - 1e-4, 0.0), min(place + 1e-4, 1.0))
        return min(minimize_scalar(away, bounds=between, method="bounded").fun, *map(away, between))

    nearest = np.array([exact(one) for one in losses])
    size = np.linalg.norm(np.ptp(fine, axis=0))
    np.testing.assert_allclose(problem.distance_to_front(losses), nearest, atol=1e-6 * size)
    np.testing.assert_allclose(
        problem.distance_to_front(losses.reshape(4, 10, 2)), nearest.reshape(4, 10), atol=1e-6 * size
    )
    np.testing.assert_allclose(problem.distance_to_front(fine[::50]), 0, atol=1e-6 * size)
    assert np.isnan(problem.distance_to_front(np.array([np.nan, 1.0])))


def test_a_large_table_of_losses_is_measured_in_little_memory() -> None:
    problem = PROBLEMS["toy"]
    losses = np.tile(problem.front[0] + np.array([0.0, 3.0]), (2000, 1)).reshape(4, 500, 2)
    losses[..., 0] -= np.linspace(0, 4, 2000).reshape(4, 500)
    tracemalloc.start()
    distance = problem.distance_to_front(losses)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # each array of 2000 points by 2000 pieces of the front has 64 MB
    np.testing.assert_allclose(distance, np.hypot(np.linspace(0, 4, 2000), 3).reshape(4, 500), rtol=1e-12)


def test_fonseca_and_flemings_formula_and_its_two_best_averages() -> None:
    problem = FonsecaFleming()
    assert math.isclose(problem.losses((0.0, 0.0))[0], 1 - math.exp(-1), rel_tol=1e-15)
    np.testing.assert_allclose(problem.front[1000], [1 - math.exp(-1)] * 2)
    np.testing.assert_allclose(problem.front[[0, -1]], [[0, 1 - math.exp(-4)], [1 - math.exp(-4), 0]], atol=1e-15)
    # on the diagonal s (1, 1)/√2 the slope of the sum vanishes where (1 − s) e^(4s) = 1 + s
    s = brentq(lambda s: (1 - s) * math.exp(4 * s) - (1 + s), 0.5, 1.0, xtol=1e-14)
    expected = np.array([[s, s], [-s, -s]]) / math.sqrt(2)
    np.testing.assert_allclose(problem.best_average, expected, atol=1e-6)
    np.testing.assert_allclose(problem.distance_to_best([(0.0, 0.0), (9.0, 9.0)]), [s, math.hypot(9, 9) - s], atol=1e-6)


def test_no_weighted_sum_has_its_minimum_in_the_concave_part() -> None:
    problem = FonsecaFleming()
    shares = np.linspace(0.001, 0.999, 301)
    along = np.concatenate([problem.minimisers((w, 1 - w)).sum(axis=1) / math.sqrt(2) for w in shares])
    assert np.abs(along).min() > 0.95
    assert len(problem.minimisers((0.5, 0.5))) == 2
    assert {len(problem.minimisers((w, 1 - w))) for w in (0.4, 0.49, 0.51, 0.6)} == {1}
    front = problem.front[700:1301]  # a straight line between two of its points lies below it: concave
    chord = np.interp(front[:, 0], front[[0, -1], 0], front[[0, -1], 1])
    assert (front[1:-1, 1] > chord[1:-1]).all()
