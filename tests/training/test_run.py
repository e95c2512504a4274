"""start(): a real training in a real thread, with its switches, its errors and its log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mtlviz as mv
from mtlviz.errors import NonFiniteError, ProblemError, RunLogError
from tests.problems import crossing


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[mv.Run]:
    run = mv.start(crossing(), steps=1_000_000, log=tmp_path / "run", validate_every=10_000)
    yield run
    run.stop()
    run.wait(20)


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_pause_resume_stop(long_run: mv.Run) -> None:
    _until(lambda: long_run.step > 5)
    long_run.pause()
    _until(lambda: long_run.state == "paused")
    at = long_run.step
    time.sleep(0.3)
    assert long_run.step == at
    assert long_run.log.state == "paused"
    long_run.resume()
    _until(lambda: long_run.step > at + 5)
    assert long_run.state == "running"
    long_run.pause()
    _until(lambda: long_run.state == "paused")
    long_run.stop()  # also out of a pause
    assert long_run.wait(20) is long_run
    assert long_run.state == "stopped"
    assert long_run.log.events.kind.tolist() == ["start", "pause", "resume", "pause", "stop"]
    reopened = mv.RunLog.open(long_run.log.path)
    assert reopened.state == "stopped"
    assert len(reopened) == long_run.step


def test_start_returns_at_once_and_wait_times_out(long_run: mv.Run) -> None:
    with pytest.raises(TimeoutError, match=r"still running at step \d+ of 1000000"):
        long_run.wait(0.01)
    assert "running" in repr(long_run)


def test_pause_does_not_change_the_result(tmp_path: Path) -> None:
    ends = []
    for pauses in (0, 5):
        run = mv.start(crossing(dropout=0.4), steps=400, seed=2)
        for _ in range(pauses):
            run.pause()
            time.sleep(0.02)
            run.resume()
        run.wait(60)
        ends.append(torch.cat([p.detach().flatten() for p in run.model.parameters()]))
    assert torch.equal(ends[0], ends[1])


def test_a_finished_run_can_be_awaited_and_stop_changes_nothing() -> None:
    run = mv.start(crossing(), steps=3)

    async def wait() -> mv.Run:
        return await run

    with ThreadPoolExecutor() as pool:  # the browser tests keep an event loop in the main thread
        assert pool.submit(asyncio.run, wait()).result(30) is run
    run.stop()
    assert run.state == "finished"
    assert run.log.path is None
    assert len(run.log) == 3


def test_a_failure_reaches_the_user_with_its_traceback(tmp_path: Path) -> None:
    calls = threading.local()

    def fails_later(losses: Any, gramian: Any) -> Any:
        calls.count = getattr(calls, "count", 0) + 1
        if calls.count == 8:
            raise RuntimeError("the user's own weighting broke")
        return losses * 0 + 1

    run = mv.start(crossing(), weighting=fails_later, steps=50, log=tmp_path / "run")
    with pytest.raises(RuntimeError, match="own weighting broke") as caught:
        run.wait(30)
    assert "fails_later" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert run.state == "failed"
    log = mv.RunLog.open(tmp_path / "run")
    assert log.state == "failed"
    assert len(log) == 7
    event = log.events.iloc[-1]
    assert event.kind == "error"
    assert event.detail["type"] == "RuntimeError"
    assert "fails_later" in event.detail["traceback"]


def test_a_loss_that_becomes_nan_fails_the_run_and_keeps_the_log(tmp_path: Path) -> None:
    x = torch.ones(64, 6)
    task = mv.Task("bomb", loss=lambda o, t: (o**2).mean(), metric="rmse", outputs=1)
    problem = mv.Problem(tasks=[task], trunk=nn.Linear(6, 4), train=(x, {"bomb": x[:, 0]}))
    run = mv.start(problem, steps=500, log=tmp_path / "run", optimizer=lambda p: torch.optim.SGD(p, lr=50.0))
    with pytest.raises(NonFiniteError, match=r"task 'bomb': its (loss|gradient) is .* at step \d+"):
        run.wait(30)
    log = mv.RunLog.open(tmp_path / "run")
    assert len(log) == run.step > 0
    assert log.events.kind.tolist()[-2:] == ["nonfinite", "error"]
    assert log.steps.loss.notna().all()


def test_what_is_wrong_from_the_start_is_told_at_once(tmp_path: Path) -> None:
    problem = crossing()
    with pytest.raises(ValueError, match="steps"):
        mv.start(problem, steps=-1, log=tmp_path / "run")
    bad = mv.Problem(tasks=problem.tasks, trunk=nn.Linear(6, 4), train=problem.train, heads={"kind": nn.Linear(4, 2)})
    with pytest.raises(ProblemError, match="kind"):
        mv.start(bad, log=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    mv.start(crossing(), steps=3, log=tmp_path / "run").wait(30)
    with pytest.raises(RunLogError, match="overwrite=True"):
        mv.start(crossing(), steps=5, log=tmp_path / "run")
    assert len(mv.RunLog.open(tmp_path / "run")) == 3
    mv.start(crossing(), steps=5, log=tmp_path / "run", overwrite=True).wait(30)
    assert len(mv.RunLog.open(tmp_path / "run")) == 5


def test_a_log_that_was_opened_to_read_is_refused(tmp_path: Path) -> None:
    mv.start(crossing(), steps=3, log=tmp_path / "run").wait(30)
    with pytest.raises(RunLogError, match="reading only"):
        mv.start(crossing(), steps=3, log=mv.RunLog.open(tmp_path / "run"))


def test_a_program_that_ends_while_training_keeps_its_log(tmp_path: Path) -> None:
    code = (
        "import time, mtlviz as mv\n"
        "from tests.problems import crossing\n"
        f"run = mv.start(crossing(), steps=10**6, log={str(tmp_path / 'run')!r})\n"
        "while run.step < 20: time.sleep(0.01)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    log = mv.RunLog.open(tmp_path / "run")
    assert log.state == "stopped"
    assert len(log) >= 20
    assert log.events.kind.iloc[-1] == "stop"


def test_background_and_by_hand_give_the_same_run(tmp_path: Path) -> None:
    run = mv.start(crossing(), weighting="mgda", steps=30, log=tmp_path / "run").wait(30)
    log = mv.RunLog.create(tmp_path / "hand", crossing())
    for record in mv.train(crossing(), weighting="mgda", steps=30):
        log.append(record)
    log.close()
    ours, theirs = mv.RunLog.open(tmp_path / "run").steps, mv.RunLog.open(tmp_path / "hand").steps
    assert ours.drop(columns="time").equals(theirs.drop(columns="time"))
    assert run.log.steps.equals(ours)


def test_runs_side_by_side_are_as_they_are_alone() -> None:
    def parameters(run: mv.Run) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in run.wait(60).model.parameters()])

    weighting = mv.weighting.DWA(window=5)
    options = {"steps": 150, "weighting": weighting}
    alone = [parameters(mv.start(crossing(dropout=0.4), seed=seed, **options)) for seed in (0, 1)]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    together = [mv.start(crossing(dropout=0.4), seed=seed, **options) for seed in (0, 1)]
    ends = [parameters(run) for run in together]
    assert torch.equal(alone[0], ends[0])
    assert torch.equal(alone[1], ends[1])
    assert torch.equal(torch.rand(3), expected)
    assert weighting.state_dict()["state"] is None  # each run had its own copy


class _Stops(mv.Training):
    """A training during whose last or failing record the user presses a switch."""

    press: Callable[[], None]
    at: str

    def __next__(self) -> mv.runlog.records.Record:
        record = super().__next__()
        if isinstance(record, mv.Event) and record.kind == self.at:
            self.press()
        return record


def _pressed(at: str, switch: str, weighting: Any = "equal", **parts: Any) -> mv.Run:
    training = mv.train(crossing(**parts), steps=5, weighting=weighting)
    training.__class__ = _Stops
    ready = threading.Event()
    training.at = at
    training.press = lambda: (ready.wait(10), getattr(run, switch)())
    run = mv.Run(training, mv.RunLog.create(None, training))
    ready.set()
    return run


@pytest.mark.parametrize("switch", ["pause", "stop"])
def test_a_switch_at_the_last_record_changes_nothing(switch: str) -> None:
    run = _pressed("finish", switch)
    assert run.wait(20).state == "finished"
    assert run.log.state == "finished"
    assert run.log.events.kind.tolist() == ["start", "finish"]


@pytest.mark.parametrize("switch", ["pause", "stop"])
def test_a_switch_at_a_failing_record_does_not_hide_the_error(switch: str) -> None:
    x = torch.ones(64, 6)
    task = mv.Task("bomb", loss=_Late(), metric="rmse", outputs=1)
    problem = mv.Problem(tasks=[task], trunk=nn.Linear(6, 4), train=(x, {"bomb": x[:, 0]}))
    training = mv.train(problem, steps=9)
    training.__class__ = _Stops
    ready = threading.Event()
    training.at, training.press = "nonfinite", lambda: (ready.wait(10), getattr(run, switch)())
    run = mv.Run(training, mv.RunLog.create(None, training))
    ready.set()
    with pytest.raises(NonFiniteError, match="bomb"):
        run.wait(20)
    assert run.state == "failed"
    assert run.log.state == "failed"


class _Late:
    """A loss that is NaN from its sixth call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return ((outputs - targets) ** 2).mean() * (float("nan") if self.calls > 6 else 1.0)


