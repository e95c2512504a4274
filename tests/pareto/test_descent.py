"""The descent against torch's Adam and SGD, weights from the papers, and the `Weighting` objects called one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import mtlviz as mv
from mtlviz.errors import WeightingError
from mtlviz.pareto import PROBLEMS, Descent, Objectives, Quadratics, Toy, descend
from mtlviz.runlog.records import Floats
from mtlviz.weighting import METHODS, Weighting
from tests.pareto import peers

STARTS = np.array([(-8.5, 7.5), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)])
STEPS = 2000
EVERY_METHOD = [name for name in METHODS if name not in ("graddrop", "adatask")]

Both = tuple[Descent, Floats, Floats]


@pytest.fixture(scope="module", params=["adam", "sgd"])
def both(request: pytest.FixtureRequest) -> Both:
    """The descent of six methods on the toy, and points and weights (M, N, S + 1, 2) of torch."""
    options: dict[str, Any] = {"optimizer": request.param, "lr": 1e-3, "steps": STEPS}
    ours = descend(list(peers.WEIGHTS), STARTS, "toy", scale=(0.1, 1.0), points=None, **options)
    return ours, *peers.descent(list(peers.WEIGHTS), STARTS, peers.toy, (0.1, 1.0), **options)


def test_trajectories_are_those_of_torch(both: Both) -> None:
    """Not from (0, 0), where the gradients are collinear and two of the methods' formulas are 0/0; see below."""
    ours, x, weights = both
    np.testing.assert_array_equal(ours.step, np.arange(STEPS + 1))
    np.testing.assert_allclose(ours.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.weights, weights, rtol=1e-6, atol=1e-9)
    ends = x[:, :, -1]
    assert np.linalg.norm(ends - STARTS, axis=-1).min() > 0.01  # all of them went somewhere,
    assert len(np.unique(ends.reshape(-1, 2).round(4), axis=0)) > 15  # and not all to the same place
    assert (x[..., 1].min(axis=(1, 2)) < -2).any()  # down the bowls, and in the valleys above the seam
    assert (x[:, :2, -1, 1] > 1).all()


def test_losses_and_cosines_are_those_at_the_points(both: Both) -> None:
    ours, x, _ = both
    values, gradients = peers.value_and_gradients(peers.toy, x[:, :, ::20])
    np.testing.assert_allclose(ours.losses[:, :, ::20], values, rtol=0, atol=1e-4)  # own units: without the scale
    cosine = (gradients[..., 0, :] * gradients[..., 1, :]).sum(-1) / np.linalg.norm(gradients, axis=-1).prod(-1)
    np.testing.assert_allclose(ours.cosine[:, :, ::20], cosine, rtol=0, atol=1e-4)
    assert (cosine < 0).any()
    assert (cosine > 0).any()


