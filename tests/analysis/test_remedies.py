"""What a remedy changes: by hand, as pairs of the same seed, and what the interval decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mtlviz as mv
from mtlviz.errors import FrameError

SEEDS = [3, 1, 2]
TABLE = {  # a value per seed, in that order
    ("as it is", "a"): [10.0, 20.0, 30.0], ("better", "a"): [12.0, 23.0, 31.0], ("worse", "a"): [9.0, 18.5, 28.5],
    ("as it is", "b"): [1.0, 2.0, 3.0], ("better", "b"): [0.5, 2.5, np.nan], ("worse", "b"): [1.0, 2.0, 3.0],
}  # fmt: skip


def frame(**changes: Any) -> pd.DataFrame:
    """Task a in accuracy, more is better, task b in RMSE, less is better."""
    rows = [
        {"method": method, "seed": seed, "task": task, "metric": "accuracy" if task == "a" else "RMSE", "value": value}
        | {"direction": "max" if task == "a" else "min", "test": np.nan, "select": "final"}
        | {"versus": "" if method == "as it is" else "as it is"}
        for (method, task), values in TABLE.items()
        for seed, value in zip(SEEDS, values, strict=True)
    ]
    return pd.DataFrame(rows).sort_values(["task", "seed"]).assign(**changes)


def test_differences_are_paired_by_seed_and_better_is_above_zero() -> None:
    changes = mv.analysis.remedy_changes(frame()).set_index(["remedy", "task"])
    assert set(changes["versus"]) == {"as it is"}
    row = changes.loc[("better", "a")]
    assert (row["before"], row["after"], row["gain"], row["seeds"], row["failed"]) == (20.0, 22.0, 2.0, 3, 0)
    interval = stats.t.interval(0.95, 2, loc=2.0, scale=stats.sem([2.0, 3.0, 1.0]))
    assert (row["low"], row["high"]) == pytest.approx(interval)
    assert row["verdict"] == "undecided"
    assert changes.loc[("worse", "a"), "verdict"] == "negative"
    assert changes.loc[("worse", "a"), "gain"] == pytest.approx(-4 / 3)
    row = changes.loc[("better", "b")]
    assert (row["before"], row["after"], row["gain"], row["seeds"], row["failed"]) == (1.5, 1.5, 0.0, 2, 1)
    assert changes.loc[("worse", "b"), ["gain", "low", "high", "verdict"]].tolist() == [0, 0, 0, "undecided"]


def test_intervals_do_not_feel_what_a_seed_does_to_both() -> None:
    moved = frame()
    moved["value"] += moved["seed"].map({1: 1e3, 2: -50, 3: 7})
    columns = ["gain", "low", "high"]
    before, after = (mv.analysis.remedy_changes(one)[columns] for one in (frame(), moved))
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_each_may_be_measured_against_another() -> None:
    changes = mv.analysis.remedy_changes(frame(), {"worse": "better"}, confidence=0.5)
    assert changes[["remedy", "versus", "task"]].to_numpy().tolist() == [
        ["worse", "better", "a"],
        ["worse", "better", "b"],
    ]
    assert changes["gain"].tolist() == pytest.approx([-10 / 3, 0.0])
    plain = frame().drop(columns="versus")
    pd.testing.assert_frame_equal(mv.analysis.remedy_changes(plain, "as it is"), mv.analysis.remedy_changes(frame()))
    tested = plain.assign(test=plain["value"], value=np.nan)
    pd.testing.assert_frame_equal(
        mv.analysis.remedy_changes(tested, "as it is", on="test"), mv.analysis.remedy_changes(frame())
    )


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: mv.analysis.remedy_changes([]), "as mv.experiments.remedies returns it, got list"),
        (lambda: mv.analysis.remedy_changes(frame().drop(columns="seed")), "missing: seed; got: method, task"),
        (lambda: mv.analysis.remedy_changes(frame()[:0]), "at least one row"),
        (lambda: mv.analysis.remedy_changes(frame().drop(columns="versus")), "needs versus=, what to measure against"),
        (lambda: mv.analysis.remedy_changes(frame(), "as is"), "unknown method 'as is'; did you mean 'as it is'"),
        (lambda: mv.analysis.remedy_changes(frame(), {"best": "worse"}), "unknown method 'best'"),
        (lambda: mv.analysis.remedy_changes(frame(versus="")), "needs a remedy beside what it is measured against"),
        (lambda: mv.analysis.remedy_changes(frame(direction="up")), "'max' or 'min', not 'up'"),
        (lambda: mv.analysis.remedy_changes(frame(seed=1)), "some stand twice"),
        (lambda: mv.analysis.remedy_changes(frame(value="x")), "numbers in the column 'value'"),
        (lambda: mv.analysis.remedy_changes(frame(select=[*"ab"] * 9)), "rows of one `select`; the frame mixes"),
        (lambda: mv.analysis.remedy_changes(frame(), on="tests"), "on='value' or on='test', not 'tests'"),
    ],
)
def test_frames_that_say_nothing_are_told(act: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        act()


def test_a_confidence_out_of_range_is_told() -> None:
    with pytest.raises(ValueError, match="confidence"):
        mv.analysis.remedy_changes(frame(), confidence=95)


def test_a_frame_comes_back_from_a_file_that_keeps_no_empty_texts(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "frame.csv", index=False)
    read = mv.analysis.remedy_changes(pd.read_csv(tmp_path / "frame.csv"))
    pd.testing.assert_frame_equal(read, mv.analysis.remedy_changes(frame()))


def test_an_accuracy_that_moves_by_the_same_in_two_seeds_decides_nothing() -> None:
    some = frame()
    some["value"] = some["method"].map({"as it is": 50.0, "better": 50.5, "worse": 50.0})
    few = mv.analysis.remedy_changes(some[some["seed"] < 3]).set_index(["remedy", "task"])
    assert few.loc[("better", "a"), ["gain", "low", "high", "verdict"]].tolist() == [0.5, 0.5, 0.5, "undecided"]
