"""The run log of a probe: what its tasks are, and a new log or one that goes on."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtlviz.errors import ProbeError
from mtlviz.metrics import METRICS
from mtlviz.runlog.info import RunInfo, TaskInfo
from mtlviz.runlog.log import RunLog
from mtlviz.runlog.records import Event
from mtlviz.task import Task

METRIC = "validation"
"""What a task is judged by, where nobody says more."""

Tasks = Sequence[str | Task]
Path = str | os.PathLike[str]


def task_infos(
    tasks: Tasks, metrics: str | Mapping[str, str] | None, directions: str | Mapping[str, str] | None
) -> tuple[TaskInfo, ...]:
    """What the log remembers of the tasks.

    Raises: ProbeError where tasks, metrics or directions do not fit.
    """
    if isinstance(tasks, str | Task) or not isinstance(tasks, Sequence) or not tasks:
        raise ProbeError(f'tasks must be the names of the tasks, as ["seg", "depth"]; got {tasks!r:.80}')
    for task in tasks:
        if not isinstance(task, str | Task) or not (task if isinstance(task, str) else task.name):
            raise ProbeError(f"a task must be a name or an mv.Task, got {task!r:.80}")
    names = [task if isinstance(task, str) else task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ProbeError(f"tasks must have different names; got {', '.join(names)}")
    for what, given in (("metrics", metrics), ("directions", directions)):
        if isinstance(given, Mapping) and not set(given) <= set(names):
            raise ProbeError(f"{what} knows {', '.join(map(str, set(given) - set(names)))}, which is no task")
    infos = []
    for name, task in zip(names, tasks, strict=True):
        metric = metrics.get(name) if isinstance(metrics, Mapping) else metrics
        direction = directions.get(name) if isinstance(directions, Mapping) else directions
        infos.append(_info(name, None if isinstance(task, str) else task, metric, direction))
    return tuple(infos)


def _info(name: str, task: Task | None, metric: str | None, direction: str | None) -> TaskInfo:
    if direction not in (None, "max", "min"):
        raise ProbeError(f"directions: {name!r} must get better towards 'max' or 'min', got {direction!r}")
    if metric is not None and not isinstance(metric, str):
        raise ProbeError(f"metrics: {name!r} needs the name of its metric, got {metric!r:.60}")
    known = METRICS.get(metric or "") or next((m for m in METRICS.values() if m.label == metric), None)
    if known is None and task is not None and metric is None:
        known = task.judge
    if known is not None and direction not in (None, known.direction):
        raise ProbeError(
            f"directions: {name!r} is judged by {known.label}, which gets better towards {known.direction}"
        )
    return TaskInfo(
        name=name,
        metric=metric or METRIC if known is None else known.label,
        direction=direction or "max" if known is None else known.direction,
        loss="" if task is None else task.loss_name,
        outputs=None if task is None else task.outputs,
    )


def checked_config(name: object, config: object, **switches: object) -> dict[str, Any]:
    """What the loop wants the log to remember.

    Raises: ProbeError for a name that is no text, a config that is no mapping, or a switch that is neither on nor off.
    """
    if not isinstance(name, str):
        raise ProbeError(f"name must be a text, what the run is called; got {name!r:.60}")
    if config is not None and not isinstance(config, Mapping):
        raise ProbeError(f"config must be a mapping of JSON values worth remembering; got {config!r:.60}")
    for what, value in switches.items():
        if not isinstance(value, bool | np.bool_):
            raise ProbeError(f"{what} must be True or False; got {value!r:.60}")
    return dict(config or {})


def opened(log: Path | RunLog | None, info: RunInfo, *, resume: bool | int, overwrite: bool) -> tuple[RunLog, int]:
    """A log to write, and how many updates are done.

    Raises: ProbeError where the run to go on with has other tasks or layers; RunLogError where it cannot be written.
    """
    if isinstance(log, RunLog):
        raise ProbeError("log must be the folder of the run, or None to keep it in memory; the probe opens it itself")
    if resume is False or (resume is True and log is not None and not os.path.exists(log)):
        return RunLog.create(log, info, overwrite=overwrite), 0
    if log is None or overwrite:
        raise ProbeError("resume goes on with the run in a folder: give log=<its folder>, and no overwrite=True")
    if not isinstance(resume, int) or resume < 0:
        raise ProbeError(f"resume must be True or the number of updates done, got {resume!r}")
    found = RunLog.open(log)
    for what, there, here in (
        ("tasks", found.names, tuple(task.name for task in info.tasks)),
        ("layers", found.info.layers, info.layers),
    ):
        if there != here:
            raise ProbeError(f"cannot go on with {log}: its {what} are {_few(there)}, these are {_few(here)}")
    done = int(resume) if resume is not True else _reached(found)
    return RunLog.resume(log, first_step=done + 1), done


def ending(error: BaseException | None, step: int) -> Event:
    """How the run ended: done, broken off by hand, or by an error."""
    if error is None:
        return Event(step, step, "finish")
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return Event(step, step, "stop")
    told = "".join(traceback.format_exception(error))
    detail = {"type": type(error).__name__, "message": str(error), "traceback": told}
    return Event(step, step, "error", detail=detail)


def _reached(log: RunLog) -> int:
    """The last step that anything was recorded of."""
    return max([log.last_step, *(int(frame["step"].max()) for frame in (log.validations, log.events) if len(frame))])


def _few(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names[:6])) + (", …" if len(names) > 6 else "") if names else "none"
