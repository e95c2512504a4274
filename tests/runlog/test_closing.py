"""How a log ends: by hand, forgotten, in a forked child, on a disk that refuses, while the interpreter ends."""

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mtlviz.errors import RunLogError
from mtlviz.runlog import Event, RunLog, Validation, writer
from tests.asserts import assert_same_log
from tests.runlog.runs import INFO, filled, step

ROOT = Path(__file__).parents[2]
SETUP = (
    "import os, signal, sys, time\nfrom mtlviz.runlog import *\nfrom tests.runlog.runs import *\npath = sys.argv[1]\n"
)


def ran(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SETUP + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)


FORKED_IN_A_FLUSH = """
log = RunLog.create(path, INFO)
log.append(step(1))
log._writer._disk.acquire()  # as while the timer flushes
child = os.fork()
if child == 0:
    sys.exit(0)
deadline = time.monotonic() + 15
while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < deadline:
    time.sleep(0.01)
if not ended:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
log._writer._disk.release()
log.close()
print("ended" if ended else "hung")
"""


def test_a_child_that_was_forked_in_the_middle_of_a_flush_ends(tmp_path: Path) -> None:
    assert ran(FORKED_IN_A_FLUSH, tmp_path / "run").stdout == "ended\n"
    assert len(RunLog.open(tmp_path / "run")) == 1


def test_no_timer_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on, no thread starts any more while the interpreter ends."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    log = RunLog.create(tmp_path / "run", INFO)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        filled(log, [step(1), step(2)])
        assert len(RunLog.open(tmp_path / "run")) == 0
    log.append(step(3))  # a thread can be made again
    time.sleep(3 * writer.FLUSH_SECONDS)
    assert len(RunLog.open(tmp_path / "run")) == 3
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        log.append(step(4))
        log.close()
    assert len(RunLog.open(tmp_path / "run")) == 4


@pytest.mark.parametrize("how", ["flush", "background", "close"])
def test_whatever_stops_a_flush_is_told_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("no room for the batch")

    log = RunLog.create(tmp_path / "run", INFO)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "to_batch", refuse)
        log.append(step(1))
        if how == "background":
            time.sleep(2 * writer.FLUSH_SECONDS)
        telling = {"flush": log.flush, "close": log.close, "background": lambda: log.append(step(2))}[how]
        with pytest.raises(RunLogError, match=r"MemoryError: no room for the batch\. All rows are kept in memory"):
            telling()
    log.close()
    assert_same_log(RunLog.open(tmp_path / "run"), log)
    assert capfd.readouterr().err == ""


LOST = """
import resource
from mtlviz.errors import RunLogError
log = RunLog.create(path, INFO)
log.append(Event(0, 0, "start"))
log.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for number in range(1, 501):
    try:
        log.append(step(number))
    except RunLogError:
        pass
"""


def test_rows_that_are_lost_at_the_end_of_a_process_are_told_in_one_line(tmp_path: Path) -> None:
    said = ran(LOST, tmp_path / "run").stderr
    assert said.count("\n") == 1, said
    assert f"500 rows of the run hand in {tmp_path / 'run'} are lost" in said
    assert "File too large" in said
    assert "kept in memory" not in said
    assert RunLog.open(tmp_path / "run").state == "failed"


def test_a_refused_record_does_not_move_the_clock() -> None:
    log = filled(RunLog.create(None, INFO), [step(i) for i in range(1, 101)])
    for refused in (
        Validation(100, 100, "middle", "accuracy", 0.5),
        Validation(100, 100, "left", 7, 0.5),  # type: ignore[arg-type]
        Validation(100, 100, "left", "accuracy", "good"),  # type: ignore[arg-type]
        Validation(2**70, 100, "left", "accuracy", 0.5),
        Event(100, 100, "note", "middle"),
        Event(100, 100, "rewind"),
        Event(100, 100, "note", None, {"model": object()}),
    ):
        with pytest.raises(RunLogError):
            log.append(refused)
    filled(log, [Validation(50, 50, "left", "accuracy", 0.5), Event(50, 50, "pause")])
    with pytest.raises(RunLogError, match="step >= 50"):
        log.append(Validation(49, 49, "left", "accuracy", 0.5))


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_run_that_failed_without_an_event_is_closed_as_failed(tmp_path: Path, place: str) -> None:
    for records, state in (
        ([], "failed"),
        ([Event(0, 0, "start")], "failed"),
        ([Event(0, 0, "start"), Event(0, 0, "finish")], "finished"),
    ):
        log = filled(RunLog.create(tmp_path / "run" if place == "disk" else None, INFO, overwrite=True), records)
        log.close(failed=True)
        assert log.state == state
        if place == "disk":
            assert RunLog.open(tmp_path / "run").state == state


def test_a_failed_run_whose_close_was_refused_stays_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(RunLog.create(tmp_path / "run", INFO), [Event(0, 0, "start"), step(1)])
    with monkeypatch.context() as patch:
        patch.setattr(writer.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(RunLogError, match="No space left"):
            log.close(failed=True)
    del log
    gc.collect()
    reader = RunLog.open(tmp_path / "run")
    assert (len(reader), reader.state) == (1, "failed")


RECORDS = {
    "finished": [Event(0, 0, "start"), step(1), Event(1, 1, "finish")],
    "failed": [Event(0, 0, "start"), step(1), Event(1, 1, "error")],
    "stopped": [Event(0, 0, "start"), step(1)],
}


@pytest.mark.parametrize("state", sorted(RECORDS))
@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_resumed_run_without_a_record_keeps_its_state(tmp_path: Path, state: str, how: str) -> None:
    filled(RunLog.create(tmp_path / "run", INFO), RECORDS[state]).close()
    for _ in range(2):
        log = RunLog.resume(tmp_path / "run", first_step=2)
        assert log.state == "running"
        if how == "closed":
            log.close()
            assert log.state == state
        del log
        gc.collect()
        assert RunLog.open(tmp_path / "run").state == state
    with RunLog.resume(tmp_path / "run", first_step=2) as log:
        log.append(step(2))
    assert RunLog.open(tmp_path / "run").state == "finished"


def test_a_resumed_interrupted_run_without_a_record_stays_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed = "log = RunLog.create(path, INFO)\nlog.append(Event(0, 0, 'start'))\nlog.append(step(1))\nlog.flush()\n"
    ran(killed + "os._exit(0)", path)
    assert RunLog.open(path).state == "interrupted"
    for failed, state in ((False, "interrupted"), (True, "failed")):
        log = RunLog.resume(path, first_step=2)
        log.close(failed=failed)
        assert (log.state, RunLog.open(path).state) == (state, state)
