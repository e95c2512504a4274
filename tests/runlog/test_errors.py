"""Records, folders and requests that the log refuses, each with what to do."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from mtlviz.errors import RunLogError
from mtlviz.runlog import Event, Measure, RunInfo, RunLog, TaskInfo, Validation
from tests.asserts import assert_same_log
from tests.runlog.runs import INFO, filled, step, story

TASK = TaskInfo("left", "accuracy", "max")


def altered(**changes: object) -> object:
    return dataclasses.replace(step(3, layers=True), **changes)


BAD = [
    (altered(losses=np.zeros(3)), r"losses needs the shape \(2,\).*left, right.*\(3,\)"),
    (altered(weights=np.zeros((2, 1))), r"weights needs the shape \(2,\)"),
    (altered(samples=np.zeros(1, dtype=int)), r"samples needs the shape \(2,\)"),
    (altered(gramian=np.zeros(2)), r"gramian needs the shape \(2, 2\)"),
    (altered(layers=np.zeros((3, 2, 2))), r"layers needs the shape \(2, 2, 2\).*conv, fc"),
    (altered(losses=[1.0, 2.0]), "Step at step 3"),
    (altered(losses=np.array(["a", "b"])), "Step at step 3"),
    (altered(time="soon"), "Step at step 3"),
    (altered(step=2), "step > 2, the last one recorded"),
    (altered(step=3.5), "Step at step 3.5"),
    (altered(step=-1), "step > 2"),
    (altered(position=4), "position <= step"),
    (altered(position=0), "1 <= position"),
    (altered(phases=("supervised",)), "phases needs one of supervised, distilled, waiting for each of the 2 tasks"),
    (altered(phases=("supervised", "asleep")), "asleep"),
    (Validation(2, 2, "middle", "accuracy", 0.5), "task 'middle' is none of the log's: left, right"),
    (Validation(1, 1, "left", "accuracy", "good"), "Validation at step 1"),
    (Validation(-1, 0, "left", "accuracy", 0.5), "step >= 2"),
    (Event(2, 3, "pause"), "position <= step"),
    (Event(2, 2, "pause", "middle"), "middle"),
    (Event(2, 2, 7), "Event at step 2"),
    (Event(2, 2, "\ud800"), "Event at step 2"),
    (Event(2, 2, "note", None, {"model": object()}), "object is no JSON value"),
    (Event(2, 2, "note", None, {"$float": "nan"}), "reserved"),
    (Event(2, 2, "note", None, ["a"]), "detail needs a mapping, a list came"),
    (Event(2, 2, "rewind"), r'detail=\{"to": p\}'),
    (Event(2, 2, "rewind", None, {"to": 1.5}), r'detail=\{"to": p\}'),
    (Measure(1, "noise", 1.0, "middle"), "middle"),
    (Measure(1, "noise", 1.0, layer="left"), "layer 'left' is none of the log's: conv, fc"),
    (Measure(-1, "noise", 1.0), "step must be 0 or more"),
    ({"step": 3}, "takes Step, Validation, Event and Measure records; this is a dict"),
]


@pytest.mark.parametrize(("record", "message"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_a_record_that_does_not_fit_is_refused_and_leaves_no_trace(record: object, message: str) -> None:
    records = [step(1), step(2, layers=True), Validation(2, 2, "left", "accuracy", 0.5), Event(2, 2, "pause")]
    log = filled(RunLog.create(None, INFO), records)
    with pytest.raises(RunLogError, match=message):
        log.append(record)
    assert_same_log(log, filled(RunLog.create(None, INFO), records))
    log.append(step(3))


def test_layer_gramians_without_layers() -> None:
    log = RunLog.create(None, dataclasses.replace(INFO, layers=()))
    with pytest.raises(RunLogError, match=r"created without layers: give RunInfo\(layers=\.\.\.\)"):
        log.append(step(1, layers=True))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (RunInfo("p", ()), "at least one task"),
        (RunInfo("p", (TASK, TASK)), "left came more than once"),
        (RunInfo("p", (TaskInfo("", "accuracy", "max"),)), "with a name"),
        (RunInfo("p", (TaskInfo("a", "accuracy", "up"),)), 'direction "max" or "min"; came with \'up\''),
        (RunInfo("p", (TASK,), layers=("a", "a")), "layers of different names; a"),
        (RunInfo("p", (TASK,), config={"model": object()}), "configuration must be JSON values"),
    ],
)
def test_a_run_info_that_makes_no_log(tmp_path: Path, info: RunInfo, message: str) -> None:
    with pytest.raises(RunLogError, match=message):
        RunLog.create(tmp_path / "run", info)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused_overwritten_or_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    filled(RunLog.create(path, INFO), story(8)).close()
    filled(RunLog.resume(path, first_step=9), [step(9, 7)]).close()
    (path / "notes.txt").write_text("mine")
    (path / "checkpoints").mkdir()
    (path / "checkpoints/last.pt").write_text("weights")
    before = RunLog.open(path)
    with pytest.raises(
        RunLogError, match=r"already holds a run.*overwrite=True.*another folder.*RunLog\.open.*RunLog\.resume"
    ):
        RunLog.create(path, INFO)
    assert len(RunLog.open(path)) == 9
    log = filled(RunLog.create(path, INFO, overwrite=True), [step(1)])
    log.close()
    assert len(RunLog.open(path)) == 1
    assert (path / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in path.iterdir()) == ["notes.txt", "run.json", "run.lock", "steps.000.arrows"]
    with pytest.raises(RunLogError, match="was overwritten by a new one: open it again"):
        before.refresh()


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/run.json").write_text('{"tool": "other"}')
    for overwrite in (False, True):
        with pytest.raises(RunLogError, match=r"not empty and holds no run \(run\.json\)"):
            RunLog.create(tmp_path / "thesis", INFO, overwrite=overwrite)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["run.json"]


def test_a_run_that_is_being_written_is_neither_overwritten_nor_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    log = filled(RunLog.create(path, INFO), [step(1)])
    for begin in (
        lambda: RunLog.create(path, INFO, overwrite=True),
        lambda: RunLog.resume(path, first_step=1),
    ):
        with pytest.raises(RunLogError, match=r"being written by another log \(this process.*log\.close\(\)"):
            begin()
    log.append(step(2))
    log.close()
    assert len(RunLog.open(path)) == 2


def test_places_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "run", tmp_path / "file", Path("/proc/mtlviz"), tmp_path / ("x" * 300)):
        with pytest.raises(RunLogError, match="Choose a"):
            RunLog.create(path, INFO)
    with pytest.raises(RunLogError, match=r"Could not write .*steps\.parquet"):
        filled(RunLog.create(None, INFO), story(4)).to_parquet(tmp_path / "file" / "out")


def test_resume_needs_a_run_and_a_first_step(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="There is no folder"):
        RunLog.resume(tmp_path / "run", first_step=1)
    filled(RunLog.create(tmp_path / "run", INFO), story(4)).close()
    with pytest.raises(RunLogError, match="first_step counts updates from 1"):
        RunLog.resume(tmp_path / "run", first_step=0)
    with pytest.raises(RunLogError, match="segments must be 1 or more"):
        RunLog.open(tmp_path / "run", segments=0)
    log = RunLog.resume(tmp_path / "run", first_step=3)
    with pytest.raises(RunLogError, match="step > 2"):
        log.append(step(2))
    with pytest.raises(RunLogError, match="step >= 2"):
        log.append(Event(1, 1, "resume"))
    log.close()
    log = RunLog.resume(tmp_path / "run", first_step=9)  # a checkpoint may be newer than the last flushed row
    with pytest.raises(RunLogError, match="step > 8"):
        log.append(step(5))
    assert repr(log) == f"<RunLog {str(tmp_path / 'run')!r}: hand, 2 tasks, step 2, running>"
    log.close()


def test_logs_that_take_no_records(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "run", INFO)
    reader = RunLog.open(tmp_path / "run")
    with pytest.raises(RunLogError, match=r"opened to read.*another folder.*RunLog\.resume"):
        reader.append(step(1))
    log.close()
    log.close()
    assert not log.writable
    with pytest.raises(RunLogError, match=r"is closed.*RunLog\.resume"):
        log.append(step(1))


def test_a_deleted_folder_is_told_and_the_rows_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "run"
    log = filled(RunLog.create(path, INFO), [step(1)])
    log.flush()
    reader = RunLog.open(path)
    for file in path.iterdir():
        file.unlink()
    log.append(step(2))
    with pytest.raises(RunLogError, match=r"deleted while it was written.*log\.to_parquet"):
        log.flush()
    assert len(log) == 2
    log.to_parquet(tmp_path / "saved")
    assert len(reader) == 1
    with pytest.raises(RunLogError, match="deleted"):
        log.close()
    rows = [log]
    del log
    with pytest.warns(RuntimeWarning, match="1 rows of the run hand in .* are lost.*deleted while it was") as told:
        rows.clear()
    assert len(told) == 1


def test_a_publisher_reads_while_training_appends(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "run", INFO)
    problems: list[BaseException] = []
    done = threading.Event()

    def publish() -> None:
        try:
            while not done.is_set():
                now = log.snapshot()
                assert now.steps["step"].nunique() == len(now)
                rows = int(log.thin(n=20, table="totals")["update_norm_count"].sum())
                assert len(now) <= rows <= len(log)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    filled(log, [step(i) for i in range(1, 3001)])
    done.set()
    for thread in threads:
        thread.join()
    assert not problems
    log.close()
    assert_same_log(RunLog.open(tmp_path / "run"), filled(RunLog.create(None, INFO), [step(i) for i in range(1, 3001)]))
