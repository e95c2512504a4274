"""Arguments of another kind: each is refused before anything is opened, with what was needed and what came."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlviz.errors import RunLogError
from mtlviz.runlog import RunLog
from tests.runlog.runs import INFO, filled, step, story

NO_COUNTS = (2.0, None, "3", True, np.bool_(True), np.float64(2), 0, -1, [1])
NO_PATHS = (3, b"run", "a\0b", "\ud800", 2.5, ["run"])


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_a_first_step_that_is_no_count_of_updates_opens_nothing(tmp_path: Path, value: object) -> None:
    path = tmp_path / "run"
    filled(RunLog.create(path, INFO), story(4)).close()
    before = {file: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(RunLogError, match=rf"first_step counts updates from 1.*{re.escape(repr(value))}"):
        RunLog.resume(path, first_step=value)  # type: ignore[arg-type]
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    RunLog.resume(path, first_step=np.int32(3)).close()  # type: ignore[arg-type]
    assert RunLog.open(path).last_step == 2


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_segments_and_buckets_are_counts(tmp_path: Path, value: object) -> None:
    log = filled(RunLog.create(tmp_path / "run", INFO), story(4))
    with pytest.raises(RunLogError, match=rf"thin needs n of 1 or more.*n={re.escape(repr(value))}"):
        log.thin(value)  # type: ignore[arg-type]
    log.close()
    if value is not None:
        with pytest.raises(RunLogError, match=rf"segments must be 1 or more.*{re.escape(repr(value))}"):
            RunLog.open(tmp_path / "run", segments=value)  # type: ignore[arg-type]
    assert len(RunLog.open(tmp_path / "run", segments=np.int64(1))) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("table", [["steps"], None, "events"], ids=repr)
def test_thin_names_its_tables(table: object) -> None:
    with pytest.raises(RunLogError, match="one of the tables steps, pairs, layers, totals"):
        RunLog.create(None, INFO).thin(5, table)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", NO_PATHS, ids=ascii)
def test_paths_that_are_none(value: object) -> None:
    log = RunLog.create(None, INFO)
    calls: dict[str, Callable[[object], object]] = {
        "RunLog.create": lambda path: RunLog.create(path, INFO),  # type: ignore[arg-type]
        "RunLog.open": RunLog.open,  # type: ignore[dict-item]
        "RunLog.resume": lambda path: RunLog.resume(path, first_step=1),  # type: ignore[arg-type]
        "to_parquet": log.to_parquet,  # type: ignore[dict-item]
        "to_csv": log.to_csv,  # type: ignore[dict-item]
    }
    for name, call in calls.items():
        for path in (value,) if name == "RunLog.create" else (value, None):
            with pytest.raises(RunLogError, match=r"needs a path, a text or a pathlib\.Path; came with"):
                call(path)


@pytest.mark.parametrize("problem", [None, 3, "digits", INFO.tasks], ids=["None", "3", "text", "tasks"])
def test_a_log_needs_a_problem(tmp_path: Path, problem: object) -> None:
    for path in (None, tmp_path / "run"):
        with pytest.raises(RunLogError, match=r"needs a Problem or a RunInfo.*; came with"):
            RunLog.create(path, problem)  # type: ignore[arg-type]
    with pytest.raises(RunLogError, match="config needs a mapping"):
        RunLog.create(None, INFO, config=3)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_gramian_at_takes_integers_and_arrays_of_them() -> None:
    log = filled(RunLog.create(None, INFO), [step(1), step(2)])
    for index in (-1, np.int64(1), [0, 1], np.array([1], dtype=np.uint8)):
        np.testing.assert_array_equal(log.gramian_at(index), log.gramians[index])  # type: ignore[arg-type]
    for wrong in (None, True, 1.0, "0", slice(1), ..., [True, False], np.array([0.0]), np.zeros((1, 1), dtype=int)):
        with pytest.raises(RunLogError, match="gramian_at needs the index of a step"):
            log.gramian_at(wrong)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        log.gramian_at(2)
