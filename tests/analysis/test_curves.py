"""Curves: numbers worked out by hand, and what holds for every stream of records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz import analysis
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.strategies import streams

NAN = float("nan")
CURVES = {
    "losses": "loss",
    "gradient_norms": "grad_norm",
    "relative_rates": "relative_rate",
    "shares": "share",
    "weights": "weight",
}


def table(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A curve frame's column as (buckets, T)."""
    return frame.pivot(index="step_first", columns="task", values=column).to_numpy()


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("losses", "loss", [[10, 3, 5], [4, 2, NAN], [2, 4, 7]]),
        ("gradient_norms", "grad_norm", [[5, 1, 5], [2, 1, NAN], [2**0.5, 1, 0]]),
        ("relative_rates", "relative_rate", [[2, 3, 1], [2, 2, NAN], [2**0.5, 4, NAN]]),
        ("shares", "share", [[20 / 41, -4 / 41, 25 / 41], [0.5, 0.5, NAN], [NAN, NAN, NAN]]),
        ("weights", "weight", [[1, 1, 1], [1, 2, NAN], [0, 0, 1]]),
        ("weights", "normalised", [[1 / 3, 1 / 3, 1 / 3], [1 / 3, 2 / 3, NAN], [0, 0, 1]]),
    ],
)
def test_each_step_by_hand(name: str, column: str, expected: list[list[float]]) -> None:
    frame = getattr(analysis, name)(hand())
    np.testing.assert_allclose(table(frame, column), expected, rtol=1e-12)
    np.testing.assert_array_equal(frame["step"], np.repeat([1.0, 2.0, 3.0], 3))


def test_a_bucket_is_the_mean_over_the_steps_where_the_task_is_present() -> None:
    frame = analysis.losses(hand(), n=1)
    np.testing.assert_allclose(frame["loss"], [16 / 3, 3, 6])
    np.testing.assert_allclose(frame["loss_min"], [2, 2, 5])
    np.testing.assert_allclose(frame["loss_max"], [10, 4, 7])
    np.testing.assert_array_equal(frame["count"], [3, 3, 2])
    assert frame[["step", "step_first", "step_last"]].drop_duplicates().to_numpy().tolist() == [[2, 1, 3]]


def test_a_weight_is_averaged_over_the_steps_where_the_task_is_present() -> None:
    frame = analysis.weights(hand(), n=1)
    np.testing.assert_allclose(frame["weight"], [2 / 3, 1, 1])  # c is absent at step 2: (1 + 1) / 2
    np.testing.assert_allclose(frame["normalised"], np.array([2 / 3, 1, 1]) / (8 / 3))


def test_rate_variance_is_the_population_variance_over_the_tasks_present() -> None:
    rates = [2**0.5, 4.0]
    expected = [2 / 3, 0.0, np.var(rates)]
    np.testing.assert_allclose(analysis.rate_variance(hand())["rate_variance"], expected, rtol=1e-12)
    np.testing.assert_allclose(analysis.rate_variance(hand().steps)["rate_variance"], expected, rtol=1e-12)


def test_discarded_steps_are_kept_and_marked() -> None:
    frame = analysis.losses(rewound())
    marked = frame.drop_duplicates("step").set_index("step")["discarded"]
    assert marked.to_dict() == {1.0: False, 2.0: False, 3.0: True, 4.0: True, 5.0: False}
    few = analysis.losses(rewound(), n=3).drop_duplicates("step_first")
    assert few[["step_first", "step_last", "discarded"]].to_numpy().tolist() == [
        [1, 2, False],
        [3, 4, True],
        [5, 5, False],
    ]


