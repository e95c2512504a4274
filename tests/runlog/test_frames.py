"""Frames of runs that were worked out by hand, and what holds of the derived columns of any run."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.runlog import Event, Measure, RunLog, Step, Validation, derived
from tests.runlog.runs import INFO, filled, info, step, story
from tests.strategies import gramians, streams

NAN = np.nan


def hand_made() -> RunLog:
    G = np.array([[4.0, -1.0], [-1.0, 9.0]])
    layers = np.array([[[3.0, 0.0], [0.0, 5.0]], [[1.0, -1.0], [-1.0, 4.0]]])
    absent = np.array([[16.0, NAN], [NAN, NAN]])
    both = ("supervised", "supervised")
    records = [
        Event(0, 0, "start"),
        Step(1, 1, 0.5, np.array([2.0, 6.0]), np.array([1.0, 2.0]), G, np.array([8, 4]), 0.1, both, layers),
        Step(
            2,
            2,
            1.0,
            np.array([8.0, NAN]),
            np.array([0.5, 0.0]),
            absent,
            np.array([8, 0]),
            0.1,
            ("supervised", "waiting"),
        ),
        Validation(2, 2, "right", "pr_auc", 0.25),
        Event(2, 1, "rewind", "left", {"to": 1}),
        Step(3, 2, 1.5, np.array([1.0, 1.0]), np.array([0.0, 0.0]), np.zeros((2, 2)), np.array([8, 4]), 0.05, both),
        Measure(3, "noise floor", 0.125, layer="fc"),
    ]
    return filled(RunLog.create(None, INFO), records)


def test_steps() -> None:
    frame = hand_made().steps
    assert list(frame.columns) == [
        *("step", "position", "discarded", "time", "task", "phase", "samples"),
        *("loss", "weight", "grad_norm", "relative_rate", "learning_rate"),
    ]
    assert frame["step"].tolist() == [1, 1, 2, 2, 3, 3]
    assert frame["position"].tolist() == [1, 1, 2, 2, 2, 2]
    assert frame["discarded"].tolist() == [False, False, True, True, False, False]
    assert frame["time"].tolist() == [0.5, 0.5, 1.0, 1.0, 1.5, 1.5]
    assert frame["task"].tolist() == ["left", "right"] * 3
    assert frame["task"].cat.categories.tolist() == ["left", "right"]
    assert frame["task"].cat.ordered
    assert frame["phase"].tolist() == ["supervised"] * 3 + ["waiting"] + ["supervised"] * 2
    assert frame["samples"].tolist() == [8, 4, 8, 0, 8, 4]
    np.testing.assert_array_equal(frame["loss"], [2, 6, 8, NAN, 1, 1])
    np.testing.assert_array_equal(frame["weight"], [1, 2, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(frame["grad_norm"], [2, 3, 4, NAN, 0, 0])
    np.testing.assert_array_equal(frame["relative_rate"], [1, 2, 2, NAN, NAN, NAN])
    np.testing.assert_array_equal(frame["learning_rate"], [0.1, 0.1, 0.1, 0.1, 0.05, 0.05])


def test_pairs() -> None:
    frame = hand_made().pairs
    assert list(frame.columns) == ["step", "position", "discarded", "task_a", "task_b", "dot", "cosine", "conflict"]
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["discarded"].tolist() == [False, True, False]
    assert (frame["task_a"].tolist(), frame["task_b"].tolist()) == (["left"] * 3, ["right"] * 3)
    np.testing.assert_array_equal(frame["dot"], [-1, NAN, 0])
    np.testing.assert_allclose(frame["cosine"], [-1 / 6, NAN, NAN])
    pd.testing.assert_series_equal(frame["conflict"], pd.Series([True, None, False], dtype="boolean", name="conflict"))


def test_layers() -> None:
    frame = hand_made().layers
    assert list(frame.columns) == [
        *("step", "position", "discarded", "layer", "task_a", "task_b"),
        *("dot", "cosine", "conflict", "norm_a", "norm_b"),
    ]
    assert frame["step"].tolist() == [1, 1]
    assert frame["layer"].tolist() == ["conv", "fc"]
    assert frame["dot"].tolist() == [0, -1]
    np.testing.assert_allclose(frame["cosine"], [0, -0.5])
    assert frame["conflict"].tolist() == [False, True]
    np.testing.assert_allclose(frame["norm_a"], [np.sqrt(3), 1])
    np.testing.assert_allclose(frame["norm_b"], [np.sqrt(5), 2])


def test_totals_and_shares() -> None:
    log = hand_made()
    frame = log.totals
    # Step 1: G w = (4 - 2, -1 + 18) = (2, 17) and wᵀGw = 2 + 34 = 36. Step 2: only the left task, ½ · 16 · ½ = 4.
    np.testing.assert_allclose(log.shares, [[2 / 36, 34 / 36], [1, NAN], [NAN, NAN]])
    np.testing.assert_allclose(frame["update_norm"], [6, 2, 0])
    np.testing.assert_allclose(frame["rate_variance"], [0.25, 0, NAN])
    np.testing.assert_array_equal(frame["conflict_rate"], [1, NAN, 0])


def test_validations_events_measures() -> None:
    log = hand_made()
    row = log.validations.iloc[0].to_dict()
    assert row == {
        "step": 2,
        "position": 2,
        "discarded": True,
        "task": "right",
        "metric": "pr_auc",
        "value": 0.25,
    }
    events = log.events
    assert events["kind"].tolist() == ["start", "rewind"]
    assert events["detail"].tolist() == [{}, {"to": 1}]
    assert events["task"].isna().tolist() == [True, False]
    measure = log.measures.iloc[0]
    assert (measure["step"], measure["name"], measure["layer"], measure["value"]) == (3, "noise floor", "fc", 0.125)
    assert pd.isna(measure["task"])
    assert pd.isna(measure["other"])


def test_arrays() -> None:
    log = hand_made()
    assert (len(log), log.last_step, log.time, log.names) == (3, 3, 1.5, ("left", "right"))
    assert log.recorded_steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(log.gramians[0], [[4, -1], [-1, 9]])
    np.testing.assert_array_equal(log.gramian_at(-1), np.zeros((2, 2)))
    np.testing.assert_array_equal(log.losses, [[2, 6], [8, NAN], [1, 1]])
    steps, parts = log.layer_gramians
    assert steps.tolist() == [1]
    np.testing.assert_array_equal(parts.sum(axis=1)[0], log.gramians[0])
    with pytest.raises(ValueError, match="read-only"):
        log.losses[0, 0] = 1.0
    with pytest.raises(IndexError):
        log.gramian_at(3)


def test_an_empty_log_has_the_columns_and_types_of_a_full_one() -> None:
    empty, full = RunLog.create(None, INFO), hand_made()
    for name in ("steps", "pairs", "layers", "totals", "validations", "events", "measures"):
        pd.testing.assert_series_equal(getattr(empty, name).dtypes, getattr(full, name).dtypes)
        assert len(getattr(empty, name)) == 0
    assert (len(empty), empty.last_step, empty.time, empty.gramians.shape) == (0, 0, 0.0, (0, 2, 2))


def test_changing_a_frame_changes_no_other_and_not_the_log() -> None:
    log = filled(RunLog.create(None, INFO), story(8))
    before = log.steps
    mine = log.steps
    mine.loc[:, "loss"] = -1.0
    log.append(step(9, 7))  # the log's next frame is a new one; this one may be the last to hold its memory
    mine.loc[:, "weight"] = -1.0
    log.events["detail"].iloc[0]["mine"] = True
    assert (before["loss"] >= 0).all()
    assert (log.steps["loss"] >= 0).all()
    assert (log.weights > 0).all()
    assert log.events["detail"].iloc[0] == {}


@settings(max_examples=50)
@given(streams())
def test_discarded_is_the_rule_of_rewinds(stream: tuple) -> None:
    run, records = stream
    log = filled(RunLog.create(None, run), records)
    rewinds = [(e.step, e.detail["to"]) for e in records if isinstance(e, Event) and e.kind == "rewind"]
    for kind, frame in ((Step, log.steps.drop_duplicates("step")), (Validation, log.validations)):
        rows = [r for r in records if isinstance(r, kind)]
        expected = [any(r.step <= at and r.position > to for at, to in rewinds) for r in rows]
        assert frame["discarded"].tolist() == expected


@given(st.integers(1, 6).flatmap(lambda T: st.tuples(gramians(tasks=T), st.integers(0, 2**32 - 1))))
def test_derived_quantities_are_those_of_the_full_matrices(case: tuple) -> None:
    G, seed = case
    T = len(G)
    rng = np.random.default_rng(seed)
    w, losses = rng.normal(size=T), rng.exponential(size=T)
    upper = G[np.triu_indices(T)]
    norm = derived.norms(upper, T)
    np.testing.assert_array_equal(derived.gramians(upper, T), np.triu(G) + np.triu(G, 1).T)
    np.testing.assert_allclose(norm**2, np.diag(G), rtol=1e-12)
    share, length = derived.updates(w, upper)
    total = w @ G @ w
    scale = np.abs(w) @ np.abs(G) @ np.abs(w)
    np.testing.assert_allclose(length**2, total, rtol=1e-9, atol=1e-13 * scale)
    if total > 1e-6 * scale:
        np.testing.assert_allclose(share, w * (G @ w) / total, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(share.sum(), 1)
    supervised = np.zeros(T, np.int8)
    rates = derived.relative_rates(losses, norm, supervised)
    present = norm > 0
    np.testing.assert_allclose(rates[present], losses[present] / norm[present])
    assert np.isnan(rates[~present]).all()
    held = np.arange(T) % 2 == 1  # a task that is held by soft labels has no pace, unless all are
    some = derived.relative_rates(losses, norm, held.astype(np.int8))
    np.testing.assert_array_equal(np.isnan(some), np.isnan(rates) | held)
    np.testing.assert_array_equal(derived.relative_rates(losses, norm, supervised + 1), rates)
    if present.any():
        np.testing.assert_allclose(derived.rate_variances(rates), np.var(rates[present]), rtol=1e-9)
    cosine = derived.cosines(derived.dots(upper, T), norm)
    assert (np.isnan(cosine) | (np.abs(cosine) <= 1)).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_gradients_that_cancel_leave_no_update_and_no_shares(seed: int, scale: float) -> None:
    """Four gradients in the plane around 0: the minimiser solves two triangles for 0 exactly and takes their mean."""
    rng = np.random.default_rng(seed)
    angles = np.array([0.1, 0.9, 2.9, 4.4]) + rng.uniform(-0.1, 0.1, size=4)
    J = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 10 ** rng.uniform(-2, 2, size=(4, 1))
    w = np.zeros(4)
    for corners in ([0, 2, 3], [1, 2, 3]):
        w[corners] += np.linalg.solve(np.vstack([J[corners].T, np.ones(3)]), [0, 0, 1]) / 2
    assert (w > 0).all()
    share, length = derived.updates(w, (scale * J @ (scale * J).T)[np.triu_indices(4)])
    assert length == 0
    assert np.isnan(share).all()


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(1e-6, 1))
def test_a_small_update_keeps_its_shares_at_any_scale(gradients: float, weights: float, angle: float) -> None:
    """Two gradients that all but cancel: their sum is (0, 2 sin a), and each has half of it."""
    J = 10**gradients * np.array([[np.cos(angle), np.sin(angle)], [-np.cos(angle), np.sin(angle)]])
    w = np.full(2, 10**weights)
    share, length = derived.updates(w, (J @ J.T)[np.triu_indices(2)])
    np.testing.assert_allclose(share, [0.5, 0.5], rtol=1e-2)
    np.testing.assert_allclose(length, 10**weights * 2 * J[0, 1], rtol=1e-2)


@settings(max_examples=30)
@given(streams(tasks=(2, 4)))
def test_a_snapshot_stays_as_it_was(stream: tuple) -> None:
    run, records = stream
    log = RunLog.create(None, run)
    half = len(records) // 2
    filled(log, records[:half])
    snapshot = log.snapshot()
    steps, shares = snapshot.steps, snapshot.shares
    filled(log, records[half:])
    pd.testing.assert_frame_equal(snapshot.steps, steps)
    np.testing.assert_array_equal(snapshot.shares, shares)
    assert not snapshot.writable


def test_forty_tasks() -> None:
    log = filled(RunLog.create(None, info(40)), [step(i, tasks=40) for i in range(1, 4)])
    assert len(log.steps) == 3 * 40
    assert len(log.pairs) == 3 * 780
    G = step(2, tasks=40).gramian
    np.testing.assert_array_equal(log.gramians[1], G)
    pairs = log.pairs.query("step == 2")
    np.testing.assert_array_equal(pairs["dot"], G[np.triu_indices(40, 1)])


@given(streams())
def test_arrays_of_steps_agree_with_the_frame(stream: tuple) -> None:
    log = filled(RunLog.create(None, stream[0]), stream[1])
    rows = log.steps.iloc[:: len(log.names)]
    np.testing.assert_array_equal(log.recorded_steps, rows["step"])
    np.testing.assert_array_equal(log.discarded, rows["discarded"])
    some = np.arange(len(log))[::2]
    np.testing.assert_array_equal(log.gramian_at(some), log.gramians[some])
