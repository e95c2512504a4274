"""A training in the background: the cell returns at once, and Pause, Resume and Stop answer while it trains."""

from __future__ import annotations

import asyncio
import atexit
import threading
import traceback
import weakref
from collections.abc import Generator
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any

import torch

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, RunLogError
from mtlviz.gradients.ranks import attempt, ranks_of
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.runlog import arguments
from mtlviz.runlog.log import RunLog
from mtlviz.runlog.records import Event
from mtlviz.training.loop import Training, train
from mtlviz.training.parts import MakeOptimizer, MakeScheduler, WeightingLike
from mtlviz.training.resuming import begun, keep_checkpoints, resumed
from mtlviz.training.schedules import Schedule

_ALIVE: weakref.WeakSet[Run] = weakref.WeakSet()


def start(
    problem: Problem,
    *,
    log: str | PathLike[str] | RunLog | None = None,
    overwrite: bool = False,
    resume: bool = False,
    weighting: WeightingLike = "equal",
    steps: int | None = None,
    schedule: Schedule | None = None,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    seed: int = 0,
    validate_every: int | None = None,
    layers_every: int = 10,
    affinity_every: int = 0,
    group: Any = None,
) -> Run:
    """Starts `train` in a background thread that writes a run log, and returns at once.

    log: the folder of the run, a writable `RunLog`, or None to keep the run in memory. overwrite: replace the run that
    is in the folder. resume: go on with the run that is in the folder and was killed, stopped or failed, from its
    newest checkpoint; where there is none, begin it. Everything else: see `mtlviz.train`.

    A run with a folder keeps checkpoints: one at each validation, of which each task's best and the newest stay. One
    that is resumed on the CPU ends with the very parameters, rows and events (but for their `time`) of one that nobody
    killed, unless its data are a DataLoader or its functions (weighting, losses, optimizer) keep state of their own.

    On several ranks (see `train`) rank 0 writes the folder and keeps checkpoints there; the others keep theirs, and
    a log of their own, in memory. `stop` of any rank stops them all; `pause` and `resume` are refused, but a single
    process can go on with a run of several.

    A script should call `run.wait()`, since the thread ends with the program.

    Runs of one process take turns where they draw random numbers; code of yours that draws from torch's default
    generator while a run goes on can change the run's dropout, so give it a `torch.Generator`.

    Raises: what `train` raises on the way in; RunLogError for a folder that holds something or cannot be written, or a
    log of other tasks or with steps in it, or where the run to resume has other settings or no checkpoint; ValueError
    for `overwrite` or `resume` with a log that is open already, both at once, or `resume` without a folder.
    """
    if resume and (overwrite or log is None or isinstance(log, RunLog)):
        raise ValueError(
            "resume=True goes on with the run in a folder: give log=<its folder>, and no overwrite=True, which would "
            "replace it"
        )
    ranks = ranks_of(group)
    if resume and ranks is not None:
        raise ProblemError(
            "a run on several ranks cannot resume yet; go on with it in a single process (group=False), which computes "
            "the same to float tolerance"
        )
    make = partial(
        train,
        problem,
        weighting=weighting,
        steps=steps,
        schedule=schedule,
        optimizer=optimizer,
        scheduler=scheduler,
        batch_size=batch_size,
        device=device,
        seed=seed,
        validate_every=validate_every,
        layers_every=layers_every,
        affinity_every=affinity_every,
        group=False if ranks is None else ranks,
    )
    if isinstance(log, RunLog):
        if overwrite:
            raise ValueError("overwrite is for a folder; the log that was given is open already")
        training = make()
        keep_checkpoints(training, log)
        return Run(training, log)
    folder = None if log is None else arguments.path(log, "mv.start")
    if resume and folder is not None:
        return Run(*resumed(make, folder))
    training = make()
    if ranks is None:
        return Run(training, begun(training, folder, overwrite=overwrite))
    opening = partial(begun, training, folder if ranks.leads else None, overwrite=overwrite)
    own, error = attempt(opening)
    ranks.meet("the log of the run", error=error)
    return Run(training, own)


