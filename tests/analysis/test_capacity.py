"""Scores over the width of a trunk: means, best widths, and the rule of thumb by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtlviz as mv
from mtlviz.errors import FrameError

curves, rule = mv.analysis.capacity_curves, mv.analysis.capacity_rule
WIDTHS = (1, 2, 4, 8)


def _runs(numbers: dict[tuple[str, str], list[list[float]]], **metrics: tuple[str, str]) -> pd.DataFrame:
    """A frame of {(kind, task): for each seed a value per width}."""
    rows = []
    for (kind, task), seeds in numbers.items():
        metric, direction = metrics.get(task, ("accuracy", "max"))
        for seed, values in enumerate(seeds):
            for width, value in zip(WIDTHS, values, strict=True):
                rows.append((width, kind, task, seed, metric, direction, value))
    return pd.DataFrame(rows, columns=["width", "kind", "task", "seed", "metric", "direction", "value"])


HELD = {
    ("alone", "a"): [[1.0, 5, 3, 2], [1.0, 4, 3, 3]],  # best at 2 in both seeds
    ("alone", "b"): [[1.0, 2, 6, 2], [1.0, 2, 3, 5]],  # best at 4, at 8, and by the mean (4.5, 3.5) at 4
    ("together", "a"): [[1.0, 3, 7, 2], [1.0, 9, 3, 1]],
    ("together", "b"): [[1.0, 3, 8, 2], [1.0, 9, 3, 1]],  # best at 4, at 2, by the mean (6, 5.25) at 2
}


def test_curves_are_means_over_seeds_and_mark_the_best_width() -> None:
    frame = curves(_runs(HELD))
    assert frame["task"].tolist() == (["a"] * 4 + ["b"] * 4 + ["mean of tasks"] * 4) * 2
    b = frame[(frame["kind"] == "alone") & (frame["task"] == "b")]
    assert b["value"].tolist() == [1.0, 2.0, 4.5, 3.5]
    assert b["best"].tolist() == [False, False, True, False]
    half = 12.706204736174694 * 1.5  # t(0.975; 1) of the tables, and 3 / √2 / √2
    np.testing.assert_allclose(b.loc[b["best"], ["low", "high"]].to_numpy()[0], [4.5 - half, 4.5 + half])
    mean = frame[(frame["kind"] == "together") & (frame["task"] == "mean of tasks")]
    assert mean["value"].tolist() == [1.0, 6.0, 5.25, 1.5]
    assert frame.groupby(["kind", "task"])["best"].sum().eq(1).all()
    assert set(frame["failed"]) == {0}


def test_the_rule_holds_where_the_best_width_together_is_below_the_sum() -> None:
    first, zero, one = (row for _, row in rule(_runs(HELD)).iterrows())
    assert (first["together"], first["alone"], first["widths"]) == (2, 6, "a 2, b 4")
    assert (zero["seed"], zero["together"], zero["alone"]) == (0, 4, 6)
    assert (one["seed"], one["together"], one["alone"], one["widths"]) == (1, 2, 10, "a 2, b 8")
    assert all(row["holds"] and row["settled"] for row in (first, zero, one))
    assert (first["seeds"], first["share"]) == (2, 1.0)
    assert pd.isna(first["seed"])


def test_a_rule_that_a_wider_grid_could_turn_is_not_settled() -> None:
    low, high = [[9.0, 1, 1, 1]], [[1.0, 1, 1, 9]]
    alone_low = {("alone", "a"): low, ("alone", "b"): low}  # the sum is 2, and could be less
    alone_high = {("alone", "a"): high, ("alone", "b"): high}  # the sum is 16, and could be more
    for alone, together, holds, settled, from_two in (
        (alone_low, high, False, True, True),  # 8 ≥ 2
        (alone_low, low, True, True, False),  # 1 < 2, and there is nothing below 1; 2 < 4 could be 2 < 2
        (alone_high, high, True, False, False),  # 8 < 16
        (alone_high, low, True, True, True),  # 1 < 16
    ):
        runs = _runs(alone | {("together", "a"): together, ("together", "b"): together})
        row = rule(runs).iloc[0]
        assert (row["holds"], row["settled"], row["share"]) == (holds, settled, float(holds))
        row = rule(runs.assign(width=2 * runs["width"])).iloc[0]
        assert (row["holds"], row["settled"]) == (holds, from_two)


def test_of_equal_widths_the_narrowest_is_the_best() -> None:
    level = [[3.0, 3, 3, 3]]
    runs = _runs({(kind, task): level for kind in ("alone", "together") for task in "ab"})
    assert (curves(runs)["best"] == (curves(runs)["width"] == 1)).all()
    assert rule(runs).iloc[0][["together", "alone"]].tolist() == [1, 2]


def test_with_different_metrics_the_relative_change_decides_together() -> None:
    numbers = {
        ("alone", "a"): [[10.0, 20, 10, 10]],  # base 20 at width 2
        ("alone", "e"): [[0.4, 0.4, 0.2, 0.4]],  # an error: base 0.2 at width 4
        ("together", "a"): [[18.0, 19, 20, 20]],  # −10%, −5%, 0, 0
        ("together", "e"): [[0.5, 0.1, 0.2, 0.2]],  # −150%, +50%, 0, 0
    }
    frame = _runs(numbers, e=("RMSE", "min"))
    assert rule(frame).iloc[0][["together", "alone", "widths"]].tolist() == [2, 6, "a 2, e 4"]
    assert "mean of tasks" not in set(curves(frame)["task"])
    best = curves(frame).query("best").set_index(["kind", "task"])["width"]
    assert best["alone", "e"] == 4
    assert best["together", "e"] == 2


def test_failed_runs_are_counted_and_their_seed_has_no_answer() -> None:
    runs = _runs(HELD)
    lost = (runs["kind"] == "together") & (runs["seed"] == 0) & (runs["width"] == 4) & (runs["task"] == "a")
    runs.loc[lost, "value"] = np.nan
    frame = curves(runs).set_index(["kind", "task", "width"])
    assert frame.loc[("together", "a", 4), ["seeds", "value", "failed"]].tolist() == [1, 3.0, 1]
    assert frame.loc[("together", "mean of tasks", 4), ["seeds", "value", "failed"]].tolist() == [1, 3.0, 1]
    told = rule(runs)
    assert told["holds"].isna().tolist() == [False, True, False]
    assert told.iloc[0][["together", "alone", "seeds", "share"]].tolist() == [2, 10, 1, 1.0]  # those of seed 1
    runs.loc[runs["kind"] == "together", "value"] = np.nan
    told = rule(runs)
    assert told["holds"].isna().all()
    assert told.iloc[0]["seeds"] == 0
    assert np.isnan(told.iloc[0]["share"])


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4))
def test_the_rule_is_what_argmax_says(number: int, tasks: int, seeds: int) -> None:
    rng = np.random.default_rng(number)
    values = {(k, "abc"[t]): rng.normal(size=(seeds, 4)) for k in ("alone", "together") for t in range(tasks)}
    told = rule(_runs({key: table.tolist() for key, table in values.items()}))
    widths = np.array(WIDTHS)
    for place in range(seeds):
        alone = sum(widths[values["alone", "abc"[t]][place].argmax()] for t in range(tasks))
        together = widths[np.mean([values["together", "abc"[t]][place] for t in range(tasks)], axis=0).argmax()]
        row = told.iloc[place + 1]
        assert (row["alone"], row["together"], row["holds"]) == (alone, together, together < alone)
    assert told["share"].iloc[0] == told["holds"].iloc[1:].astype(float).mean()


_GOOD = _runs(HELD)


@pytest.mark.parametrize("analysis", [curves, rule])
@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        ("frame", {}, "needs a frame as mv.experiments.capacity returns it, got str"),
        (_GOOD.drop(columns=["width", "kind"]), {}, "missing: width, kind"),
        (_GOOD.iloc[:0], {}, "at least one row"),
        (_GOOD.assign(kind="both"), {}, "kind 'alone' or 'together', not 'both'"),
        (_GOOD.assign(direction=1), {}, "direction 'max' or 'min', not '1'"),
        (_GOOD.assign(task="mean of tasks", seed=range(len(_GOOD))), {}, "a task has that name"),
        (pd.concat([_GOOD, _GOOD]), {}, "'a' alone at width 1 stands twice for seed 0"),
        (_GOOD.assign(select=["final"] + ["best_mean"] * (len(_GOOD) - 1)), {}, "one `select`"),
        (_GOOD.assign(value=np.nan), {}, "every run failed"),
        (_GOOD.assign(value="x"), {}, "numbers in the column 'value'"),
        (_GOOD.assign(metric=["F1"] + ["accuracy"] * (len(_GOOD) - 1)), {}, "one metric a task; 'a' has F1"),
        (_GOOD, {"on": "test"}, "missing: test"),
        (_GOOD.assign(test=np.nan), {"on": "test"}, "test data"),
        (_GOOD, {"on": "train"}, "not 'train'"),
    ],
)
def test_what_is_no_frame_of_capacity_is_told(analysis: Any, frame: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        analysis(frame, **options)


def test_a_rule_needs_both_kinds() -> None:
    with pytest.raises(FrameError, match="needs runs together; the frame has none"):
        rule(_GOOD[_GOOD["kind"] == "alone"])
