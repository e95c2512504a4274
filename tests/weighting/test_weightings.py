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
    """(T, P) over ten decades, with dependent, opposite, repeated and zero rows among them; often more tasks than P."""
    tasks, width = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    j = draw(arrays(np.float64, (tasks, width), elements=st.floats(-1, 1, width=32)))
    j = j * 10.0 ** draw(arrays(np.float64, (tasks, 1), elements=st.floats(-5, 5)))
    if tasks > 1:
        kind = draw(st.sampled_from(["as is", "repeated", "opposite", "zero"]))
        j[-1] = {"as is": j[-1], "repeated": j[0], "opposite": -3 * j[0], "zero": 0 * j[0]}[kind]
    return j


def assert_shortest(g: np.ndarray) -> None:
    """No task lies nearer to 0 along d than d itself, (J d)_t ≥ d·d, but for the rounding that G itself carries.

    An entry G_ij is known to about ε ‖g_i‖ ‖g_j‖, so (J d)_t = (G w)_t to ε ‖g_t‖ Σ w‖g‖, and d·d to ε (Σ w‖g‖)².
    """
    w = min_norm(g)
    assert np.isfinite(w).all()
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1, abs=1e-12)
    exact, weights = g.astype(np.longdouble), w.astype(np.longdouble)
    jd = exact @ weights
    dd, norms = weights @ jd, np.sqrt(np.diag(exact))
    length = norms @ weights
    assert (jd >= dd * (1 - 1e-8) - 200 * np.finfo(float).eps * (norms + length) * length).all()


@settings(max_examples=400, deadline=None)
@given(jacobians())
def test_mgda_finds_the_shortest_combination(j: np.ndarray) -> None:
    assert_shortest(j @ j.T)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(3, 9), (5, 8), (8, 3), (20, 60), (20, 4), (40, 12)]), st.booleans())
def test_mgda_is_as_exact_for_short_gradients_and_dependent_ones(
    seed: int, shape: tuple[int, int], parallel: bool
) -> None:
    rng = np.random.default_rng(seed)
    j = rng.normal(size=shape)
    if parallel:
        j[shape[0] // 2 :] = j[: -(shape[0] // 2)] * rng.choice([-1, 1, 2], size=(shape[0] - shape[0] // 2, 1))
    j *= 10.0 ** rng.uniform(-8, 2, size=(shape[0], 1))
    assert_shortest(j @ j.T)


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


@pytest.mark.parametrize("scale", [1e-290, 1e-15, 1.0, 1e15, 1e300])
@pytest.mark.parametrize("norms", [[1], [1e-16, 1], [1, 2, 4], [1, 1e-16, 1e-16], [1e-12, 1, 1e-4, 1e-8]])
def test_mgda_of_orthogonal_gradients_by_hand(norms: list[float], scale: float) -> None:
    inverse = 1 / np.array(norms)  # orthogonal rows: weights ∝ 1 / ‖g‖²
    np.testing.assert_allclose(min_norm(np.diag(norms) * scale), inverse / inverse.sum(), rtol=1e-12)


def test_mgda_of_squared_norms_that_no_float_can_add() -> None:
    w = min_norm(np.diag([1e-300, 1e300, 1e-290]))
    np.testing.assert_allclose(w, [1, 0, 1e-10], rtol=1e-9)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[2.0, 0], [2, 0], [0, 1]], [0.4, 0.8]),  # a duplicate: together they weigh 1/5, as one would
        ([[1e-8, 0], [-3, 0], [0, 5]], [0, 0]),  # opposite: they cancel
        ([[1.0, 0], [3, 1], [0, 0]], [0, 0]),
        ([[1e-8, 1e-8], [2, 0], [0, 2]], [1e-8, 1e-8]),  # the nearest by far, and inside the others' cone
        ([[1e-8, 0], [-1e-3, 1e-3], [5, 7]], [5e-9, 5e-9]),  # where the line from g₁ towards (-1, 1) is nearest to 0
    ],
)
def test_mgda_of_three_gradients_by_hand(rows: list[list[float]], expected: list[float]) -> None:
    j = np.array(rows)
    d = j.T @ min_norm(j @ j.T)
    np.testing.assert_allclose(d, expected, rtol=1e-4, atol=1e-15)


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
    x = cholesky_solve(a, b, 1e-15)
    np.testing.assert_allclose(a @ x, b, atol=1e-7 * np.linalg.cond(a))


def test_cholesky_solve_lengthens_a_dependent_row() -> None:
    a, b, tolerance = np.array([[1.0, 2], [2, 4]]), np.array([1.0, 3.0]), 2.0**-20
    lengthened = a + np.diag([0, 4 * tolerance])
    np.testing.assert_allclose(cholesky_solve(a, b, tolerance), np.linalg.solve(lengthened, b), rtol=1e-9)


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": None}, "Mine needs a name.* its name is None"),
        ({"name": ""}, "its name is ''"),
        ({"needs": None}, "needs, a frozenset out of losses, gramian, representation; its needs are None"),
        ({"needs": "gramian"}, "its needs are 'gramian'"),
        ({"needs": frozenset({"gramian", "hessian"})}, "hessian"),
        ({"heads": None}, "Mine needs heads = 'sum' or 'weighted'; its heads are None"),
        ({"heads": "mean"}, "its heads are 'mean'"),
        ({"kernel": None}, "Mine needs a kernel"),
    ],
)
def test_a_method_that_does_not_say_what_it_is_cannot_be_defined(changed: dict, message: str) -> None:
    whole = {"name": "mine", "needs": frozenset({"losses"}), "heads": "sum", "kernel": staticmethod(lambda *_: None)}
    with pytest.raises(WeightingError, match=message):
        type("Mine", (mv.weighting.Weighting,), {k: v for k, v in (whole | changed).items() if v is not None})
    mine = type("Mine", (mv.weighting.Weighting,), whole)
    assert type("Heir", (mine,), {}).name == "mine"
