"""Real processes that write a log: killed, followed while they write, on a full disk, forked."""

import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from mtlviz.runlog import DamagedLogWarning, Event, RunLog
from tests.asserts import assert_same_log
from tests.runlog.runs import INFO, filled, step, story

ROOT = Path(__file__).parents[2]
SETUP = (
    "import os, sys, time, signal\nfrom mtlviz.runlog import *\nfrom tests.runlog.runs import *\npath = sys.argv[1]\n"
)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SETUP + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    output, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    return output


RECORDING = """
log = RunLog.create(path, INFO)
log.append(Event(0, 0, "start"))
for number in range(1, 10**6):
    log.append(step(number, layers=number % 5 == 0))
    if number % int(sys.argv[2]) == 0:
        log.flush()
        os.write(1, f"{number}\\n".encode())
"""


@pytest.mark.parametrize("start_seed", range(0, 20, 4))
def test_a_killed_process_loses_no_flushed_row(tmp_path: Path, start_seed: int) -> None:
    """20 processes, four at a time, each killed at a random moment, also in the middle of a write."""
    chance = random.Random(start_seed)
    processes = {tmp_path / f"run{i}": chance.choice([1, 3, 40, 200]) for i in range(4)}
    running = {path: start(RECORDING, path, every) for path, every in processes.items()}
    for path, process in running.items():
        assert process.stdout is not None
        first = process.stdout.readline()
        assert RunLog.open(path).state == "running"
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        reported = [int(line) for line in (first + process.stdout.read()).split("\n")[:-1]]
        process.wait()
        process.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedLogWarning)  # a torn tail, where the kill hit a write
            log = RunLog.open(path)
        assert log.state == "interrupted"
        assert len(log) >= reported[-1] > 0
        expected = filled(RunLog.create(None, INFO), [step(i, layers=i % 5 == 0) for i in range(1, len(log) + 1)])
        np.testing.assert_array_equal(log.gramians, expected.gramians)
        np.testing.assert_array_equal(log.losses, expected.losses)
        assert len(log.layer_gramians[0]) >= reported[-1] // 5
        again = RunLog.resume(path, first_step=reported[-1] + 1)  # the lock went with the process
        assert again.last_step == reported[-1]
        again.close()


FOLLOWED = """
with RunLog.create(path, INFO) as log:
    for record in story(60):
        log.append(record)
        time.sleep(0.01)
        if isinstance(record, Step) and record.step % 7 == 0:
            log.flush()
    log.append(Event(60, 58, "finish"))
"""


