"""The problems: losses, gradients and their seams against torch, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mtlviz as mv
from mtlviz.errors import ParetoError
from mtlviz.pareto import PROBLEMS, FonsecaFleming, Objectives, Quadratics, Toy
from mtlviz.pareto.quadratics import quadratics
from mtlviz.runlog.records import Floats
from tests.pareto import peers
from tests.strategies import seeds

PAIRS: dict[str, tuple[Objectives, peers.Losses]] = {
    "toy": (Toy(), peers.toy),
    "quadratics": (Quadratics(), peers.quadratics(90, 10)),
    "narrow quadratics": (Quadratics(angle=140, conditioning=300), peers.quadratics(140, 300)),
    "round quadratics": (Quadratics(conditioning=1), peers.quadratics(0, 1)),
    "fonseca_fleming": (FonsecaFleming(), peers.fonseca_fleming),
}
every = pytest.mark.parametrize("name", PAIRS)


def in_the_plane(problem: Objectives, count: int, seed: int = 0) -> Floats:
    """Points (count, 2) of the plane that is shown."""
    low, high = np.array(problem.bounds).T
    return np.random.default_rng(seed).uniform(low, high, size=(count, 2))


def at_the_walls(count: int, seed: int = 0) -> Floats:
    """Points (count, 2) of the toy at and beside the two curves on which the argument of a logarithm is 0."""
    rng = np.random.default_rng(seed)
    x2 = rng.uniform(1e-3, 11, size=count)
    x1 = np.where(rng.random(count) < 0.5, -7 + 2 * np.tanh(x2), 7 - 2 * np.tanh(x2))
    return np.stack([x1 + rng.normal(size=count) * 10 ** rng.uniform(-9, 0, size=count), x2], axis=1)


@every
def test_losses_and_gradients_are_those_of_autograd(name: str) -> None:
    problem, peer = PAIRS[name]
    x = in_the_plane(problem, 2000)
    if name == "toy":
        x = np.concatenate([x, at_the_walls(2000)])
    values, gradients = peers.value_and_gradients(peer, x)
    np.testing.assert_allclose(problem.own_losses(x), values, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(problem.gradients(x), gradients, rtol=1e-7, atol=1e-11)


@every
@settings(max_examples=40)
@given(
    seed=seeds,
    scale=st.tuples(*[st.floats(-6, 6).map(lambda power: 10**power)] * 2),
    offset=st.floats(-100, 100),
)
def test_scale_multiplies_and_offset_adds_and_own_losses_see_neither(
    name: str, seed: int, scale: tuple[float, float], offset: float
) -> None:
    problem, peer = PAIRS[name]
    x = in_the_plane(problem, 6, seed).reshape(2, 3, 2)
    other = problem.scaled(scale, offset)
    values, gradients = peers.value_and_gradients(peer, x)
    np.testing.assert_allclose(other.losses(x), values * scale + offset, rtol=1e-8, atol=1e-9 * max(scale))
    np.testing.assert_allclose(other.gradients(x), gradients * np.array(scale)[:, None], rtol=1e-7, atol=1e-18)
    np.testing.assert_array_equal(other.own_losses(x), problem.own_losses(x))
    np.testing.assert_array_equal(other.front, problem.front)
    np.testing.assert_array_equal(other.best_average, problem.best_average)
    assert (other.scale, other.offset, problem.scale, problem.offset) == (scale, offset, (1.0, 1.0), 0.0)


def test_the_toys_values_of_algorithms_section_7() -> None:
    np.testing.assert_allclose(Toy().losses((-8.5, 7.5)), [6.5524, 7.9008], atol=5e-5)
    np.testing.assert_array_equal(Toy().losses((0.0, 0.0)), [0.0, 0.0])
    np.testing.assert_allclose(Toy().losses((-7.0, -8.3552)), [-0.3986, -19.9893], atol=6e-5)
    np.testing.assert_allclose(Toy().losses((7.0, -8.3552)), [-19.9893, -0.3986], atol=6e-5)
    np.testing.assert_allclose(Toy().losses((0.0, -8.3552)), [-15.0916, -15.0916], atol=5e-5)
    np.testing.assert_allclose(Toy().best_average, [[0.0, -8.35511]], atol=5e-6)
    np.testing.assert_allclose(Toy().minimisers((0.1, 1.0)), [[-5.7273, -8.4094]], atol=5e-5)
    np.testing.assert_allclose(Toy().pareto_set[[0, -1]], [[7, -8.4345], [-7, -8.4345]], atol=5e-5)


def test_the_toys_constants_by_hand() -> None:
    """Far up every tanh is 1, and far down -1: what is left are the constants of f and q."""
    x1, up, down = 3.0, 60.0, -60.0
    f = [math.log(abs(0.5 * (-x1 - 7) + 1)) + 6, math.log(abs(0.5 * (-x1 + 3) - 1 + 2)) + 6]
    np.testing.assert_allclose(Toy().losses((x1, up)), f, rtol=1e-15)
    q = [((-x1 + 7) ** 2 + 0.1 * 52**2) / 10 - 20, ((-x1 - 7) ** 2 + 0.1 * 52**2) / 10 - 20]
    np.testing.assert_allclose(Toy().losses((x1, down)), q, rtol=1e-15)
    assert math.isclose(Toy().losses((-5.0, up))[0], math.log(5e-6) + 6, rel_tol=1e-14)  # the floor of the logarithm
    assert math.isclose(Toy().losses((5.0, up))[1], math.log(5e-6) + 6, rel_tol=1e-14)


def test_on_the_seam_of_the_gates_the_gradients_of_both_sides_add_up() -> None:
    """torch.clamp passes its gradient at the bound, and at x2 = 0 both gates are at theirs."""
    x = np.stack([np.append(np.linspace(-11, 11, 23), [0.3, -7.0]), np.zeros(25)], axis=1)
    values, gradients = peers.value_and_gradients(peers.toy, x)
    np.testing.assert_array_equal(Toy().losses(x), 0 * values)
    np.testing.assert_allclose(Toy().gradients(x), gradients, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(Toy().gradients(x)[..., 0], 0.0)
    aside = np.array([0, 1e-12])
    above, below = Toy().gradients(x + aside), Toy().gradients(x - aside)
    np.testing.assert_allclose(Toy().gradients(x)[..., 1], (above + below)[..., 1], rtol=1e-5)
    f = math.log(3.5) + 6
    np.testing.assert_allclose(Toy().gradients((0.0, 0.0)), [[0, 0.5 * f - 0.5 * (4.9 + 0.64 - 20)]] * 2, rtol=1e-14)


@pytest.mark.parametrize(
    ("size", "passes"), [(5e-6, True), (math.nextafter(5e-6, 0), False), (math.nextafter(5e-6, 1), True), (0.0, False)]
)
def test_on_the_seam_of_the_logarithm_the_gradient_is_that_of_torch_clamp(size: float, passes: bool) -> None:
    """At x1 = -7 the argument is tanh(x2) itself, so that it can be 5e-6 to the last bit."""
    x2 = math.atanh(size)
    while math.tanh(x2) != size:
        x2 = math.nextafter(x2, 1.0 if math.tanh(x2) < size else 0.0)
    assert float(torch.tanh(torch.tensor(x2, dtype=torch.float64))) == size
    values, gradients = peers.value_and_gradients(peers.toy, np.array([-7.0, x2]))
    np.testing.assert_allclose(Toy().losses((-7.0, x2)), values, rtol=1e-13)
    ours = Toy().gradients((-7.0, x2))
    np.testing.assert_allclose(ours, gradients, rtol=1e-12)
    slope = -0.5 * math.tanh(x2 / 2) / size if passes else 0.0  # c₁ / |…| times the inner derivative of x1
    assert math.isclose(ours[0, 0], slope, rel_tol=1e-9)
    assert (slope != 0) == passes


@pytest.mark.parametrize(("x1", "loss"), [(-5.0, 0), (5.0, 1)])
def test_at_the_bottom_of_a_valley_the_gradient_along_x1_is_zero(x1: float, loss: int) -> None:
    """|…| = 0 exactly, where also the derivative of the absolute value is 0 in torch; beside it the wall is steep."""
    gradients = Toy().gradients([(x1, 30.0), (x1 + 1e-6, 30.0), (x1 + 2e-5, 30.0), (x1 - 2e-5, 30.0)])[:, loss, 0]
    np.testing.assert_array_equal(gradients[:2], 0.0)
    np.testing.assert_allclose(gradients[2:], [5e4, -5e4], rtol=1e-4)  # 1 / (2 · 1e-5)
    peer = peers.value_and_gradients(peers.toy, np.array([(x1, 30.0), (x1 + 1e-6, 30.0)]))[1]
    np.testing.assert_array_equal(peer[:, loss, 0], 0.0)


@given(
    angle=st.floats(0, 180),
    conditioning=st.floats(0, 4).map(lambda power: 10**power),
    seed=seeds,
)
def test_quadratics_are_the_matrix_formula(angle: float, conditioning: float, seed: int) -> None:
    problem = Quadratics(angle=angle, conditioning=conditioning)
    minima, shapes = peers.bowls(angle, conditioning)
    x = in_the_plane(problem, 20, seed)
    for t in range(2):
        away = x - minima[t]
        np.testing.assert_allclose(
            problem.losses(x)[:, t], 0.5 * np.einsum("ni,ij,nj->n", away, shapes[t], away), rtol=1e-8
        )
        np.testing.assert_allclose(problem.gradients(x)[:, t], away @ shapes[t], rtol=1e-7, atol=1e-9 * conditioning)
        eigenvalues = np.linalg.eigvalsh(shapes[t])
        np.testing.assert_allclose(eigenvalues, [conditioning**-0.5, conditioning**0.5], rtol=1e-9)
    for point in problem.set_at(np.random.default_rng(seed).uniform(size=5)):
        one, two = shapes @ (point - minima)[..., None]  # the gradients: opposite, in the ratio (1 − λ) / λ
        share = np.linalg.norm(two) / (np.linalg.norm(one) + np.linalg.norm(two))
        system = share * shapes[0] + (1 - share) * shapes[1]
        expected = np.linalg.solve(system, share * shapes[0] @ minima[0] + (1 - share) * shapes[1] @ minima[1])
        np.testing.assert_allclose(point, expected, rtol=1e-8, atol=1e-8)


def test_the_angle_of_the_quadratics_is_between_their_long_axes() -> None:
    problem = Quadratics(angle=60, conditioning=100)
    along = np.array([[math.cos(math.pi / 6), 0.5], [math.cos(math.pi / 6), -0.5]])
    across = along[:, ::-1] * [-1, 1]
    minima = np.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(np.diag(problem.losses(minima + along)), 0.05, rtol=1e-12)  # ½ / √100
    np.testing.assert_allclose(np.diag(problem.losses(minima + across)), 5.0, rtol=1e-12)


def test_a_landscape_is_the_own_losses_on_a_grid() -> None:
    problem = Toy().scaled((0.1, 1.0), 5.0)
    landscape = problem.landscape(31)
    assert (landscape.x1.shape, landscape.x2.shape, landscape.losses.shape) == ((31,), (31,), (31, 31, 2))
    assert (landscape.x1[0], landscape.x1[-1], landscape.x2[0], landscape.x2[-1]) == (-11, 11, -11, 11)
    at = np.array([landscape.x1[4], landscape.x2[20]])
    np.testing.assert_allclose(landscape.losses[20, 4], peers.toy(torch.from_numpy(at)).numpy(), rtol=1e-12)


@every
def test_points_of_any_shape_and_any_memory(name: str) -> None:
    problem = PAIRS[name][0]
    x = in_the_plane(problem, 12)
    losses, gradients = problem.losses(x), problem.gradients(x)
    np.testing.assert_array_equal(problem.losses(x.reshape(3, 2, 2, 2)), losses.reshape(3, 2, 2, 2))
    np.testing.assert_array_equal(problem.gradients(x.reshape(3, 4, 2)), gradients.reshape(3, 4, 2, 2))
    np.testing.assert_array_equal(problem.losses(tuple(x[0])), losses[0])
    np.testing.assert_array_equal(problem.losses(np.asfortranarray(x)), losses)
    np.testing.assert_array_equal(problem.losses(x[::-1]), losses[::-1])
    x.flags.writeable = False  # as pandas hands out its columns
    np.testing.assert_array_equal(problem.losses(x), losses)
    assert problem.losses(np.empty((0, 2))).shape == (0, 2)


def test_the_problems_by_name() -> None:
    assert list(PROBLEMS) == ["toy", "quadratics", "fonseca_fleming"]
    for name, problem in PROBLEMS.items():
        assert (problem.name, problem.scale, problem.offset) == (name, (1.0, 1.0), 0.0)
        assert problem.title
        low, high = np.array(problem.bounds).T
        assert ((problem.starts >= low) & (problem.starts <= high)).all()
        assert ((problem.pareto_set >= low) & (problem.pareto_set <= high)).all()
    np.testing.assert_array_equal(Toy().starts, [(-8.5, 7.5), (0, 0), (9, 9), (-7.5, -0.5), (9, -1)])
    assert Toy.usual_scale == (0.1, 1.0)


@every
def test_what_a_problem_hands_out_cannot_be_changed(name: str) -> None:
    problem = PAIRS[name][0]
    for array in (problem.front, problem.pareto_set, problem.best_average):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((0, 1), r"scale needs positive finite numbers.*\(0, 1\)"),
        ((1, -0.5), "scale needs positive finite numbers"),
        ((np.nan, 1), "scale needs positive finite numbers"),
        ((1, np.inf), "scale needs positive finite numbers"),
        ((1, 2, 3), "scale needs two numbers: the plane has two objectives; came 3"),
        ((1,), "scale needs two numbers.*came 1"),
        (1.0, r"scale needs two positive numbers, one a loss; came 1\.0"),
        ("12", "scale needs two numbers.*'12'"),
        (("a", 1), "scale needs two positive numbers"),
        (None, "scale needs two positive numbers.*None"),
    ],
)
def test_a_scale_that_is_not_two_positive_numbers(scale: object, message: str) -> None:
    for make in (lambda: Toy(scale=scale), lambda: Quadratics().scaled(scale)):
        with pytest.raises(ParetoError, match=message):
            make()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Toy(offset=np.nan), "offset needs a finite number; came nan"),
        (lambda: Toy(offset="a"), "offset needs a number; came 'a'"),
        (lambda: Toy(offset=None), "offset needs a number"),
        (lambda: Quadratics(angle=-1), r"quadratics: angle must be in \[0, 180\] degrees, got -1"),
        (lambda: Quadratics(angle=np.nan), "quadratics: angle needs a finite number; came nan"),
        (lambda: Quadratics(angle="a"), "quadratics: angle needs a number; came 'a'"),
        (lambda: Quadratics(conditioning=0.5), r"quadratics: conditioning must be in \[1, 1e6\], got 0\.5"),
        (lambda: Quadratics(conditioning=np.inf), "conditioning"),
        (lambda: Quadratics(conditioning=None), "quadratics: conditioning needs a number; came None"),
        (lambda: Toy().minimisers((0, 1)), r"weights needs? positive finite numbers.*\(0, 1\)"),
        (lambda: Toy().minimisers((1, 1, 1)), "weights needs? two numbers"),
        (lambda: Toy().losses((1, 2, 3)), r"two coordinates.*\(3,\)"),
        (lambda: Toy().gradients(3.0), r"two coordinates.*\(\)"),
        (lambda: Toy().own_losses("abc"), "pairs of numbers.*'abc'"),
        (lambda: Toy().landscape(1), "size must be a whole number from 2 .*got 1"),
        (lambda: Toy().landscape("a"), "size must be a whole number from 2 .*got 'a'"),
    ],
)
def test_bad_input_is_named(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ParetoError, match=message):
        act()


class Bent(Objectives):
    """A problem of a user's own."""

    name, title = "bent", "Bent"
    kernel = staticmethod(Toy.kernel)
    bounds = ((-1.0, 1.0), (-1.0, 1.0))
    usual_starts = ((0.5, 0.5),)

    def set_at(self, t: Floats) -> Floats:
        return Toy().set_at(t)


