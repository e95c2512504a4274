"""Gains of one task by another: paired differences by hand, what the interval decides, and what is missing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mtlviz as mv
from mtlviz.errors import FrameError

gains, matrix = mv.analysis.transfer_gains, mv.analysis.transfer_matrix


def _runs(numbers: dict[tuple[str, str], list[float]], *, direction: str = "max", **more: Any) -> pd.DataFrame:
    """A frame of {(source, task): a value per seed}."""
    rows = [
        {"seed": seed, "source": source, "task": task, "metric": "accuracy", "direction": direction, "value": value}
        for (source, task), values in numbers.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(**more)


def _row(frame: pd.DataFrame, source: str, target: str) -> pd.Series:
    (place,) = np.flatnonzero((frame["source"] == source) & (frame["target"] == target))
    return frame.iloc[place]


def test_a_gain_is_the_mean_of_paired_differences_with_student_s_interval() -> None:
    alone, together = [50.0, 60.0, 70.0], [53.0, 62.0, 74.0]  # differences 3, 2 and 4: mean 3, deviation 1
    frame = gains(_runs({("", "a"): alone, ("b", "a"): together, ("", "b"): [1, 1, 1], ("a", "b"): [1, 0, 2]}))
    row = _row(frame, "b", "a")
    half = 4.302652729911275 / np.sqrt(3)  # t(0.975; 2) of the tables
    assert (row["gain"], row["alone"], row["together"], row["seeds"], row["failed"]) == (3.0, 60.0, 63.0, 3, 0)
    np.testing.assert_allclose([row["low"], row["high"]], [3 - half, 3 + half])
    by_scipy = stats.ttest_rel(together, alone).confidence_interval(0.95)
    np.testing.assert_allclose([row["low"], row["high"]], [by_scipy.low, by_scipy.high])
    assert row["verdict"] == "positive"
    assert _row(frame, "a", "b")["verdict"] == "undecided"
    assert frame[["source", "target"]].to_numpy().tolist() == [["b", "a"], ["a", "b"]]


def test_the_interval_decides_and_not_the_sign() -> None:
    numbers = {("", "a"): [0.0, 0, 0], ("b", "a"): [1.0, 2, 3], ("c", "a"): [-1.0, -1, -1.1], ("d", "a"): [9.0, -1, 4]}
    numbers |= {("", name): [0.0, 0, 0] for name in "bcd"}
    frame = gains(_runs(numbers))
    assert frame.set_index("source")["verdict"].to_dict() == {"b": "undecided", "c": "negative", "d": "undecided"}
    assert gains(_runs(numbers), confidence=0.9).set_index("source")["verdict"]["b"] == "positive"


def test_of_an_error_less_is_a_gain() -> None:
    frame = gains(_runs({("", "a"): [3.0, 3], ("all", "a"): [1.0, 1.5]}, direction="min"))
    assert _row(frame, "all", "a")["gain"] == 1.75


def test_one_seed_decides_nothing() -> None:
    row = gains(_runs({("", "a"): [1.0], ("all", "a"): [2.0]})).iloc[0]
    assert (row["gain"], row["verdict"], row["seeds"]) == (1.0, "undecided", 1)
    assert np.isnan([row["low"], row["high"]]).all()


def test_seeds_without_a_value_are_counted_and_not_compared_with_others() -> None:
    nothing = float("nan")
    numbers = {("", "a"): [1.0, nothing, 5.0, 7.0], ("b", "a"): [2.0, 9.0, float("inf"), 9.0], ("", "b"): [nothing] * 4}
    frame = gains(_runs(numbers | {("a", "b"): [1.0] * 4}))
    row = _row(frame, "b", "a")
    assert (row["gain"], row["alone"], row["together"], row["seeds"], row["failed"]) == (1.5, 4.0, 5.5, 2, 2)
    row = _row(frame, "a", "b")
    assert (row["seeds"], row["failed"], row["verdict"]) == (0, 4, "undecided")
    assert np.isnan(row["gain"])


def test_a_seed_that_was_not_asked_of_a_pair_is_not_missing() -> None:
    runs = _runs({("", "a"): [1.0, 2.0, 3.0], ("b", "a"): [2.0, 3.0, 5.0], ("", "b"): [1.0] * 3, ("a", "b"): [1.0] * 3})
    frame = gains(runs[~((runs["source"] != "") & (runs["seed"] == 2))])
    assert frame[["seeds", "failed"]].to_numpy().tolist() == [[2, 1], [2, 1]]  # trained alone, and nowhere else


def test_gains_on_test_data() -> None:
    runs = _runs({("", "a"): [1.0, 1.0], ("all", "a"): [2.0, 2.0]})
    runs["test"] = [10.0, 10.0, 7.0, 7.5]
    assert gains(runs, on="test").iloc[0]["gain"] == -2.75


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 6))
def test_gains_do_not_feel_what_a_seed_does_to_all_runs_nor_the_order_nor_the_way_of_counting(
    number: int, tasks: int, seeds: int
) -> None:
    rng = np.random.default_rng(number)
    names = "abcd"[:tasks]
    pairs = [(source, task) for task in names for source in ("", *names, "all") if source != task]
    runs = _runs({pair: list(rng.normal(size=seeds)) for pair in pairs})
    first = gains(runs)
    moved = runs.assign(value=runs["value"] + runs["seed"].map(dict(enumerate(rng.normal(size=seeds)))))
    turned = runs.assign(value=-runs["value"], direction="min")
    mixed = runs.sample(frac=1, random_state=number % 1000)
    columns = ["gain", "low", "high"]
    np.testing.assert_allclose(first[columns], gains(moved)[columns], atol=1e-9)
    np.testing.assert_allclose(first[columns], gains(turned)[columns], atol=1e-12)
    again = gains(mixed).set_index(["source", "target"]).loc[list(zip(first["source"], first["target"], strict=True))]
    np.testing.assert_allclose(first[columns], again[columns], atol=1e-12)
    assert ((first["verdict"] == "positive") == (first["low"] > 0)).all()
    assert ((first["verdict"] == "negative") == (first["high"] < 0)).all()
    assert (first["low"] <= first["gain"]).all()
    assert len(first) == tasks * tasks


def test_a_matrix_has_sources_down_and_targets_across() -> None:
    numbers = {("", "a"): [1.0, 1], ("b", "a"): [2.0, 2], ("all", "a"): [4.0, 4]}
    numbers |= {("", "b"): [1.0, 1], ("a", "b"): [3.0, 3], ("all", "b"): [8.0, 8]}
    frame = gains(_runs(numbers))
    wide = matrix(frame)
    assert list(wide.index) == ["a", "b", "all"]
    assert list(wide.columns) == ["a", "b"]
    np.testing.assert_array_equal(wide, [[np.nan, 2.0], [1.0, np.nan], [3.0, 7.0]])
    assert matrix(frame, value="seeds").loc["all", "b"] == 2
    for bad in (frame.drop(columns="source"), pd.concat([frame, frame]), 3):
        with pytest.raises(FrameError, match="transfer_matrix needs"):
            matrix(bad)


_GOOD = _runs({("", "a"): [1.0, 1], ("all", "a"): [2.0, 2]})


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (3, {}, "needs a frame as transfer_runs returns it, got int"),
        (_GOOD.drop(columns=["seed", "metric"]), {}, "missing: seed, metric"),
        (_GOOD.assign(direction="up"), {}, "direction 'max' or 'min' in every row, not 'up'"),
        (_GOOD.assign(select=["final", "best_mean"] * 2), {}, "rows of one `select`"),
        (pd.concat([_GOOD, _GOOD]), {}, "'a' with source '' stands twice for seed 0"),
        (_GOOD[_GOOD["source"] != ""], {}, "trained alone"),
        (_GOOD[_GOOD["source"] == ""], {}, "each alone only"),
        (_GOOD, {"on": "train"}, "on='value' or on='test', not 'train'"),
        (_GOOD, {"on": "test"}, "missing: test"),
        (_GOOD.assign(test=np.nan), {"on": "test"}, "no test metric"),
        (_GOOD.assign(value="x"), {}, "numbers in the column 'value'"),
        (_GOOD.assign(metric=["accuracy", "F1"] * 2), {}, r"'a' has accuracy \(max\), F1 \(max\)"),
        (_GOOD.assign(direction=["max", "min"] * 2), {}, r"'a' has accuracy \(max\), accuracy \(min\)"),
    ],
)
def test_what_is_no_frame_of_runs_is_told(runs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        gains(runs, **options)


def test_a_confidence_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        gains(_GOOD, confidence=95)


def test_rows_of_one_target_have_its_sources_and_a_file_may_have_lost_empty_texts() -> None:
    numbers = {("", "a"): [1.0, 2.0], ("b", "a"): [2.0, 4.0], ("all", "a"): [4.0, 4.5]}
    runs = _runs(numbers | {("", "b"): [1.0, 1.0], ("a", "b"): [3.0, 3.5]})
    whole = gains(runs)
    own = gains(runs[runs["task"] == "a"])
    assert own["source"].tolist() == ["b", "all"]
    pd.testing.assert_frame_equal(own, whole[whole["target"] == "a"].reset_index(drop=True))
    with io.StringIO(runs.to_csv(index=False)) as file:
        pd.testing.assert_frame_equal(gains(pd.read_csv(file)), whole)
    with pytest.raises(FrameError, match="'a' with source '' stands twice"):
        gains(runs.assign(source=runs["source"].where(runs["source"] != "all")))
