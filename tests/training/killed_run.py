"""A script: a run in one process after the other, each killed at its moment by SIGKILL, the last one left alone.

python -m tests.training.killed_run "FOLDER MOMENT ..." ... does so for several folders at once, and prints how each
process ended. Imports take seconds, so the processes are forked from one that has them; nothing of a run is in it. A
moment is one of

    step:57:0.4         a little after the update 57, 0.4 of some milliseconds
    event:rewind        the first event of that kind is in the log and on the disk
    saving, saved       before and after the first checkpoint that is written, in each case before any is pruned
    resumed             the log was opened to go on
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mtlviz as mv
from mtlviz.runlog import writer
from mtlviz.training.checkpoints import InFolder
from tests.problems import TASKS, crossing

SCHEDULE = mv.training.Joint(patience=3, validate_every=10, converged_share=0.5, rewarm=4)


def started(folder: Path, **options: Any) -> mv.Run:
    """The run: dropout, missing labels, momentum, a scheduler, a weighting with a state, several rewinds."""
    given: dict[str, Any] = {
        "schedule": SCHEDULE,
        "weighting": mv.weighting.DWA(window=5),
        "steps": 400,
        "optimizer": partial(torch.optim.Adam, lr=0.03),
        "scheduler": partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[30, 30, 60], gamma=0.7),
        "layers_every": 5,
        "batch_size": 32,
        "seed": 2,
        "resume": True,
    }
    return mv.start(crossing(dropout=0.3, missing=0.2), log=folder, **given | options)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str) -> None:
    """Lets this process kill itself at a moment that a record or a file marks."""
    append, save, resume = mv.RunLog.append, InFolder.save, mv.RunLog.resume

    def appending(log: mv.RunLog, record: mv.runlog.Record) -> None:
        append(log, record)
        if isinstance(record, mv.Event) and moment == f"event:{record.kind}":
            log.flush()
            _kill()

    def saving(checkpoints: InFolder, step: int, state: Any) -> None:
        if moment == "saving":
            _kill()
        save(checkpoints, step, state)
        if moment == "saved":
            _kill()

    def resuming(path: Path, *, first_step: int) -> None:
        resume(path, first_step=first_step)
        _kill()

    if moment.startswith("event:"):
        mv.RunLog.append = appending
    elif moment.startswith("sav"):
        InFolder.save = saving
    elif moment == "resumed":
        mv.RunLog.resume = resuming


def _live(folder: Path, moment: str) -> None:
    _arm(moment)
    run = started(folder)
    if moment.startswith("step:"):
        _, step, after = moment.split(":")
        while run.step < int(step) and not run.join(0.0002):
            pass
        time.sleep(0.008 * float(after))
        _kill()
    run.wait()


def _lives(folder: Path, moments: list[str]) -> None:
    for moment in [*moments, "none"]:
        child = _forked(_live, folder, moment)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{folder.name} {moment} {ended}\n".encode())


def _forked(work: Callable[..., None], *arguments: Any) -> int:
    """A process that does this work and ends; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)


def main(plans: list[list[str]]) -> None:
    """Carries out the plans at once: the name of a folder each, and the moments of its run."""
    torch.set_num_threads(1)  # a fork has none of the threads of its parent
    writer.FLUSH_SECONDS = 0.005  # so that kills hit rows on the disk of which no checkpoint knows, and their writing
    mv.weighting.DWA()(np.ones(3), np.eye(3))  # compiled once for all, as what follows is imported
    torch.optim.Adam([torch.zeros(1)])
    for task in TASKS:
        if task.judge.needs is not None:
            import_module(task.judge.needs)
    for child in [_forked(_lives, Path(folder), moments) for folder, *moments in plans]:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main([plan.split() for plan in sys.argv[1:]])
