"""Conflict: numbers worked out by hand, and brute force over the full frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz import analysis
from mtlviz.errors import FrameError
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.strategies import streams

NAN = float("nan")


def square(frame: pd.DataFrame, column: str) -> np.ndarray:
    T = frame["task_a"].nunique()
    return frame[column].to_numpy(np.float64).reshape(T, T)


def test_the_matrix_of_the_whole_run_by_hand() -> None:
    frame = analysis.conflict_matrix(hand())
    ab = (-1 + 0 - 0.5**0.5) / 3
    np.testing.assert_allclose(square(frame, "cosine"), [[1, ab, 0], [ab, 1, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(square(frame, "conflict_rate"), [[0, 2 / 3, 0], [2 / 3, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(square(frame, "count"), [[0, 3, 2], [3, 0, 2], [2, 2, 0]])
    assert (frame["step_first"].unique().tolist(), frame["step_last"].unique().tolist()) == ([1], [3])


@pytest.mark.parametrize("source", [hand(), hand().pairs], ids=["log", "frame"])
def test_the_matrix_of_one_step_and_of_a_window_by_hand(source) -> None:
    at = analysis.conflict_matrix(source, step=1)
    np.testing.assert_allclose(square(at, "cosine"), [[1, -1, 0], [-1, 1, 0], [0, 0, 1]], atol=1e-12)
    assert at["step_first"].tolist() == at["step_last"].tolist() == [1] * 9
    absent = analysis.conflict_matrix(source, step=2)
    np.testing.assert_allclose(square(absent, "cosine"), [[1, 0, NAN], [0, 1, NAN], [NAN, NAN, 1]], atol=1e-12)
    last_two = analysis.conflict_matrix(source, window=2)
    assert square(last_two, "cosine")[0, 1] == pytest.approx(-(0.5**0.5) / 2)
    assert square(last_two, "conflict_rate")[0, 1] == 0.5
    first_two = analysis.conflict_matrix(source, step=2, window=2)
    assert square(first_two, "cosine")[0, 1] == -0.5
    assert (first_two["step_first"].iloc[0], first_two["step_last"].iloc[0]) == (1, 2)
    wide = analysis.conflict_matrix(source, window=99)
    pd.testing.assert_frame_equal(wide, analysis.conflict_matrix(source))


def test_a_step_that_was_not_recorded_is_named() -> None:
    for source in (hand(), hand().pairs, rewound()):
        with pytest.raises(FrameError, match="step 9 was not recorded; the nearest: "):
            analysis.conflict_matrix(source, step=9)
    with pytest.raises(FrameError, match="window of at least 1"):
        analysis.conflict_matrix(hand(), window=0)
    with pytest.raises(FrameError, match="none, the run has no step yet"):
        analysis.conflict_matrix(filled(hand().info, []), step=1)


def test_discarded_steps_do_not_count_in_averages_but_can_be_looked_at() -> None:
    log = rewound()
    assert square(analysis.conflict_matrix(log), "conflict_rate").max() == 0.0
    assert square(analysis.conflict_matrix(log, window=3), "count")[0, 1] == 3
    assert square(analysis.conflict_matrix(log, window=3), "conflict_rate").max() == 0.0
    assert square(analysis.conflict_matrix(log, step=4), "cosine")[0, 1] == -1.0


def test_conflict_rates_by_hand() -> None:
    frame = analysis.conflict_rate(hand(), n=1)
    whole = frame[frame["of"] == "all"]
    assert whole[["conflict_rate", "count"]].to_numpy().tolist() == [[2 / 7, 7]]
    assert whole["task_a"].isna().all()
    by_task = frame[frame["of"] == "task"]
    assert by_task["task_a"].tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(by_task["conflict_rate"], [2 / 5, 2 / 5, 0])
    by_pair = frame[frame["of"] == "pair"]
    assert list(zip(by_pair["task_a"], by_pair["task_b"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    np.testing.assert_allclose(by_pair["conflict_rate"], [2 / 3, 0, 0])


@given(stream=streams(tasks=(1, 4)), n=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_conflict_rates_are_those_of_the_full_frame(stream: tuple, n: int) -> None:
    log = filled(*stream)
    frame, pairs = analysis.conflict_rate(log, n=n), log.pairs
    for row in frame.itertuples():
        rows = pairs[pairs["step"].between(row.step_first, row.step_last)]
        if row.of == "task":
            rows = rows[(rows["task_a"] == row.task_a) | (rows["task_b"] == row.task_a)]
        elif row.of == "pair":
            rows = rows[(rows["task_a"] == row.task_a) & (rows["task_b"] == row.task_b)]
        seen = rows["conflict"].dropna()
        assert row.count == len(seen)
        assert rows["discarded"].nunique() <= 1
        if len(seen):
            assert row.conflict_rate == pytest.approx(seen.astype(float).mean())
        else:
            assert np.isnan(row.conflict_rate)


@given(stream=streams(tasks=(2, 4)))
@settings(max_examples=25, deadline=None)
def test_a_log_and_its_frame_of_pairs_agree(stream: tuple) -> None:
    log = filled(*stream)
    if not len(log):
        return
    steps = log.pairs["step"].unique()
    for options in ({"step": int(steps[-1])}, {"step": int(steps[0])}, {"window": 3}, {}):
        one, two = (analysis.conflict_matrix(source, **options) for source in (log, log.pairs))
        pd.testing.assert_frame_equal(one, two, check_dtype=False, rtol=1e-9)
    one, two = (analysis.conflict_rate(source, n=1000) for source in (log, log.pairs))
    pd.testing.assert_frame_equal(one, two, check_dtype=False, rtol=1e-9)


@given(stream=streams(tasks=(1, 4)))
@settings(max_examples=25, deadline=None)
def test_the_matrix_is_symmetric_with_cosines(stream: tuple) -> None:
    log = filled(*stream)
    frame, T = analysis.conflict_matrix(log), len(log.names)
    assert len(frame) == T * T
    cosine = frame["cosine"].to_numpy().reshape(T, T)
    np.testing.assert_array_equal(cosine, cosine.T)
    np.testing.assert_array_equal(np.diag(cosine), 1.0)
    assert np.nanmax(np.abs(cosine)) <= 1.0


def test_layers_by_hand() -> None:
    """Layer one holds the gradients' first coordinate: ab, ac, bc = (-, +, -), then (0), then (-, 0, 0)."""
    frame = analysis.layer_conflict(hand(), n=1)
    assert frame["layer"].tolist() == ["conv", "fc"]
    np.testing.assert_array_equal(frame["count"], [7, 7])
    np.testing.assert_allclose(frame["conflict_rate"], [3 / 7, 2 / 7])
    # conv: -1, 1, -1 at step 1; no cosine at step 2 (b has no gradient there); -1 at step 3.
    # fc: -1, -1, 1 at step 1; none at step 2 (a) and at step 3 (b).
    np.testing.assert_allclose(frame["cosine"], [-2 / 4, -1 / 3])
    pair = analysis.layer_conflict(hand(), pair=("c", "a"), n=1)
    np.testing.assert_allclose(pair["cosine"], [1.0, -1.0])
    pd.testing.assert_frame_equal(analysis.layer_conflict(hand().layers, n=1), frame)


def test_layers_of_a_pair_that_does_not_exist() -> None:
    for pair in (("a", "z"), ("a", "a"), "ab", ("a", "b", "c")):
        with pytest.raises(FrameError, match="two different tasks out of"):
            analysis.layer_conflict(hand(), pair=pair)


def test_a_run_without_layers_and_a_run_of_one_task_have_no_rows() -> None:
    assert len(analysis.layer_conflict(long_run(6, layers=False))) == 0
    alone = long_run(6, tasks=1)
    assert len(analysis.conflict_rate(alone)) == 0 or analysis.conflict_rate(alone)["conflict_rate"].isna().all()
    assert analysis.conflict_matrix(alone)["cosine"].tolist() == [1.0]