def test_a_problem_of_ones_own_has_all_that_the_others_have() -> None:
    np.testing.assert_allclose(Bent().best_average, Toy().best_average)
    assert mv.pareto.descend("equal", problem=Bent(scale=(2, 3)), steps=3).problem.scale == (2.0, 3.0)


def test_a_problem_of_ones_own_needs_its_attributes_and_a_compiled_kernel() -> None:
    body = {"name": "own", "title": "Own", "bounds": ((-1, 1), (-1, 1)), "usual_starts": ((0.0, 0.0),)}
    with pytest.raises(ParetoError, match="the problem Own needs kernel in the body"):
        type("Own", (Objectives,), body)
    with pytest.raises(ParetoError, match="needs name, title, bounds, usual_starts"):
        type("Own", (Objectives,), {"kernel": staticmethod(quadratics)})
    with pytest.raises(ParetoError, match="not compiled: decorate it with"):
        type("Own", (Objectives,), body | {"kernel": staticmethod(lambda x, constants, losses, gradients: None)})


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_what_does_not_depend_on_the_scale_is_found_once(problem: Objectives) -> None:
    known = problem.pareto_set, problem.front, problem.best_average
    other = problem.scaled((3.0, 0.2), 5.0)
    assert all(a is b for a, b in zip(known, (other.pareto_set, other.front, other.best_average), strict=True))
    fresh = type(problem)(scale=(3.0, 0.2), offset=5.0)
    for name in ("pareto_set", "front", "best_average"):
        np.testing.assert_array_equal(getattr(other, name), getattr(fresh, name))


def test_the_gap_is_that_of_the_mean_to_the_best() -> None:
    toy = Toy(scale=(0.1, 1.0))
    assert toy.gap(toy.own_losses([[0.0, -8.35511], [7.0, -8.3552]])) == pytest.approx([0.0, 4.8977], abs=1e-4)