def test_from_the_origin_where_the_gradients_are_collinear() -> None:
    """Both gradients point up along x2, the second ten times as long; the sums of weights decide the rest."""
    names = [*peers.WEIGHTS, "upgrad", "dualproj", "emtl", "fairgrad", "aligned_mtl"]
    ours = descend(names, (0.0, 0.0), "toy", scale=(0.1, 1.0), steps=500, points=None)
    first = Toy().scaled((0.1, 1.0)).gradients((0.0, 0.0))
    np.testing.assert_allclose(first[1], 10 * first[0], rtol=1e-15)
    assert first[0, 0] == 0.0
    assert first[0, 1] > 0.0
    np.testing.assert_allclose(ours.cosine[:, 0, 0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(ours.x[:, 0, 1], np.tile([0.0, -1e-3], (len(names), 1)), rtol=1e-6)  # Adam's first step
    weights = dict(zip(names, ours.weights[:, 0, 0], strict=True))
    np.testing.assert_array_equal(weights["equal"], [1, 1])
    np.testing.assert_allclose(weights["mgda"], [1, 0], atol=1e-12)  # the shorter gradient
    np.testing.assert_allclose(weights["pcgrad"], [1, 1])
    length = first[0, 1]
    np.testing.assert_allclose(weights["nash_mtl"], np.array([1, 0.1]) / length / np.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(weights["imtl_g"], [10 / 11, 1 / 11], rtol=1e-9)  # the least-squares solution of d·u = 1
    np.testing.assert_allclose(weights["cagrad"], [0.5 + 0.4 * 5.5, 0.5], rtol=1e-9)  # the worst gain is the first's
    certain = ["equal", "mgda", "pcgrad", "cagrad"]
    x, _ = peers.descent(certain, np.zeros((1, 2)), peers.toy, (0.1, 1.0), 500, "adam", 1e-3)
    np.testing.assert_allclose(ours.x[:4], x[[certain.index(name) for name in names[:4]]], rtol=0, atol=1e-6)
    assert np.isfinite(ours.x).all()


@pytest.mark.parametrize(
    ("problem", "peer", "lr"),
    [
        ("quadratics", peers.quadratics(90, 10), 0.01),
        (Quadratics(angle=150, conditioning=200), peers.quadratics(150, 200), 0.003),
        ("fonseca_fleming", peers.fonseca_fleming, 0.01),
    ],
)
def test_trajectories_on_the_other_problems_are_those_of_torch(
    problem: str | Objectives, peer: peers.Losses, lr: float
) -> None:
    for optimizer in ("adam", "sgd"):
        options: dict[str, Any] = {"optimizer": optimizer, "lr": lr, "steps": 200}
        ours = descend(["equal", "mgda", "pcgrad"], problem=problem, scale=(2.0, 0.7), points=None, **options)
        x, weights = peers.descent(["equal", "mgda", "pcgrad"], ours.starts, peer, (2.0, 0.7), **options)
        np.testing.assert_allclose(ours.x, x, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.weights, weights, rtol=0, atol=1e-5)


MANY = [
    mv.weighting.named("famo"),
    mv.weighting.named("uncertainty"),
    mv.weighting.named("dwa"),
    mv.weighting.named("rlw"),
    mv.weighting.named("gradnorm"),
    mv.weighting.named("emtl"),
    mv.weighting.BanditMTL(rho=0.05, eta=0.05),
    mv.weighting.named("imtl_l"),
    mv.weighting.named("upgrad"),
    mv.weighting.named("pcgrad"),
    mv.weighting.FAMO(min_losses=[-5, 3], lr=0.3),
    mv.weighting.NashMTL(every=7, max_norm=1.0),
    mv.weighting.STCH(warmup=40),
    mv.weighting.EMTL(inside="gradnorm", rate="norm_over_loss"),
    mv.weighting.GradNorm(step="multiplicative", initial_losses=[1.0, 30.0]),
]


def one_by_one(method: Weighting, start: Floats, steps: int, seed: int) -> tuple[Floats, Floats]:
    """The points and weights (S + 1, 2) of a loop that calls the weighting as training does, with torch's Adam."""
    method.reset(seed)
    x = torch.tensor(start, requires_grad=True)
    adam = torch.optim.Adam([x], lr=2e-3)
    path, weights = [], []
    for step in range(steps + 1):
        values, gradients = peers.value_and_gradients(peers.toy, x.detach().numpy())
        losses, g = values * [0.3, 2.0] + 60.0, gradients * [[0.3], [2.0]]
        if step and "losses_after" in method.needs:
            method.observe(losses)
        path.append(x.detach().numpy().copy())
        weights.append(method(losses, g @ g.T))
        x.grad = torch.from_numpy(weights[-1] @ g)
        adam.step()
    return np.array(path), np.array(weights)


@pytest.mark.parametrize("method", MANY, ids=repr)
def test_the_weightings_called_one_by_one_lead_the_same_way(method: Weighting) -> None:
    starts, steps = STARTS[[1, 2]], 200
    ours = descend(method, starts, scale=(0.3, 2.0), offset=60.0, steps=steps, lr=2e-3, points=None, seed=7)
    for n, start in enumerate(starts):
        path, weights = one_by_one(method, start, steps, seed=7)
        np.testing.assert_allclose(ours.x[0, n], path, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.weights[0, n], weights, rtol=1e-7)
    if method.stateful and method.name not in ("pcgrad", "nash_mtl"):
        assert len(np.unique(ours.weights[0].reshape(-1, 2).round(6), axis=0)) > 3  # the state moves


def test_every_method_descends_and_the_shapes_are_as_told() -> None:
    ours = descend(EVERY_METHOD, STARTS[:3], offset=40.0, steps=50, points=11)
    M, K = len(EVERY_METHOD), 11
    assert ours.methods == tuple(EVERY_METHOD)
    assert (ours.x.shape, ours.weights.shape, ours.losses.shape) == ((M, 3, K, 2),) * 3
    assert (ours.cosine.shape, ours.step.shape, ours.last.shape) == ((M, 3, K), (K,), (M, 3, 2))
    assert ours.problem.scale == (0.1, 1.0)
    assert (ours.problem.offset, ours.steps, ours.lr, ours.optimizer) == (40.0, 50, 1e-3, "adam")
    assert np.isfinite(ours.x).all()
    assert np.isfinite(ours.weights).all()
    np.testing.assert_array_equal(ours.x[:, :, 0], np.broadcast_to(STARTS[:3], (M, 3, 2)))
    np.testing.assert_array_equal(ours.last, ours.x[:, :, -1])
    assert (ours.verdicts.detail == "").all()


@pytest.mark.parametrize(("steps", "points"), [(103, 10), (100, 101), (100, 100), (5, 2), (1, 2), (7, 2000), (9, None)])
def test_the_points_that_are_kept(steps: int, points: int | None) -> None:
    whole = descend(["cagrad", "rlw"], STARTS, steps=steps, points=None)
    thin = descend(["cagrad", "rlw"], STARTS, steps=steps, points=points)
    np.testing.assert_array_equal(whole.step, np.arange(steps + 1))
    count = steps + 1 if points is None else min(points, steps + 1)
    assert len(thin.step) == count
    assert (thin.step[0], thin.step[-1]) == (0, steps)
    assert np.ptp(np.diff(thin.step)) <= 1
    np.testing.assert_array_equal(thin.x, whole.x[:, :, thin.step])
    np.testing.assert_array_equal(thin.weights, whole.weights[:, :, thin.step])
    for column in ("conflict_rate", "last_step", "distance_to_front", "gap"):
        np.testing.assert_array_equal(thin.verdicts[column], whole.verdicts[column])


def test_a_trajectory_does_not_depend_on_its_company() -> None:
    together = descend(["rlw", "dwa", "famo"], STARTS, offset=40.0, steps=80, seed=3)
    for m, name in enumerate(together.methods):
        for n, start in enumerate(STARTS):
            alone = descend(name, tuple(start), offset=40.0, steps=80, seed=3)
            np.testing.assert_array_equal(alone.x[0, 0], together.x[m, n])
            np.testing.assert_array_equal(alone.weights[0, 0], together.weights[m, n])


def test_the_seed_is_of_the_methods_that_draw() -> None:
    one, again, other = (descend(["rlw", "mgda"], STARTS, steps=60, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x, again.x)
    np.testing.assert_array_equal(one.x[1], other.x[1])
    assert not np.array_equal(one.weights[0], other.weights[0])
    np.testing.assert_array_equal(one.weights[0], np.broadcast_to(one.weights[0, 0], one.weights[0].shape))


def test_two_descents_at_once_are_as_one_after_the_other() -> None:
    tasks = [
        (["rlw", "nash_mtl", "emtl"], {"seed": 1, "problem": "toy"}),
        (["famo", "nash_mtl", "dwa"], {"seed": 2, "problem": "quadratics", "offset": 5.0, "optimizer": "sgd"}),
    ]
    alone = [descend(methods, steps=2000, **options) for methods, options in tasks]  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(descend, methods, steps=2000, **options) for methods, options in tasks * 4]
        for future, expected in zip(futures, alone * 4, strict=True):
            np.testing.assert_array_equal(future.result().x, expected.x)
            np.testing.assert_array_equal(future.result().weights, expected.weights)


def test_the_callers_weightings_and_starts_are_left_as_they_were() -> None:
    dwa, starts = mv.weighting.named("dwa"), STARTS.copy()
    before = dwa.state_dict()
    starts.flags.writeable = False
    first = descend({"mine": dwa, "again": dwa}, starts, steps=60)
    np.testing.assert_array_equal(first.x[0], first.x[1])
    assert dwa.state_dict() == before
    np.testing.assert_array_equal(first.starts, STARTS)


def test_labels_name_the_methods_apart() -> None:
    loose, tight = mv.weighting.CAGrad(c=0.9), mv.weighting.CAGrad(c=0.1)
    listed = descend(["equal", loose, tight], steps=2)
    assert listed.methods == ("equal", "CAGrad(c=0.9, rescale=0)", "CAGrad(c=0.1, rescale=0)")
    assert descend({"loose": loose, "tight": tight}, steps=2).methods == ("loose", "tight")
    assert descend((name for name in ("mgda", "equal")), steps=2).methods == ("mgda", "equal")
    assert descend(loose, steps=2).methods == ("cagrad",)
    with pytest.raises(WeightingError, match=r"more than once\. Name them apart with a mapping"):
        descend(["mgda", "equal", "mgda"], steps=2)
    with pytest.raises(WeightingError, match="more than once"):
        descend({1: "mgda", "1": "equal"}, steps=2)


def test_problem_scale_and_offset_as_they_are_told() -> None:
    for name, scale in (("toy", (0.1, 1.0)), ("quadratics", (1.0, 1.0)), ("fonseca_fleming", (1.0, 1.0))):
        ours = descend("equal", problem=name, steps=2)
        assert (ours.problem.scale, ours.problem.offset) == (scale, 0.0)
        np.testing.assert_array_equal(ours.starts, PROBLEMS[name].starts)
    mine = Toy(scale=(3.0, 4.0), offset=5.0)
    assert descend("equal", problem=mine, steps=2).problem == mine
    changed = descend("equal", problem=mine, steps=2, scale=(1, 2)).problem
    assert (changed.scale, changed.offset) == ((1.0, 2.0), 5.0)
    assert descend("equal", problem=mine, steps=2, offset=-1).problem.offset == -1.0
    assert descend("equal", problem=mine, steps=2, offset=0).problem.offset == 0.0


def test_where_equal_weights_go_is_at_the_descents_scale_and_found_once() -> None:
    ours = descend("equal", scale=(0.1, 1.0), steps=2)
    np.testing.assert_array_equal(ours.equal_weights, Toy().minimisers((0.1, 1.0)))
    assert ours.equal_weights is ours.equal_weights
    away = np.abs(ours.equal_weights[:, None] - ours.problem.best_average).max(axis=-1)
    assert away.min() > 1.0  # the best average is that of the own losses, whatever the scale
