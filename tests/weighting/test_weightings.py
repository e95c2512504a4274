"""The weightings: hand-worked numbers, exact optima, absent tasks, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mtlviz as mv
from mtlviz.errors import WeightingError
from mtlviz.weighting import METHODS, named
from mtlviz.weighting.solvers.linear import cholesky_solve
from mtlviz.weighting.solvers.min_norm import min_norm

A = np.array([[-4.0, 1, 1], [6, 1, 1]])


@st.composite
def jacobians(draw: st.DrawFn) -> np.ndarray:
    """(T, P) with dependent, opposite, repeated, zero and badly scaled rows among them."""
    tasks, width = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    j = draw(arrays(np.float64, (tasks, width), elements=st.floats(-1, 1, width=32)))
    j = j * 10.0 ** draw(arrays(np.float64, (tasks, 1), elements=st.floats(-4, 4)))
    if tasks > 1:
        kind = draw(st.sampled_from(["as is", "repeated", "opposite", "zero"]))
        j[-1] = {"as is": j[-1], "repeated": j[0], "opposite": -3 * j[0], "zero": 0 * j[0]}[kind]
    return j


@settings(max_examples=300, deadline=None)
@given(jacobians())
def test_mgda_finds_the_shortest_combination(j: np.ndarray) -> None:
    g = j @ j.T
    w = min_norm(g)
    d = j.T @ w
    assert np.isfinite(w).all()
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (j @ d).min() >= d @ d - 1e-9 * np.trace(g)  # the duality gap: d is at most this far from the optimum


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5, 20, 40]))
def test_mgda_is_exact_on_well_conditioned_gramians(seed: int, tasks: int) -> None:
    rng = np.random.default_rng(seed)
    j = rng.normal(size=(tasks, 3 * tasks)) + rng.normal(size=3 * tasks)
    d = j.T @ min_norm(j @ j.T)
    assert (j @ d).min() >= (d @ d) * (1 - 1e-9)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_mgda_pinned(scale: float) -> None:
    np.testing.assert_allclose(A.T @ named("mgda")(np.ones(2), scale * A @ A.T), [0, 1, 1], atol=1e-12)


def test_mgda_of_three_tasks_by_hand() -> None:
    w = min_norm(np.diag([1.0, 2.0, 4.0]))  # orthogonal rows: weights ∝ 1 / ‖g‖²
    np.testing.assert_allclose(w, np.array([4, 2, 1]) / 7, rtol=1e-12)


def test_mgda_of_an_inner_corner_drops_tasks_again() -> None:
    j = np.array([[3.0, 4.0], [0.0, 5.0], [-1.0, 0.5], [1.0, 0.4]])
    w = min_norm(j @ j.T)
    np.testing.assert_allclose(w[:2], 0)
    d = j.T @ w
    assert (j @ d).min() >= d @ d - 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_cholesky_solve_is_numpys_solve(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 2))
    a, b = root @ root.T, rng.normal(size=n)
    x, solved = cholesky_solve(a, b, 1e-14)
    assert solved
    np.testing.assert_allclose(a @ x, b, atol=1e-7 * np.linalg.cond(a))


def test_cholesky_solve_tells_a_dependent_row() -> None:
    assert not cholesky_solve(np.array([[1.0, 2], [2, 4]]), np.ones(2), 1e-14)[1]


def test_uncertainty_takes_the_adam_step_of_its_own_gradient() -> None:
    method = mv.weighting.UncertaintyWeighting(lr=0.1)
    losses = np.array([3.0, 0.25])
    np.testing.assert_allclose(method(losses, np.eye(2)), [0.5, 0.5])
    # d/ds (½ e^{-s} L + ½ s) = ½ − ½ L at s = 0: −1 and 0.375; the first Adam step has length lr
    np.testing.assert_allclose(method(losses, np.eye(2)), [0.5 * math.exp(-0.1), 0.5 * math.exp(0.1)], rtol=1e-6)


def test_uncertainty_rests_at_half_the_inverse_loss() -> None:
    method = mv.weighting.UncertaintyWeighting(lr=0.05)
    for _ in range(3000):
        w = method(np.array([4.0, 0.5]), np.eye(2))
    np.testing.assert_allclose(w, [1 / 8, 1.0], rtol=1e-2)


def test_dwa_by_hand() -> None:
    method = mv.weighting.DWA(temperature=2.0, window=2)
    rows = [(4.0, 1.0), (2.0, 1.0), (1.0, 1.0), (2.0, 1.0)]  # means: (3, 1), then (1.5, 1)
    for losses in rows:
        np.testing.assert_allclose(method(np.array(losses), np.eye(2)), [1, 1])
    e = np.exp(np.array([0.5, 1.0]) / 2)
    np.testing.assert_allclose(method(np.array([9.0, 9.0]), np.eye(2)), 2 * e / e.sum())


def test_dwa_keeps_the_mean_of_a_task_that_was_away() -> None:
    method = mv.weighting.DWA(window=1)
    for losses, present in (((2.0, 4.0), (1, 1)), ((1.0, np.nan), (1, 0)), ((1.0, np.nan), (1, 0))):
        method(np.array(losses), np.eye(2), np.array(present, dtype=bool))
    e = np.exp(np.array([1.0, 1.0]) / 2)
    np.testing.assert_allclose(method(np.array([1.0, 4.0]), np.eye(2)), 2 * e / e.sum())


@pytest.mark.parametrize("name", METHODS)
def test_an_absent_task_gets_no_weight_and_keeps_its_state(name: str) -> None:
    method, other = named(name), named(name)
    gramian = np.array([[2.0, -1, 0], [-1, 3, 1], [0, 1, 1]])
    losses = np.array([1.0, 2.0, 3.0])
    method(losses, gramian)
    other(losses, gramian)
    broken = gramian.copy()
    broken[1, :] = broken[:, 1] = np.nan
    for _ in range(3):
        w = method(np.array([1.0, np.nan, 3.0]), broken, np.array([True, False, True]))
        assert w[1] == 0
        assert np.isfinite(w).all()
    if name == "uncertainty":
        np.testing.assert_array_equal(method.state_dict()["state"][:, 1], other.state_dict()["state"][:, 1])
    assert not named(name)(losses, gramian, np.zeros(3, dtype=bool)).any()


@pytest.mark.parametrize("name", METHODS)
def test_state_dict_round_trip(name: str) -> None:
    rng = np.random.default_rng(0)
    steps = [(rng.uniform(0.5, 2, 3), (lambda j: j @ j.T)(rng.normal(size=(3, 5)))) for _ in range(120)]
    whole, first = named(name), named(name)
    expected = [whole(*step) for step in steps]
    for step in steps[:70]:
        first(*step)
    resumed = named(name)
    resumed.load_state_dict(first.state_dict())
    np.testing.assert_array_equal([resumed(*step) for step in steps[70:]], expected[70:])
    first.reset()
    np.testing.assert_array_equal(first(*steps[0]), expected[0])


@pytest.mark.parametrize("name", METHODS)
def test_one_task_and_bad_input(name: str) -> None:
    w = named(name)(np.array([2.0]), np.array([[3.0]]))
    assert w.shape == (1,)
    assert w[0] > 0
    for losses, gramian, message in (
        (np.array([1.0, np.nan]), np.eye(2), "finite"),
        (np.array([1.0, 2.0]), np.diag([1, np.inf]), "finite"),
        (np.ones(2), np.eye(3), r"\(T, T\)"),
        (np.ones((2, 1)), np.eye(2), r"\(T,\)"),
    ):
        with pytest.raises(WeightingError, match=message):
            named(name)(losses, gramian)
    with pytest.raises(WeightingError, match="present"):
        named(name)(np.ones(2), np.eye(2), np.ones(3, dtype=bool))


def test_another_number_of_tasks_needs_a_reset() -> None:
    method = named("dwa")
    method(np.ones(2), np.eye(2))
    with pytest.raises(WeightingError, match="2 tasks and was given 3"):
        method(np.ones(3), np.eye(3))


def test_a_state_of_another_method_is_refused() -> None:
    with pytest.raises(WeightingError, match="cannot go on from the state of 'dwa'"):
        named("mgda").load_state_dict(named("dwa").state_dict())


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(WeightingError, match="unknown weighting 'mdga'; choose one of equal, mgda"):
        named("mdga")


@pytest.mark.parametrize(
    "make",
    [
        lambda: mv.weighting.DWA(temperature=0),
        lambda: mv.weighting.DWA(window=0),
        lambda: mv.weighting.UncertaintyWeighting(lr=-1),
        lambda: mv.weighting.UncertaintyWeighting(initial=math.inf),
    ],
)
def test_constants_out_of_range(make: object) -> None:
    with pytest.raises(WeightingError):
        make()
