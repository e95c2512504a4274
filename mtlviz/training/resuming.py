"""Going on with a run that was killed: from its newest checkpoint, in a further segment of its log."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from mtlviz.errors import RunLogError
from mtlviz.runlog import folder as run_folder
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.log import RunLog
from mtlviz.runlog.reader import DamagedLogWarning
from mtlviz.training.checkpoints import InFolder
from mtlviz.training.loop import Training


def begun(training: Training, folder: Path | None, *, overwrite: bool) -> RunLog:
    """The log of a training that begins; it keeps checkpoints where it has a folder."""
    log = RunLog.create(folder, training, overwrite=overwrite)
    keep_checkpoints(training, log)
    return log


def keep_checkpoints(training: Training, log: RunLog) -> None:
    """Lets a training keep its checkpoints in the folder of its log, if it has one."""
    if log.path is not None:
        training.checkpoints = InFolder(log.path, tasks=log.names, flush=log.flush)


def resumed(make: Callable[[], Training], folder: Path) -> tuple[Training, RunLog]:
    """A training that goes on where the run in a folder was, and its log: to write, or to read where it had finished.

    A folder without a run, or whose run was killed before its first update, begins one. Checkpoints that cannot be read
    are left out, with a warning.

    make: makes the training as it is at its beginning.

    Raises: RunLogError for a run of other tasks or settings, naming what differs; one that did updates but has no
    checkpoint to go on from; one that is being written; a folder of something else.
    """
    training = make()
    if not (folder / run_folder.RUN).exists():
        return training, begun(training, folder, overwrite=False)
    log = RunLog.open(folder)
    _refuse_another(log, training.run_info())
    checkpoints = InFolder(folder, tasks=log.names)
    for step in reversed(checkpoints.steps()):
        training.checkpoints = checkpoints
        try:
            finished = _restored(training, checkpoints, step, log)
        except _UnusableError as error:
            said = f"{error} It is left out."
            warnings.warn(said, DamagedLogWarning, stacklevel=3)
            training = make()  # this one may be half way there
            continue
        if finished:
            return training, log
        _warn_of_loaders(training)
        log = RunLog.resume(folder, first_step=step + 1)
        checkpoints.flush = log.flush
        checkpoints.prune([kept for kept in checkpoints.steps() if kept <= step])  # what is to come will be done anew
        return training, log
    if len(log):
        raise RunLogError(
            f"The run in {folder} did {log.last_step} updates, but has no checkpoint to go on from. To begin it anew: "
            "overwrite=True."
        )
    return training, begun(training, folder, overwrite=True)


class _UnusableError(Exception):
    """A checkpoint that the run cannot go on from."""


def _restored(training: Training, checkpoints: InFolder, step: int, log: RunLog) -> bool:
    """Brings a training to a checkpoint; whether it had finished there.

    Raises: _UnusableError where the checkpoint or soft labels of it cannot be read, or the log lacks rows of it;
    RunLogError where it is of another model, optimizer or scheduler.
    """
    path = checkpoints.path(step)
    try:
        state = checkpoints.load(step)
        if not (step in {0, *log.recorded_steps.tolist()} and (log.state == "finished" or not state["finished"])):
            raise _UnusableError(f"{path} tells of more than the log beside it holds.")
        training.load_state_dict(state)
    except RunLogError as error:
        raise _UnusableError(str(error)) from error
    except (RuntimeError, ValueError, KeyError, TypeError) as error:  # what torch says of a state that does not fit
        said = str(error).rstrip(". ")
        raise RunLogError(
            f"{path} is of another run than this: {said}. Resume a run with the model, optimizer and scheduler that "
            "it had, choose another folder, or replace it with overwrite=True."
        ) from error
    return bool(state["finished"])


def _warn_of_loaders(training: Training) -> None:
    split = training.problem.train
    sources = [split.shared] if split.shared is not None else list(split.by_task.values())
    if any(isinstance(source, DataLoader) for source in sources):
        warnings.warn(
            "The training data come from a DataLoader, whose place and order no checkpoint holds: it begins again. The "
            "run goes on, but is not bit by bit what it would have been. Give tensors or a Dataset for that.",
            UserWarning,
            stacklevel=4,
        )


def _refuse_another(log: RunLog, ours: RunInfo) -> None:
    """Raises RunLogError, naming what differs, unless the log is of the very same run."""
    there, here = _settings(log.info), _settings(run_folder.checked(ours))
    differing = [
        f"{name} is {there.get(name, 'not set')} there and {here.get(name, 'not set')} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise RunLogError(
            f"{log.path} holds another run: {'; '.join(differing)}. Resume it with its own settings, choose another "
            "folder, or replace it with overwrite=True."
        )


def _settings(info: RunInfo) -> dict[str, str]:
    """What a run is, a text for each setting by its place, as in "schedule.patience.size"."""
    content = run_folder.info_json(info)
    content["config"] = {"affinity_every": 0} | content["config"]  # logs from before there was such a thing
    tasks = {task.pop("name"): task for task in content.pop("tasks")}
    return dict(_leaves(content.pop("config") | content | {"tasks": list(tasks)} | {"task": tasks}))


def _leaves(content: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", repr(value)
