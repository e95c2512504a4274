"""The verdicts, the summary and the frames, on descents whose end is known beforehand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import mtlviz as mv
from mtlviz.pareto import VERDICTS, Descent, FonsecaFleming, Quadratics, Toy, descend
from tests.pareto import peers

TOY = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0))


@pytest.fixture(scope="module")
def mixed() -> Descent:
    """Several methods on the toy; si ends as soon as a loss falls to 0 and has no first step on the seam."""
    methods = {"equal": "equal", "mgda": "mgda", "si": "si", "famo": "famo", "random": "rlw"}
    return descend(methods, TOY, steps=12_000, points=300, offset=1.0)


def test_a_run_that_reaches_the_front() -> None:
    ours = descend(["mgda", "nash_mtl"], problem=Quadratics(angle=30), steps=20_000, lr=0.01, optimizer="sgd")
    rows = ours.verdicts
    assert (rows.verdict == "on the front").all()
    assert (rows.distance_to_front < 0.01 * np.hypot(*np.ptp(ours.problem.front, axis=0))).all()
    assert (rows.detail == "").all()
    assert (rows.last_step == 20_000).all()
    assert ours.summary.on_the_front.tolist() == [5, 5]
    best = descend("equal", problem="quadratics", steps=20_000, lr=0.01, optimizer="sgd").verdicts
    assert (best.distance_to_best < 1e-6).all()
    assert (best.gap.abs() < 1e-10).all()


def test_equal_weights_go_to_the_minimiser_of_the_scaled_sum() -> None:
    ours = descend("equal", (1.0, -4.0), "toy", steps=35_000)
    np.testing.assert_allclose(ours.last[0, 0], ours.problem.minimisers((0.1, 1.0))[0], atol=1e-3)
    row = ours.verdicts.iloc[0]
    assert row.verdict == "on the front"
    distance = np.linalg.norm(ours.problem.minimisers((0.1, 1.0))[0] - (0.0, -8.35511))
    assert abs(row.distance_to_best - distance) < 1e-3


def test_a_run_that_is_on_its_way_is_still_moving_however_short() -> None:
    for optimizer in ("adam", "sgd"):
        for steps, lr in ((1000, 1e-3), (100, 1e-3), (7, 1e-3), (1, 1e-3), (1000, 1e-4)):
            rows = descend("equal", (0.5, -3.0), "toy", steps=steps, lr=lr, optimizer=optimizer).verdicts
            assert rows.verdict.tolist() == ["still moving"], (optimizer, steps, lr)


def test_equal_weights_get_stuck_in_the_toys_valley() -> None:
    ours = descend("equal", (9.0, 9.0), "toy", steps=35_000)
    assert ours.verdicts.verdict.tolist() == ["stuck"]
    assert ours.verdicts.distance_to_front[0] > 15
    assert ours.last[0, 0, 1] > 1  # above the seam, at the wall of the second loss
    still = descend("equal", (9.0, 9.0), "toy", steps=35_000, points=None).x[0, 0, -2000:]
    assert np.ptp(still, axis=0).max() < 0.1 * 2000 * 1e-3  # a tenth of the way that Adam could have gone
    for steps in (1000, 35_000):  # it jumps to and fro across the valley, but from the first step on
        assert descend("equal", tuple(ours.last[0, 0]), "toy", steps=steps).verdicts.verdict.tolist() == ["stuck"]
    saddle = descend("mgda", (0.0, 0.0), FonsecaFleming(), steps=100)  # Pareto stationary from the first step on
    assert saddle.verdicts.verdict.tolist() == ["on the front"]
    flat = descend("equal", (1e3, 1e3), FonsecaFleming(), steps=50)  # both gradients underflow to 0
    assert flat.verdicts.verdict.tolist() == ["diverged"]
    assert descend("equal", (30.0, 30.0), FonsecaFleming(), steps=50).verdicts.verdict.tolist() == ["stuck"]


def test_a_step_that_is_far_too_long_diverges() -> None:
    problem = Quadratics(angle=0, conditioning=100)
    ours = descend(
        ["equal", "mgda"], [(2.0, 1.0), (1.0, 0.0)], problem, optimizer="sgd", lr=1.0, steps=100, points=None
    )
    row = ours.verdicts.iloc[0]
    assert row.verdict == "diverged"
    path, last = [np.array([2.0, 1.0])], 0
    shape = peers.bowls(0, 100)[1][0]  # the same for both losses, whose sum has its minimum at 0
    while np.abs(path[-1]).max() <= 300:  # a hundred times the size of the plane
        path.append(path[-1] - 2 * shape @ path[-1])
        last += 1
    assert row.last_step == last - 1
    assert row.detail == f"far outside of the plane, or no number, from step {last} on"
    np.testing.assert_allclose(ours.x[0, 0, :last], path[:-1], rtol=1e-9)
    for array in (ours.x, ours.weights, ours.losses, ours.cosine):
        assert np.isfinite(array[0, 0, :last]).all()
        assert np.isnan(array[0, 0, last:]).all()
    np.testing.assert_allclose(ours.last[0, 0], path[-2], rtol=1e-9)
    assert ours.verdicts.verdict[1] == "on the front"
    assert ours.summary.distance_to_best[0] == ours.verdicts.distance_to_best[1]  # the diverged start is left out
    assert ours.verdicts.distance_to_best[0] != ours.verdicts.distance_to_best[1]  # and would have moved the mean
    assert ours.verdicts.verdict[3] == "on the front"  # mgda rests at a minimum
    assert ours.verdicts.conflict_rate.between(0, 1).all()


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"scale": (1e300, 1.0)}, 0),  # the Gramian is no number
        ({"offset": 1.7e308, "scale": (1e307, 1e307)}, 0),
        ({"starts": (1e200, -3.0)}, 0),
        ({"starts": (1e200, 3.0)}, 1),  # the logarithm bears it
        ({"starts": (-1e6, 3.0)}, 1),
        ({"lr": 1e300}, 1),
        ({"lr": 1e300, "optimizer": "sgd"}, 1),
    ],
)
def test_numbers_that_overflow_diverge_at_once(options: dict, step: int) -> None:
    ours = descend(["equal", "mgda", "cagrad", "nash_mtl"], **({"starts": (-8.5, 7.5), "steps": 40} | options))
    assert (ours.verdicts.verdict == "diverged").all()
    assert (ours.verdicts.last_step == step - 1).all()
    assert ours.verdicts.detail.str.endswith(f"from step {step} on").all()
    assert np.isnan(ours.x[:, :, step:]).all()
    assert np.isfinite(ours.x[:, :, :step]).all()
    rates = ours.verdicts.conflict_rate
    assert rates.isna().all() if step == 0 else rates.between(0, 1).all()
    assert (ours.summary.on_the_front == 0).all()
    assert ours.summary.gap.isna().all()
    assert len(ours.trajectories) == 4 * 41


def test_losses_of_hardly_any_scale_or_under_a_huge_offset() -> None:
    """Adam's 1e-8 swallows a gradient of 1e-300, as torch's does; an offset of 1e300 leaves the gradients alone."""
    tiny = descend(["equal", "mgda", "nash_mtl", "imtl_g"], (-8.5, 7.5), scale=(1e-300, 1e-300), steps=50)
    assert np.isfinite(tiny.x).all()
    np.testing.assert_allclose(tiny.x[0, 0], np.tile([-8.5, 7.5], (51, 1)))
    usual, huge = (descend(["equal", "mgda"], TOY, steps=500, offset=offset) for offset in (0.0, 1e300))
    np.testing.assert_array_equal(usual.x, huge.x)
    np.testing.assert_array_equal(usual.losses, huge.losses)


def test_a_method_that_needs_positive_losses_is_undefined_from_the_first_other_one() -> None:
    ours = descend("si", (-7.5, -0.5), offset=12.0, steps=10_000, points=None)
    row = ours.verdicts.iloc[0]
    assert row.verdict == "undefined"
    last = int(row.last_step)
    assert 100 < last < 10_000
    assert row.detail == f"si needs losses above 0, and at step {last + 1:,} one is not; raise the offset"
    seen = ours.problem.losses(ours.x[0, 0, : last + 1])
    assert (seen > 0).all()
    after, before = ours.x[0, 0, last], ours.x[0, 0, last - 1]
    assert ours.problem.losses(after + (after - before)).min() <= 0  # the next step, by and large
    assert np.isnan(ours.x[0, 0, last + 1 :]).all()
    at_once = descend(["si", "gls", "gradnorm", "imtl_l"], (0.0, 0.0), steps=5)  # both losses are 0 on the seam
    assert (at_once.verdicts.verdict == "undefined").all()
    assert (at_once.verdicts.last_step == -1).all()
    assert at_once.verdicts.distance_to_front.isna().all()
    assert np.isnan(at_once.last).all()


def test_a_method_without_finite_weights_is_undefined() -> None:
    ours = descend("famo", (-7.5, -0.5), steps=100)
    row = ours.verdicts.iloc[0]
    assert row.verdict == "undefined"
    assert row.detail.startswith(f"famo gives no finite weights at step {row.last_step + 1}")
    assert (descend("famo", (-7.5, -0.5), steps=100, offset=30.0).verdicts.verdict == "still moving").all()


@pytest.mark.parametrize("points", [2, 3, 50, None])
def test_the_verdict_on_a_run_that_ended_early_does_not_depend_on_the_points_kept(points: int | None) -> None:
    whole = descend("si", (-7.5, -0.5), offset=12.0, steps=10_000, points=None)
    thin = descend("si", (-7.5, -0.5), offset=12.0, steps=10_000, points=points)
    np.testing.assert_array_equal(thin.last, whole.last)
    pd.testing.assert_frame_equal(thin.verdicts, whole.verdicts)
    kept = thin.step <= whole.verdicts.last_step[0]
    np.testing.assert_array_equal(thin.x[0, 0, kept], whole.x[0, 0, thin.step[kept]])
    assert np.isnan(thin.x[0, 0, ~kept]).all()


def test_the_numbers_of_the_verdicts(mixed: Descent) -> None:
    rows = mixed.verdicts
    assert list(rows.columns) == [
        *("method", "start", "verdict", "distance_to_front", "distance_to_best", "gap", "loss_1", "loss_2"),
        *("conflict_rate", "last_step", "detail"),
    ]
    assert rows.method.tolist() == [name for name in mixed.methods for _ in TOY]
    assert rows.start.tolist() == [1, 2, 3] * len(mixed.methods)
    assert list(rows.verdict.cat.categories) == list(VERDICTS)
    last = mixed.last.reshape(-1, 2)
    there = np.isfinite(last[:, 0])
    own = peers.toy(torch.from_numpy(last)).numpy()
    np.testing.assert_allclose(rows[["loss_1", "loss_2"]], own, rtol=1e-9)
    np.testing.assert_allclose(rows.gap[there], own[there].mean(axis=1) + 15.0916384, atol=1e-6)
    np.testing.assert_allclose(rows.distance_to_best, np.hypot(last[:, 0], last[:, 1] + 8.35511), atol=1e-5)
    front = peers.toy(torch.from_numpy(Toy().set_at(np.linspace(0, 1, 20_001)))).numpy()
    nearest = [np.linalg.norm(front - one, axis=1).min() for one in own[there]]
    np.testing.assert_allclose(rows.distance_to_front[there], nearest, atol=1e-4)
    assert {"still moving", "undefined"} <= set(rows.verdict)


def test_conflicts_are_counted_over_all_steps_not_the_kept_ones() -> None:
    whole = descend(["mgda", "equal", "si"], TOY, steps=5000, points=None, offset=10.0)
    for points in (None, 4):
        rows = descend(["mgda", "equal", "si"], TOY, steps=5000, points=points, offset=10.0).verdicts
        seen = np.isfinite(whole.cosine).sum(axis=2)
        np.testing.assert_allclose(rows.conflict_rate, ((whole.cosine < 0).sum(axis=2) / seen).ravel(), rtol=1e-12)
    assert rows.conflict_rate.nunique() == 9


def test_the_summary_is_made_of_the_verdicts(mixed: Descent) -> None:
    summary, rows = mixed.summary, mixed.verdicts
    assert summary.method.tolist() == list(mixed.methods)
    for row in summary.itertuples():
        own = rows[rows.method == row.method]
        sound = own[~own.verdict.isin(["diverged", "undefined"])]
        assert row.starts == 3
        assert row.on_the_front == (own.verdict == "on the front").sum()
        assert row.sound == len(sound)
        for name in ("distance_to_best", "gap"):
            np.testing.assert_allclose(getattr(row, name), sound[name].mean() if len(sound) else np.nan)
        np.testing.assert_allclose(row.conflict_rate, own.conflict_rate.mean())


def test_the_trajectories_frame_is_the_arrays(mixed: Descent) -> None:
    frame = mixed.trajectories
    M, N, K, _ = mixed.x.shape
    assert len(frame) == M * N * K
    for m, name in enumerate(mixed.methods):
        for n in range(N):
            own = frame[(frame.method == name) & (frame.start == n + 1)]
            np.testing.assert_array_equal(own.step, mixed.step)
            np.testing.assert_array_equal(own[["x1", "x2"]], mixed.x[m, n])
            np.testing.assert_array_equal(own[["loss_1", "loss_2"]], mixed.losses[m, n])
            np.testing.assert_array_equal(own[["weight_1", "weight_2"]], mixed.weights[m, n])
            np.testing.assert_array_equal(own.cosine, mixed.cosine[m, n])
            ended = np.isnan(mixed.x[m, n, :, 0])
            assert own.conflict.isna().tolist() == ended.tolist()
            np.testing.assert_array_equal(own.conflict[~ended], mixed.cosine[m, n, ~ended] < 0)
    assert list(frame.columns) == [
        *("method", "start", "step", "x1", "x2", "loss_1", "loss_2", "weight_1", "weight_2", "cosine", "conflict")
    ]


def test_the_tolerance_decides_what_counts_as_on_the_front() -> None:
    size = np.hypot(*np.ptp(Toy().front, axis=0))
    wide = descend("mgda", (3.0, -8.0), steps=500, tolerance=0.5)
    assert wide.verdicts.verdict.tolist() == ["on the front"]
    share = wide.verdicts.distance_to_front[0] / size
    assert descend("mgda", (3.0, -8.0), steps=500, tolerance=1.01 * share).verdicts.verdict[0] == "on the front"
    assert descend("mgda", (3.0, -8.0), steps=500, tolerance=0.99 * share).verdicts.verdict[0] != "on the front"
    assert mv.pareto.descend("mgda", (3.0, -8.0), steps=5).tolerance == 0.01


def test_a_descent_tells_itself_in_a_line(mixed: Descent) -> None:
    text = repr(mixed)
    assert "\n" not in text
    assert text.startswith("Descent(")
    assert all(part in text for part in (*mixed.methods, "3 starts", mixed.problem.name, mixed.optimizer))
