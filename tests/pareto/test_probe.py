"""What every method would do at a point: the weights that the descent had there, directions, and bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mtlviz as mv
from mtlviz.errors import MtlvizError, ParetoError, WeightingError
from mtlviz.pareto import PROBLEMS, Descent, Toy, descend, probe
from mtlviz.runlog.records import Floats
from mtlviz.weighting import METHODS, Weighting
from mtlviz.weighting.kernels import kernel as compiled
from tests.pareto import peers

METHODS_OF_ALL = {name: mv.weighting.named(name) for name in METHODS if name not in ("graddrop", "adatask")} | {
    "nash, kept": mv.weighting.NashMTL(every=7),
    "warm stch": mv.weighting.STCH(warmup=30),
    "emtl of gradnorm": mv.weighting.EMTL(inside="gradnorm"),
    "quick famo": mv.weighting.FAMO(lr=0.5, min_losses=[-3, 2]),
}


@pytest.fixture(scope="module")
def ours() -> Descent:
    return descend(METHODS_OF_ALL, [(-7.5, -0.5), (9.0, 9.0)], offset=30.0, steps=120, points=None, seed=4)


@pytest.mark.parametrize("label", METHODS_OF_ALL)
def test_the_probed_weights_are_those_of_the_descent(ours: Descent, label: str) -> None:
    m = ours.methods.index(label)
    for n in range(2):
        for step in (0, 1, 13, 120):
            path = ours.x[m, n, : step + 1]
            moment = probe({label: METHODS_OF_ALL[label]}, path, ours.problem, seed=4)
            np.testing.assert_array_equal(moment.weights[0], ours.weights[m, n, step])
            np.testing.assert_array_equal(moment.x, path[-1])


def test_all_methods_at_once_on_one_path(ours: Descent) -> None:
    path = ours.x[0, 0, :60]
    moment = probe(METHODS_OF_ALL, path, ours.problem, seed=4)
    assert moment.methods == ours.methods
    assert (moment.weights.shape, moment.directions.shape) == ((len(METHODS_OF_ALL), 2),) * 2
    for label, weights in zip(moment.methods, moment.weights, strict=True):
        np.testing.assert_array_equal(
            probe({label: METHODS_OF_ALL[label]}, path, ours.problem, seed=4).weights[0], weights
        )


def test_gradients_and_directions_are_those_that_the_methods_see() -> None:
    problem = Toy(scale=(0.1, 3.0), offset=7.0)
    point = np.array([-7.5, -0.5])
    moment = probe(["equal", "mgda", "pcgrad"], point[None], problem)
    own = peers.value_and_gradients(peers.toy, point)[1]
    np.testing.assert_allclose(moment.gradients, own * [[0.1], [3.0]], rtol=1e-12)
    for name, weights, direction in zip(moment.methods, moment.weights, moment.directions, strict=True):
        expected = peers.WEIGHTS[name](own * [[0.1], [3.0]])
        np.testing.assert_allclose(weights, expected, rtol=1e-9)
        np.testing.assert_allclose(direction, -expected @ (own * [[0.1], [3.0]]), rtol=1e-9)


def test_the_seed_and_the_step_make_the_random_weights() -> None:
    path = np.tile([1.0, -3.0], (5, 1))
    one, again, other = (probe("rlw", path, PROBLEMS["toy"], seed=seed).weights for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, probe("rlw", path[:4], PROBLEMS["toy"], seed=1).weights)


def test_a_problem_by_its_name_has_its_usual_scale() -> None:
    found, wanted = (probe("mgda", [(1.0, -3.0)], problem) for problem in ("toy", Toy(scale=(0.1, 1.0))))
    np.testing.assert_array_equal(found.gradients, wanted.gradients)
    np.testing.assert_array_equal(found.weights, wanted.weights)


def test_a_method_that_has_no_weights_there_says_so_with_nan() -> None:
    path = np.array([[-7.5, -0.5], [-7.5, -0.6]])  # both losses are below 0
    moment = probe(["si", "equal", "gls"], path, PROBLEMS["toy"])
    assert np.isnan(moment.weights[[0, 2]]).all()
    assert np.isnan(moment.directions[[0, 2]]).all()
    np.testing.assert_array_equal(moment.weights[1], [1, 1])
    lost = probe(["equal", "dwa"], np.array([[np.nan, 1.0]]), PROBLEMS["toy"])  # after the end of a trajectory
    assert np.isnan(lost.weights).all()


def test_the_methods_and_the_path_are_left_as_they_were() -> None:
    dwa, path = mv.weighting.named("dwa"), np.tile([1.0, -3.0], (9, 1))
    path.flags.writeable = False
    before = dwa.state_dict()
    first = probe(dwa, path, PROBLEMS["toy"]).weights
    np.testing.assert_array_equal(probe(dwa, path, PROBLEMS["toy"]).weights, first)
    assert dwa.state_dict() == before


class Uncompiled(mv.weighting.Weighting):
    """A method with a kernel that nobody compiled."""

    name, needs, heads = "uncompiled", frozenset({"losses"}), "weighted"

    @staticmethod
    def kernel(
        losses: Floats, gramian: Floats, present: Any, constants: Floats, state: Floats, draws: Floats
    ) -> Floats:
        return present / 2


def run(methods: Any = "mgda", starts: Any = None, problem: Any = "toy", **options: Any) -> Descent:
    return descend(methods, starts, problem, **({"steps": 5} | options))


BAD: list[tuple[Callable[[], Any], type[MtlvizError], str]] = [
    (lambda: run(problem="toi"), ParetoError, "unknown problem 'toi'; did you mean 'toy'? choose one of toy, quad"),
    (lambda: run(problem="x"), ParetoError, "unknown problem 'x'; choose one of toy, quadratics, fonseca_fleming"),
    (lambda: run(problem=42), ParetoError, "problem needs a name, one of toy, quadratics, fonseca_fleming, or an"),
    (lambda: run(problem=None), ParetoError, "problem needs a name"),
    (lambda: run(problem=Toy), ParetoError, "problem needs a name"),
    (lambda: run("mdga"), WeightingError, "unknown weighting 'mdga'; did you mean 'mgda'? choose one of equal, si"),
    (lambda: run([]), WeightingError, "a descent needs one method or more; choose among equal, si"),
    (lambda: run({}), WeightingError, "a descent needs one method or more"),
    (lambda: run(None), WeightingError, "names of methods or Weighting instances; came None"),
    (lambda: run(42), WeightingError, "came 42"),
    (lambda: run(["mgda", 3.0]), WeightingError, "came 3.0"),
    (lambda: run("graddrop"), WeightingError, "graddrop: its update is no weighted sum of the task gradients; the"),
    (lambda: run(["mgda", "adatask"]), WeightingError, "adatask: its update is no weighted sum"),
    (lambda: run({"mine": Uncompiled()}), WeightingError, "mine needs a compiled kernel for the descent"),
    (lambda: run(mv.weighting.FAMO(min_losses=[1, 2, 3])), WeightingError, "famo cannot descend on two objectives"),
    (lambda: run(mv.weighting.GradNorm(initial_losses=[1, 2, 3])), WeightingError, "gradnorm cannot descend on two"),
    (lambda: run(mv.weighting.STCH(preference=[1, 2, 3])), WeightingError, "stch cannot descend on two objectives"),
    (lambda: run(starts=(np.nan, 1)), ParetoError, "start 1 is not finite: (nan, 1.0)"),
    (lambda: run(starts=[(0, 1), (1, -np.inf)]), ParetoError, "start 2 is not finite: (1.0, -inf)"),
    (lambda: run(starts="abc"), ParetoError, "starts: points of the plane are pairs of numbers (..., 2); came 'abc'"),
    (lambda: run(starts=(1, 2, 3)), ParetoError, "starts: points of the plane have two coordinates, (..., 2); came"),
    (lambda: run(starts=[(1, 2, 3), (4, 5, 6)]), ParetoError, "starts: points of the plane have two coordinates"),
    (lambda: run(starts=np.zeros((2, 2, 2))), ParetoError, "starts are points of the plane, (N, 2); came the shape"),
    (
        lambda: run(starts=np.empty((0, 2))),
        ParetoError,
        "starts are points of the plane, (N, 2); came the shape (0, 2)",
    ),
    (lambda: run(starts=[]), ParetoError, "starts: "),
    (lambda: run(starts=[(1, 2), (3,)]), ParetoError, "starts: points of the plane are pairs"),
    (lambda: run(starts=5), ParetoError, "starts: "),
    (lambda: run(scale=(0, 1)), ParetoError, "scale needs positive finite numbers, one a loss; came (0, 1)"),
    (lambda: run(scale=(1, -1)), ParetoError, "scale needs positive finite numbers"),
    (lambda: run(scale=(1, np.nan)), ParetoError, "scale needs positive finite numbers"),
    (lambda: run(scale=(1, 2, 3)), ParetoError, "scale needs two numbers: the plane has two objectives; came 3"),
    (lambda: run(scale=0.1), ParetoError, "scale needs two positive numbers"),
    (lambda: run(offset=np.inf), ParetoError, "offset needs a finite number; came inf"),
    (lambda: run(offset="a"), ParetoError, "offset needs a number; came 'a'"),
    (lambda: run(offset=(1, 2)), ParetoError, "offset needs a number"),
    *(
        (
            lambda steps=steps: run(steps=steps),
            ParetoError,
            f"steps must be a whole number from 1 to 10,000,000, got {steps!r}",
        )
        for steps in (0, -1, 2.5, True, "5", None, 10_000_001)
    ),
    *(
        (lambda lr=lr: run(lr=lr), ParetoError, f"lr must be positive and finite, got {lr!r}")
        for lr in (0, -1e-3, float("nan"), float("inf"), "a", None, True)
    ),
    (lambda: run(optimizer="rmsprop"), ParetoError, "unknown optimizer 'rmsprop'; choose one of adam, sgd"),
    (lambda: run(optimizer=None), ParetoError, "unknown optimizer None"),
    *(
        (
            lambda points=points: run(points=points),
            ParetoError,
            f"points must be a whole number from 2 up, or None for all, got {points!r}",
        )
        for points in (1, 0, -3, 2.0, True, "a")
    ),
    (lambda: run(steps=10_000_000, points=None), ParetoError, "5 trajectories of 10,000,001 points each are more than"),
    *(
        (lambda seed=seed: run("rlw", seed=seed), ParetoError, f"seed must be a whole number from 0, got {seed!r}")
        for seed in (-1, 2.5, "a", None, True)
    ),
    *(
        (lambda wide=wide: run(tolerance=wide), ParetoError, f"tolerance must be positive and finite, got {wide!r}")
        for wide in (0, -1, float("nan"), "a")
    ),
    (lambda: probe("mgda", np.empty((0, 2)), Toy()), ParetoError, "a path has a point or more, (K, 2); came the shape"),
    (lambda: probe("mgda", (1.0, 2.0), Toy()), ParetoError, "a path has a point or more, (K, 2); came the shape (2,)"),
    (lambda: probe("mgda", [(1, 2, 3)], Toy()), ParetoError, "two coordinates"),
    (lambda: probe("mgda", [(1, 2)], "toi"), ParetoError, "unknown problem 'toi'; did you mean 'toy'?"),
    (lambda: probe("mgda", [(1, 2)], None), ParetoError, "problem needs a name"),
    (lambda: probe("mdga", [(1, 2)], Toy()), WeightingError, "unknown weighting 'mdga'"),
    (lambda: probe("rlw", [(1, 2)], Toy(), seed=-1), ParetoError, "seed must be a whole number from 0"),
]


@pytest.mark.parametrize(("act", "kind", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_named(act: Callable[[], Any], kind: type[MtlvizError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        act()


def test_a_kernel_that_returns_another_number_of_weights_is_named() -> None:
    @compiled
    def three(losses, gramian, present, constants, state, draws):  # type: ignore[no-untyped-def]
        return np.ones(3)

    class Three(Weighting):
        name, needs, heads = "three", frozenset({"losses"}), "sum"
        kernel = staticmethod(three)

    with pytest.raises(WeightingError, match=r"three: its kernel must return weights \(2,\) .* it returned \(3,\)"):
        descend(Three(), steps=5)


def test_a_point_of_the_path_that_is_not_finite_is_named() -> None:
    with pytest.raises(ParetoError, match="point 2 of the path is not finite"):
        probe("mgda", [(1.0, 1.0), (np.nan, 2.0), (2.0, 2.0)], "toy")