def test_another_process_follows_while_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = start(FOLLOWED, path)
    while not (path / "run.json").exists():
        time.sleep(0.01)
    log, seen, states = RunLog.open(path), [], []
    while process.poll() is None:
        if log.refresh():
            seen.append(len(log.steps) // 2)
            states.append(log.state)
            assert log.thin(n=5, table="totals")["update_norm_count"].sum() >= seen[-1]
        time.sleep(0.005)
    finished(process)
    log.refresh()
    assert log.state == "finished"
    assert set(states) <= {"running", "finished"}
    assert len(set(seen)) >= 5, "the reader saw it grow"
    assert seen == sorted(seen)
    assert len(log) == 60
    expected = filled(RunLog.create(None, INFO), story(60))
    np.testing.assert_array_equal(log.gramians, expected.gramians)
    np.testing.assert_array_equal(log.shares, expected.shares)


FULL_DISK = """
import resource, signal
import pyarrow as pa
from mtlviz.errors import RunLogError
background = sys.argv[2] == "background"
log = RunLog.create(path, INFO)
log.append(Event(0, 0, "start"))
log.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
number, message = 0, ""
while not message:
    number += 1
    try:
        log.append(step(number, layers=True))
        if background:
            time.sleep(0.002)
        else:
            log.flush()
    except RunLogError as error:
        message = str(error)
assert "All rows are kept in memory: free space and call log.flush()" in message, message
assert "File too large" in message and "log.to_parquet(folder)" in message, message
assert len(log) == number, (len(log), number)
try:
    log.close()
except RunLogError:
    pass
assert log.writable
before = RunLog.open(path)
assert 0 < len(before) < number or background, len(before)
for name in os.listdir(path):
    assert os.path.getsize(os.path.join(path, name)) <= 20_000
    if name.endswith(".arrows"):  # whole messages only: Arrow itself finds no torn one
        pa.ipc.open_stream(os.path.join(path, name)).read_all()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.flush()
log.append(step(number + 1, layers=True))
log.close()
print(number + 1)
"""


@pytest.mark.parametrize("how", ["flush", "background"])
def test_a_full_disk_loses_no_row(tmp_path: Path, how: str) -> None:
    count = int(finished(start(FULL_DISK, tmp_path / "run", how)))
    log = RunLog.open(tmp_path / "run")
    rows = [step(i, layers=True) for i in range(1, count + 1)]
    expected = filled(RunLog.create(None, INFO), rows)
    np.testing.assert_array_equal(log.gramians, expected.gramians)
    np.testing.assert_array_equal(log.layer_gramians[1], expected.layer_gramians[1])
    assert log.events["kind"].tolist() == ["start"]


NO_ROOM = """
import resource
from mtlviz.errors import RunLogError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    RunLog.create(path, INFO)
except RunLogError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
RunLog.create(path, INFO, overwrite=True).close()
"""


@pytest.mark.parametrize("room", [0, 100, 1000])
def test_a_disk_that_is_full_from_the_start(tmp_path: Path, room: int) -> None:
    assert "Could not write the run folder" in finished(start(NO_ROOM, tmp_path / "run", room))
    assert len(RunLog.open(tmp_path / "run")) == 0


FORKED = """
log = RunLog.create(path, INFO)
log.append(step(1))
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
log.append(step(2))
log.flush()
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_that_outlives_the_killed_writer_does_not_keep_the_run_running(tmp_path: Path) -> None:
    process = start(FORKED, tmp_path / "run")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(timeout=30)
        log = RunLog.open(tmp_path / "run")
        assert (len(log), log.state) == (2, "interrupted")
    finally:
        subprocess.run(["kill", "-9", str(child)], check=True)
        process.communicate()


def test_states(tmp_path: Path) -> None:
    def states(log: RunLog, kind: str) -> tuple[str, str]:
        log.append(Event(0, 0, kind))
        log.flush()
        return log.state, RunLog.open(tmp_path / "run").state

    log = RunLog.create(tmp_path / "run", INFO)
    assert (log.state, RunLog.open(tmp_path / "run").state) == ("running", "running")
    assert states(log, "start") == ("running", "running")
    assert states(log, "pause") == ("paused", "paused")
    assert states(log, "resume") == ("running", "running")
    assert states(log, "note") == ("running", "running")
    log.close()
    assert (log.state, RunLog.open(tmp_path / "run").state) == ("stopped", "stopped")
    for kind, state in {"finish": "finished", "stop": "stopped", "error": "failed", "nonfinite": "failed"}.items():
        log = RunLog.create(tmp_path / "run", INFO, overwrite=True)
        assert states(log, kind) == (state, state)
        log.close()
        assert (log.state, RunLog.open(tmp_path / "run").state) == (state, state)


def test_states_of_logs_by_hand(tmp_path: Path) -> None:
    with RunLog.create(tmp_path / "run", INFO) as log:
        log.append(step(1))
        assert RunLog.open(tmp_path / "run").state == "running"
    assert (log.state, RunLog.open(tmp_path / "run").state) == ("finished", "finished")
    log = RunLog.resume(tmp_path / "run", first_step=2)
    assert RunLog.open(tmp_path / "run").state == "running"
    with pytest.raises(ZeroDivisionError), log:
        raise ZeroDivisionError
    assert RunLog.open(tmp_path / "run").state == "failed"
    (tmp_path / "run/run.lock").unlink()  # a copy of the data files alone
    assert RunLog.open(tmp_path / "run").state == "interrupted"
    memory = RunLog.create(None, INFO)
    assert memory.state == "running"
    memory.close()
    assert memory.state == "finished"
    assert_same_log(memory, RunLog.create(None, INFO))
