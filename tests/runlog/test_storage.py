"""What is written is what is read: live, reopened, followed in pieces, by plain Arrow, resumed and exported."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.errors import RunLogError
from mtlviz.runlog import Event, RunInfo, RunLog, TaskInfo, Validation
from tests.asserts import FRAMES, assert_same_log
from tests.runlog.runs import INFO, filled, step, story
from tests.strategies import streams


@settings(max_examples=25)
@given(streams(), st.lists(st.integers(0, 30), max_size=4))
def test_live_reopened_and_followed_logs_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, stream: tuple, flushes: list[int]
) -> None:
    run, records = stream
    path = tmp_path_factory.mktemp("run") / "log"
    with RunLog.create(path, run) as live:
        followed = RunLog.open(path)
        for index, record in enumerate(records):
            live.append(record)
            if index in flushes:
                live.flush()
                assert_same_log(followed, live)
    assert_same_log(live, filled(RunLog.create(None, run), records))
    assert_same_log(followed, live)
    assert_same_log(RunLog.open(path), live)


def test_run_json(tmp_path: Path) -> None:
    RunLog.create(tmp_path / "run", INFO, config={"steps": 3, "limit": float("inf"), "shape": (1, 2)}).close()
    content = json.loads((tmp_path / "run/run.json").read_text(), parse_constant=pytest.fail)
    assert content["schema"] == 1
    assert [task["name"] for task in content["tasks"]] == ["left", "right"]
    assert content["layers"] == ["conv", "fc"]
    assert content["versions"]["pyarrow"] == pa.__version__
    assert set(content) >= {"created", "pid", "host", "problem", "config", "format"}
    info = RunLog.open(tmp_path / "run").info
    assert info.config == {"steps": 3, "limit": float("inf"), "shape": [1, 2]}
    assert info.tasks == INFO.tasks


def test_a_problem_tells_its_run_info() -> None:
    class Problem:
        def run_info(self, config: dict | None) -> RunInfo:
            return RunInfo("mine", (TaskInfo("only", "accuracy", "max"),), config=config or {})

    log = RunLog.create(None, Problem(), config={"seed": 1})
    assert (log.info.problem, log.names, log.info.config) == ("mine", ("only",), {"seed": 1})


def test_plain_arrow_reads_the_files(tmp_path: Path) -> None:
    log = filled(RunLog.create(tmp_path / "run", INFO), story(10))
    log.flush()
    filled(log, [step(11, 9)])
    log.close()
    with pa.ipc.open_stream(tmp_path / "run/steps.000.arrows") as stream:
        metadata, table = stream.schema.metadata, stream.read_all()
    assert json.loads(metadata[b"mtlviz.tasks"]) == ["left", "right"]
    assert json.loads(metadata[b"mtlviz.layers"]) == ["conv", "fc"]
    assert json.loads(metadata[b"mtlviz.phases"])[0] == "supervised"
    assert [metadata[key] for key in (b"mtlviz.schema", b"mtlviz.segment", b"mtlviz.first_step")] == [b"1", b"0", b"1"]
    assert table["step"].to_pylist() == list(range(1, 12))
    G = log.gramians
    np.testing.assert_array_equal(table["gramian"].to_pylist(), G[:, [0, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(table["losses"].to_pylist(), log.losses)
    events = pa.ipc.open_stream(tmp_path / "run/events.000.arrows").read_pandas()
    assert events["kind"].tolist() == log.events["kind"].tolist()


def test_rows_reach_the_disk_within_a_second_without_another_append(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "run", INFO)
    reader = RunLog.open(tmp_path / "run")
    for number in (1, 2):
        log.append(step(number))
        end = time.monotonic() + 10  # generous: the machine may be busy; the timer is set to half a second
        while not reader.refresh() and time.monotonic() < end:
            time.sleep(0.02)
        assert len(reader) == number
    assert not reader.refresh()


def test_a_log_that_is_dropped_is_flushed_and_its_folder_given_free(tmp_path: Path) -> None:
    log = filled(RunLog.create(tmp_path / "run", INFO), story(6))
    expected = log.steps
    del log
    pd.testing.assert_frame_equal(RunLog.open(tmp_path / "run").steps, expected)
    RunLog.resume(tmp_path / "run", first_step=7).close()


def test_a_process_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from mtlviz.runlog import RunLog; from tests.runlog.runs import INFO, filled, step, story\n"
        "log = filled(RunLog.create(sys.argv[1], INFO), story(20))\n"
        "log.flush(); filled(log, [step(21, 19)])\n"
        "assert not {'pandas', 'torch'} & set(sys.modules), 'writing a log must not wait for their import'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, cwd=Path(__file__).parents[2])
    log = RunLog.open(tmp_path / "run")
    assert len(log) == 21
    assert log.state == "stopped"


def test_resuming_supersedes(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = filled(RunLog.create(path, INFO), [step(i) for i in range(1, 8)])
    filled(first, [Validation(s, s, "left", "accuracy", s / 10) for s in (0, 5, 7)])
    filled(first, [Event(4, 4, "convergence", "left"), Event(7, 7, "stop")])
    first.close()
    reader = RunLog.open(path)
    assert (reader.state, reader.segments) == ("stopped", 1)
    old = reader.snapshot()

    log = RunLog.resume(path, first_step=6)
    assert log.last_step == 5
    assert log.validations["step"].tolist() == [0, 5]
    assert log.events["step"].tolist() == [4]
    assert log.state == "running"
    assert_same_log(reader, log)
    filled(log, [Event(5, 5, "resume"), step(6), step(8), Validation(8, 8, "left", "accuracy", 0.99)])
    log.flush()
    assert_same_log(reader, log)
    log.close()
    assert reader.steps["step"].drop_duplicates().tolist() == [1, 2, 3, 4, 5, 6, 8]
    assert reader.validations["value"].tolist() == [0, 0.5, 0.99]
    assert (reader.segments, reader.state) == (2, "stopped")
    assert_same_log(RunLog.open(path), log)
    assert_same_log(RunLog.open(path, segments=1), old)
    assert_same_log(RunLog.open(path, segments=2), log)


@settings(max_examples=20)
@given(streams(), st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=3))
def test_resumed_logs_are_the_same_live_and_read(
    tmp_path_factory: pytest.TempPathFactory, stream: tuple, resumes: list[tuple[int, bool]]
) -> None:
    run, records = stream
    path = tmp_path_factory.mktemp("run") / "log"
    live = filled(RunLog.create(path, run), records)
    live.flush()
    followed = RunLog.open(path)
    live.thin(n=3)
    for first_step, look in resumes:
        live.close()
        live = RunLog.resume(path, first_step=first_step)
        assert (live.steps["step"] < first_step).all()
        filled(live, [step(first_step + i, tasks=len(run.tasks)) for i in range(3)])
        live.flush()
        if look:
            assert_same_log(followed, live)
            pd.testing.assert_frame_equal(followed.thin(n=3), live.thin(n=3))
    live.close()
    assert_same_log(followed, live)
    assert_same_log(RunLog.open(path), live)


@pytest.mark.parametrize("how", ["parquet", "csv"])
def test_exports_hold_the_frames(tmp_path: Path, how: str) -> None:
    log = filled(RunLog.create(None, INFO), story(12))
    export = getattr(log, f"to_{how}")
    files = export(tmp_path / "out")
    assert sorted(f.stem for f in files) == sorted(set(FRAMES) - {"totals"})
    for file in files:
        back = pd.read_parquet(file) if how == "parquet" else pd.read_csv(file)
        frame = getattr(log, file.stem)
        if file.stem == "events":
            frame = frame.assign(detail=[json.dumps(d).replace("NaN", '{"$float": "nan"}') for d in frame["detail"]])
        if how == "parquet":
            pd.testing.assert_frame_equal(back, frame, check_dtype=file.stem != "events")
        else:
            assert list(back.columns) == list(frame.columns)
            for column in frame:
                one, two = back[column], frame[column]
                assert one.isna().tolist() == two.isna().tolist()
                assert one.dropna().tolist() == two.dropna().tolist()
    with pytest.raises(RunLogError, match=rf"already holds steps\.{how}.*overwrite=True"):
        export(tmp_path / "out")
    filled(log, [step(13, 11)])
    export(tmp_path / "out", overwrite=True)
    assert not list(tmp_path.glob("out/*.new"))