def test_the_error_keeps_its_traceback_however_often_it_is_asked_for() -> None:
    def broken(losses: Any, gramian: Any) -> Any:
        raise RuntimeError("no")

    run = mv.start(crossing(), weighting=broken, steps=3)
    lengths = []
    for _ in range(3):
        with pytest.raises(RuntimeError) as caught:
            run.wait(20)
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths[0] == lengths[1] == lengths[2]


def test_the_trained_model_is_ready_to_predict() -> None:
    run = mv.start(crossing(dropout=0.9), steps=3).wait(20)
    x = torch.randn(5, 6)
    assert torch.equal(run.model(x)["kind"], run.model(x)["kind"])


def test_a_log_of_other_tasks_or_with_steps_is_refused_at_once(tmp_path: Path) -> None:
    other = mv.RunLog.create(None, mv.data.digits(pairs={"train": 50, "validation": 50, "test": 50}))
    with pytest.raises(RunLogError, match=r"the log is of the tasks \['left', .*this run has \['kind'"):
        mv.start(crossing(), log=other)
    mv.start(crossing(), steps=5, log=tmp_path / "run").wait(20)
    used = mv.RunLog.resume(tmp_path / "run", first_step=4)
    with pytest.raises(RunLogError, match="begins at step 0, but the log holds steps up to 3"):
        mv.start(crossing(), steps=5, log=used)
    used.close()


def test_a_failure_that_the_log_cannot_note_is_failed_all_the_same(tmp_path: Path) -> None:
    def breaks(losses: Any, gramian: Any) -> Any:
        raise RuntimeError("no \ud800")  # a message that no file can hold

    run = mv.start(crossing(), weighting=breaks, steps=5, log=tmp_path / "run")
    with pytest.raises(RuntimeError, match="no "):
        run.wait(20)
    assert run.state == "failed"
    assert mv.RunLog.open(tmp_path / "run").state == "failed"
