"""One run of an experiment, in a process of its own: trained into its folder, or found finished there."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlviz.errors import RunLogError
from mtlviz.experiments.plan import DIGEST, Options, Planned
from mtlviz.experiments.recipe import Recipe, said
from mtlviz.experiments.workers import Process, settle
from mtlviz.runlog import DamagedLogWarning, Event, RunInfo, RunLog
from mtlviz.training.loop import Training

_PATIENCE = 60.0  # seconds that a run which another process writes may stand still
_TRIES = 20  # to begin a run, a tenth of a second apart


def trained(run: Planned, recipe: Recipe, options: Options, parent: Process, fresh: bool = False) -> str | None:
    """Trains a run into its folder, anew where half a run is there; the error that ended it, if any.

    Where another comparison is writing that very run, it is waited for and taken; with `fresh` it is trained after it.
    parent: the process that waits for it. Where that is another one, this one computes with a single thread, and ends
    with its parent. Whatever ends a run is returned, and told in its log: the other runs go on.
    """
    settle(parent)
    try:
        if awaited(run.folder, run.settings) and not fresh:
            return None
        problem = recipe.made(run.seed, run.width)
        problem = problem.of_tasks(run.tasks) if run.tasks else problem
        training = options.training(problem, run.weighting, run.seed)
        info = training.run_info({"comparison": dict(run.settings)})
        log = _created(run, info, fresh=fresh)
        if log is not None:
            with log:
                _record(training, log)
    except Exception as error:  # noqa: BLE001 - the border of a run: the experiment tells it and goes on
        return said(error)
    return None


def _created(run: Planned, info: RunInfo, *, fresh: bool) -> RunLog | None:
    """The log of a run that begins; None where another comparison began it at the same moment and finished it.

    Raises: RunLogError where the folder cannot be written.
    """
    for trial in range(_TRIES):
        try:
            return RunLog.create(run.folder, info, overwrite=True)
        except RunLogError:
            if trial == _TRIES - 1:
                raise
        time.sleep(0.1)  # until the other one has written what its run is
        if awaited(run.folder, run.settings) and not fresh:
            return None
    return None


def _record(training: Training, log: RunLog) -> None:
    try:
        for record in training:
            log.append(record)
    except Exception as error:  # whatever ends a run stands in its log, and goes on to the border
        detail = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        log.append(Event(step=training.step, position=training.step, kind="error", detail=detail))
        raise


def finished(run: Planned) -> bool:
    """Whether the run's folder holds it whole, with the very same settings."""
    return state(run.folder, run.settings) == "finished"


def namesakes(waiting: Sequence[Planned]) -> str:
    """A line about runs of the same names that stand beside those that will be trained, and how they differ; or ""."""
    own = {run.folder for run in waiting}
    beside: dict[str, list[Path]] = {}
    for path in sorted(waiting[0].folder.parent.glob("*/run.json")) if waiting else ():
        if path.parent not in own:
            beside.setdefault(path.parent.name[:-DIGEST], []).append(path.parent)
    some = [run for run in waiting if run.folder.name[:-DIGEST] in beside]
    told = [_other(some[0].settings, path) for path in beside[some[0].folder.name[:-DIGEST]]] if some else []
    nearest = min(filter(None, told), key=len, default=None)
    if nearest is None:
        return ""
    hint = (
        ". If it is meant to be the same: a model is another one each time that it is made, unless "
        "torch.manual_seed(...) comes before it; so are data without a seed"
    )
    return (
        f"{len(some)} runs of the same names in the folder have another {' and '.join(nearest)}; they stay, and are "
        f"not used{hint if nearest == ['problem'] else ''}"
    )


def _other(settings: Mapping[str, Any], folder: Path) -> list[str]:
    """In which settings the run in a folder differs; none for what is no run that could be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedLogWarning)
        try:
            told = RunLog.open(folder).info.config.get("comparison")
        except RunLogError:
            return []
    return sorted(key for key in settings if told.get(key) != settings[key]) if isinstance(told, Mapping) else []


def awaited(folder: Path, settings: object = None) -> bool:
    """Whether the run in a folder is finished, once no other process writes it.

    settings: of the comparison that it must belong to; None where the folder's name says what it is.

    Raises: RunLogError where the other one stands still.
    """
    size, deadline = -1, 0.0
    while (now := state(folder, settings)) in ("running", "paused"):
        grown, size = size, sum(path.stat().st_size for path in folder.glob("*.arrows"))
        if size != grown:
            deadline = time.monotonic() + _PATIENCE
        elif time.monotonic() > deadline:
            raise RunLogError(
                f"{folder} is being written by another process, which stands still. End it, or choose another folder."
            )
        time.sleep(0.1)
    return now == "finished"


def state(folder: Path, settings: object = None) -> str | None:
    """How the run in a folder stands; None where there is none, or none that can be used. See `awaited`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedLogWarning)
        try:
            log = RunLog.open(folder)
            return log.state if settings in (None, log.info.config.get("comparison")) else None
        except (RunLogError, DamagedLogWarning):
            return None
