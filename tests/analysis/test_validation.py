"""Validations: which point is the best one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.runlog import Validation
from tests.analysis.runs import INFO, filled, hand, rewound
from tests.strategies import streams


def test_best_follows_the_direction_and_ties_go_to_the_first() -> None:
    frame = analysis.validations(hand())
    best = frame[frame["best"]].set_index("task")
    assert best.loc["a", ["step", "value"]].tolist() == [2, 0.9]  # again 0.9 at step 3
    assert best.loc["b", ["step", "value"]].tolist() == [2, 1.0]  # smaller is better
    assert len(best) == 2  # c was never validated


def test_a_discarded_or_nonfinite_value_is_never_the_best() -> None:
    frame = analysis.validations(rewound())
    assert frame["discarded"].tolist() == [False, True, False]
    assert frame[frame["best"]]["value"].tolist() == [0.6]  # 0.99 was thrown away
    broken = filled(INFO, [Validation(0, 0, "a", "accuracy", v) for v in (float("nan"), float("inf"), 0.2)])
    assert analysis.validations(broken)["best"].tolist() == [False, False, True]


@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_one_best_a_task_and_none_better(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.validations(log)
    for task in log.tasks:
        rows = frame[(frame["task"] == task.name) & ~frame["discarded"] & np.isfinite(frame["value"])]
        best = frame[(frame["task"] == task.name) & frame["best"]]
        assert len(best) == (1 if len(rows) else 0)
        if len(rows):
            extreme = rows["value"].max() if task.direction == "max" else rows["value"].min()
            assert best["value"].iloc[0] == extreme
            assert best.index[0] == rows.index[rows["value"] == extreme][0]


def test_a_frame_needs_directions() -> None:
    log = hand()
    with pytest.raises(FrameError, match=r"direction.*not so for: a, b"):
        analysis.validations(log.validations)
    with pytest.raises(FrameError, match="not so for: b"):
        analysis.validations(log.validations, directions={"a": "max", "b": "down"})
    given_ways = analysis.validations(log.validations, directions={"a": "max", "b": "min"})
    pd.testing.assert_frame_equal(given_ways, analysis.validations(log))


def of_values(values: np.ndarray, *, gone: range = range(0)) -> pd.DataFrame:
    """A frame like `log.validations` of one task."""
    steps = np.arange(len(values))
    return pd.DataFrame({"step": steps, "discarded": np.isin(steps, gone), "task": "a", "metric": "m", "value": values})


def test_thinned_validations_keep_what_a_curve_cannot_do_without() -> None:
    values = np.sin(np.arange(5000) / 900)
    values[[1234, 3456]] = 7.0, -7.0  # peaks of one point
    values[2000:2500] = np.nan
    values[4000] = 9.0  # thrown away
    whole = of_values(values, gone=range(3900, 4100))
    kept = analysis.validations(whole, directions={"a": "max"}, n=100)
    assert len(kept) <= 110
    assert kept["step"].is_monotonic_increasing
    assert {0, 1234, 3456, 4000, 4999} <= set(kept["step"])
    assert kept[kept["best"]]["step"].tolist() == [1234]
    assert kept["discarded"].sum() > 2
    assert kept["value"].isna().any()  # the gap stays one
    np.testing.assert_array_equal(kept["value"], whole["value"][kept["step"]])
    drawn = figures.validations(kept).data[1]
    assert np.isnan(drawn.y).sum() == 2  # the line breaks at the gap and at what was thrown away


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf]), min_size=1, max_size=80),
    n=st.integers(1, 20),
    gone=st.tuples(st.integers(0, 80), st.integers(0, 80)),
)
@settings(max_examples=100, deadline=None)
def test_thinning_keeps_extremes_and_ends(values: list[float], n: int, gone: tuple[int, int]) -> None:
    whole = of_values(np.array(values), gone=range(*gone))
    full, few = (analysis.validations(whole, directions={"a": "min"}, n=count) for count in (1000, n))
    assert len(full) == len(values)
    assert len(few) <= max(len(whole[:n]), n + 9)  # two stretches more, the best, and the ends twice
    pd.testing.assert_frame_equal(few, full[full["step"].isin(few["step"])].reset_index(drop=True))
    for rows in (full, full[~full["discarded"]]):
        known = rows[np.isfinite(rows["value"])]
        if len(known):
            assert {known["step"].iloc[0], known["step"].iloc[-1]} <= set(few["step"])
            assert few["value"][few["step"].isin(known["step"])].agg(["min", "max"]).tolist() == [
                known["value"].min(),
                known["value"].max(),
            ]


def test_a_run_of_any_length_draws_so_many_validations_a_task() -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 3))
    records = [Validation(s, s, "abc"[t], "accuracy", values[s, t]) for s in range(20_000) for t in range(3)]
    frame = analysis.validations(filled(INFO, records))
    assert frame.groupby("task", observed=True).size().max() <= 205
    points = sum(len(trace.x) for trace in figures.validations(frame).data)
    assert points <= 3 * 210
    with pytest.raises(FrameError, match="at least 1, but n is 0"):
        analysis.validations(hand(), n=0)