class Run:
    """A training in a thread, its log, and the switches that it reads between records."""

    def __init__(self, training: Training, log: RunLog) -> None:
        over = 0 < training.step == log.last_step and log.state == "finished"  # resumed where nothing is left to do
        if not (log.writable or over):
            raise RunLogError(f"the log of {log.path} is open for reading only; give a folder or RunLog.create(...)")
        ours, theirs = training.run_info(), log.info
        if [t.name for t in ours.tasks] != [t.name for t in theirs.tasks] or ours.layers != theirs.layers:
            raise RunLogError(
                f"the log is of the tasks {list(log.names)} and layers {list(theirs.layers)}; this run has "
                f"{[t.name for t in ours.tasks]} and {list(ours.layers)}. Give it a log or a folder of its own"
            )
        if log.last_step != training.step:
            begins = "a run begins at" if training.step == 0 else "this training goes on from"
            raise RunLogError(
                f"{begins} step {training.step}, but the log holds steps up to {log.last_step}; "
                "give it a log of its own"
            )
        self.training, self.log = training, log
        self._going = threading.Event()
        self._going.set()
        self._stopping = threading.Event()
        self._paused = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._origin: TracebackType | None = None
        self._finished = over and not log.writable
        self._thread = threading.Thread(target=self._work, name="mtlviz training", daemon=True)
        _ALIVE.add(self)
        self._thread.start()

    @property
    def step(self) -> int:
        """Updates done."""
        return self.training.step

    @property
    def steps(self) -> int:
        """Updates planned."""
        return self.training.steps

    @property
    def model(self) -> SharedTrunk:
        """The model that is being trained; it changes while the run goes on, and is in evaluation mode afterwards."""
        return self.training.model

    @property
    def state(self) -> str:
        """One of "running", "paused", "finished", "stopped" and "failed"."""
        if not self._done.is_set():
            return "paused" if self._paused.is_set() else "running"
        if self._error is not None:
            return "failed"
        return "finished" if self._finished else "stopped"

    @property
    def error(self) -> BaseException | None:
        """What ended a failed run."""
        return self._error

    def pause(self) -> None:
        """Asks the run to halt before its next record; returns at once. A run that has ended stays as it is.

        Raises: ProblemError on several ranks, where the others would wait in vain.
        """
        if self.training.ranks is not None:
            raise ProblemError("a run on several ranks cannot pause; stop it, or let it go on")
        self._going.clear()

    def resume(self) -> None:
        """Lets a paused run go on."""
        self._going.set()

    def stop(self) -> None:
        """Asks the run to end after the record it is at, paused or not; returns at once and keeps the log."""
        self.training.halting = True
        self._stopping.set()
        self._going.set()

    def join(self, timeout: float | None = None) -> bool:
        """Blocks until the run ends, at most `timeout` seconds; whether it has ended, however it did."""
        return self._done.wait(timeout)

    def wait(self, timeout: float | None = None) -> Run:
        """Blocks until the run ends, at most `timeout` seconds.

        Raises: the run's own error with its traceback if it failed; TimeoutError.
        """
        if not self.join(timeout):
            raise TimeoutError(f"the run is still {self.state} at step {self.step} of {self.steps} after {timeout} s")
        self._thread.join()
        if self._error is not None:
            raise self._error.with_traceback(self._origin)  # as it was, however often it is asked for
        return self

    def __await__(self) -> Generator[Any, None, Run]:
        return asyncio.get_running_loop().run_in_executor(None, self.wait).__await__()

    def __repr__(self) -> str:
        return f"Run({self.training.problem.name}, {self.state}, step {self.step} of {self.steps}, log={self.log.path})"

    def _work(self) -> None:
        try:
            for record in self.training:
                self.log.append(record)
                kind = record.kind if isinstance(record, Event) else None
                self._finished = kind == "finish"
                if kind in ("finish", "nonfinite"):  # nothing is left to halt, or the error is about to come
                    continue
                if not self._going.is_set():
                    self._hold()
                if self._stopping.is_set() and self.training.ranks is None:
                    self._note("stop")
                    break
            if self.training.ranks is not None and not self._finished:  # some rank has stopped them all
                self._note("stop")
        except BaseException as error:  # noqa: BLE001 - the border of the thread: the error reaches the user by wait()
            self._fail(error)
        try:
            self.training.close()
            self.log.close(failed=self._error is not None)
        except BaseException as error:  # noqa: BLE001 - see above
            self._end_by(error)
        finally:
            self.model.eval()
            self._done.set()
            _ALIVE.discard(self)

    def _hold(self) -> None:
        self._note("pause")
        self._paused.set()
        self.log.flush()
        self._going.wait()
        self._paused.clear()
        if not self._stopping.is_set():
            self._note("resume")

    def _fail(self, error: BaseException) -> None:
        self._end_by(error)
        detail = {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        try:
            self._note("error", detail)
        except RunLogError as unwritten:
            error.add_note(f"The run log could not note this error: {unwritten}")

    def _end_by(self, error: BaseException) -> None:
        if self._error is None:
            self._error, self._origin = error, error.__traceback__

    def _note(self, kind: str, detail: dict[str, Any] | None = None) -> None:
        self.log.append(Event(step=self.step, position=self.training.position, kind=kind, detail=detail or {}))


@atexit.register
def _end_with_the_program() -> None:
    """Stops what still trains, so that the last rows reach the disk before the interpreter goes."""
    for run in list(_ALIVE):
        run.stop()
        run._thread.join(timeout=5)
