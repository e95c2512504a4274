"""Analyses of frames that were written to CSV or Parquet and read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog
from tests.analysis.runs import filled, hand, long_run

TABLES = {
    "losses": "steps",
    "gradient_norms": "steps",
    "relative_rates": "steps",
    "rate_variance": "steps",
    "weights": "steps",
    "conflict_matrix": "pairs",
    "conflict_rate": "pairs",
    "layer_conflict": "layers",
    "validations": "validations",
}
OTHER_ORDER = ["zebra", "ant", "moth", "bee"]  # not the alphabet's


def stored(log: RunLog, folder: Path, name: str, kind: str) -> pd.DataFrame:
    """The table that an analysis takes, as a file gives it back."""
    if kind == "csv":
        log.to_csv(folder)
        return pd.read_csv(folder / f"{TABLES[name]}.csv")
    log.to_parquet(folder)
    return pd.read_parquet(folder / f"{TABLES[name]}.parquet")


def options_of(name: str, log: RunLog) -> dict:
    return {"directions": {task.name: task.direction for task in log.tasks}} if name == "validations" else {}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_a_stored_frame_says_what_the_log_says(name: str, kind: str, tmp_path: Path) -> None:
    log = long_run(60, names=OTHER_ORDER)
    frame = stored(log, tmp_path, name, kind)
    analyse = getattr(analysis, name)
    expected, got = analyse(log), analyse(frame, **options_of(name, log))
    if name in ("conflict_rate", "layer_conflict"):  # a log's own buckets are cut elsewhere
        expected = analyse(getattr(log, TABLES[name]))
    pd.testing.assert_frame_equal(got, expected, check_dtype=False, rtol=1e-9)
    for key in {"task", "task_a", "task_b", "layer"} & set(got.columns):
        assert list(got[key].cat.categories) == (["conv", "fc"] if key == "layer" else OTHER_ORDER)
    assert getattr(figures, name)(got).data


@pytest.mark.parametrize("options", [{"step": 20}, {"window": 7}, {"step": 20, "window": 5}])
def test_the_matrix_of_stored_steps(options: dict, tmp_path: Path) -> None:
    log = long_run(60, names=OTHER_ORDER)
    frame = stored(log, tmp_path, "conflict_matrix", "csv")
    got = analysis.conflict_matrix(frame, **options)
    pd.testing.assert_frame_equal(got, analysis.conflict_matrix(log, **options), check_dtype=False, rtol=1e-9)


def test_a_pair_of_a_stored_frame(tmp_path: Path) -> None:
    log = long_run(60, names=OTHER_ORDER)
    got = analysis.layer_conflict(stored(log, tmp_path, "layer_conflict", "csv"), pair=("bee", "ant"))
    pd.testing.assert_frame_equal(
        got, analysis.layer_conflict(log.layers, pair=("bee", "ant")), check_dtype=False, rtol=1e-9
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_a_stored_frame_without_rows(name: str, kind: str, tmp_path: Path) -> None:
    frame = stored(filled(hand().info, []), tmp_path, name, kind)
    got = getattr(analysis, name)(frame)  # no categories outlive a file without rows
    assert len(got) == 0


def test_a_name_that_was_read_as_missing_is_told(tmp_path: Path) -> None:
    log = long_run(9, names=["NA", "b", "c"])
    for name in ("losses", "conflict_rate"):
        with pytest.raises(FrameError, match=rf"{name} needs a name in every row of task(_a)?.*keep_default_na"):
            getattr(analysis, name)(stored(log, tmp_path / name, name, "csv"))


def frame_of(name: str, columns: list[str]) -> pd.DataFrame:
    return getattr(hand(), TABLES[name])[columns]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("losses", ["step", "discarded", "task", "loss"]),
        ("rate_variance", ["step", "discarded", "task", "relative_rate"]),
        ("weights", ["step", "discarded", "task", "weight", "loss"]),
        ("conflict_matrix", ["step", "discarded", "task_a", "task_b", "cosine", "conflict"]),
        ("conflict_rate", ["step", "discarded", "task_a", "task_b", "conflict"]),
        ("layer_conflict", ["step", "discarded", "layer", "task_a", "task_b", "cosine", "conflict"]),
        ("validations", ["step", "discarded", "task", "metric", "value"]),
    ],
)
def test_a_frame_of_just_the_columns_that_are_needed_is_enough(name: str, columns: list[str]) -> None:
    log, few = hand(), frame_of(name, columns)
    whole = getattr(analysis, name)(getattr(log, TABLES[name]), **options_of(name, log))
    got = getattr(analysis, name)(few, **options_of(name, log))
    pd.testing.assert_frame_equal(got, whole[got.columns])
    for missing in columns:
        with pytest.raises(FrameError, match=f"missing: {missing}; got"):
            getattr(analysis, name)(few.drop(columns=missing), **options_of(name, log))