@given(stream=streams(), n=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_buckets_lose_nothing(stream: tuple, n: int) -> None:
    """Whatever the number of buckets: counts and sums of the buckets are those of the full frame."""
    log = filled(*stream)
    for name in ("losses", "gradient_norms"):
        column, frame = CURVES[name], getattr(analysis, name)(log, n=n)
        whole = log.steps.groupby("task", observed=False)[column]
        counts = frame.groupby("task", observed=False)["count"].sum()
        np.testing.assert_array_equal(counts, whole.count())
        sums = (frame[column] * frame["count"]).groupby(frame["task"], observed=False).sum()
        np.testing.assert_allclose(sums, whole.sum(), rtol=1e-9)
        low = frame.groupby("task", observed=False)[f"{column}_min"].min()
        np.testing.assert_array_equal(low, whole.min())


@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_a_stored_frame_gives_what_the_log_gives(stream: tuple) -> None:
    log = filled(*stream)
    for name in ("losses", "gradient_norms", "relative_rates", "weights", "rate_variance"):
        of_log, of_frame = (getattr(analysis, name)(source, n=1000) for source in (log, log.steps))
        pd.testing.assert_frame_equal(of_log, of_frame, rtol=1e-9, check_dtype=len(of_log) > 0)


@given(stream=streams(tasks=(2, 4)))
@settings(max_examples=25, deadline=None)
def test_shares_of_the_tasks_present_sum_to_one_where_there_is_an_update(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.shares(log, n=1000)
    shares = frame["share"].to_numpy().reshape(-1, len(log.names))
    defined = np.isfinite(shares).any(axis=1)
    size = np.nansum(np.abs(shares), axis=1)[defined]
    np.testing.assert_allclose(np.nansum(shares, axis=1)[defined], 1.0, atol=1e-9 * max(1.0, size.max(initial=1.0)))
    absent = np.isnan(log.losses)
    assert np.isnan(shares[absent]).all()


@given(flags=st.lists(st.booleans(), max_size=60), n=st.integers(1, 20))
def test_buckets_of_a_frame_are_few_even_and_pure(flags: list[bool], n: int) -> None:
    from mtlviz.analysis.buckets import bucket_numbers

    gone = np.array(flags, bool)
    bucket = bucket_numbers(gone, n)
    runs = 1 + int(np.sum(gone[1:] != gone[:-1])) if flags else 0
    assert len(bucket) == len(flags)
    assert (np.diff(bucket) >= 0).all()
    assert len(np.unique(bucket)) <= max(n, runs)
    for number in np.unique(bucket):
        assert len(set(gone[bucket == number])) == 1
    if runs == 1:
        sizes = np.bincount(bucket)
        assert sizes.max() - sizes.min() <= 1


def test_a_run_of_any_length_gives_a_bounded_frame() -> None:
    log = long_run(2500, tasks=2, layers=False)
    assert analysis.losses(log)["step"].nunique() <= 200
    assert analysis.losses(log, n=50)["step"].nunique() <= 50
    assert analysis.losses(log.steps, n=50)["step"].nunique() <= 50


@pytest.mark.parametrize("name", [*CURVES, "rate_variance"])
def test_an_empty_log_gives_an_empty_frame_with_the_same_columns(name: str) -> None:
    empty = getattr(analysis, name)(filled(hand().info, []))
    assert len(empty) == 0
    assert list(empty.columns) == list(getattr(analysis, name)(hand()).columns)


def test_wrong_sources_are_named() -> None:
    with pytest.raises(
        FrameError, match=r"losses needs a RunLog or a frame like log\.steps, but got str.*RunLog\.open"
    ):
        analysis.losses("runs/demo")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match=r"missing: task, loss; got: step, discarded"):
        analysis.losses(pd.DataFrame({"step": [1], "discarded": [False]}))
    with pytest.raises(FrameError, match=r"shares needs a RunLog, because .*; got DataFrame"):
        analysis.shares(hand().steps)  # type: ignore[arg-type]
    for source in (hand(), hand().steps):
        with pytest.raises(FrameError, match="at least 1, but n is 0"):
            analysis.losses(source, n=0)
        with pytest.raises(FrameError, match="at least 1, but n is 0"):
            analysis.rate_variance(source, n=0)


def test_a_log_from_disk_gives_the_same_curves(tmp_path) -> None:
    written = hand()
    with RunLog.create(tmp_path / "run", written.info) as log:
        from tests.analysis.runs import THREE_STEPS

        for record in THREE_STEPS:
            log.append(record)
    pd.testing.assert_frame_equal(analysis.shares(RunLog.open(tmp_path / "run")), analysis.shares(written))
    log.to_parquet(tmp_path / "tables")
    frame = pd.read_parquet(tmp_path / "tables" / "steps.parquet")
    pd.testing.assert_frame_equal(analysis.losses(frame), analysis.losses(written))
