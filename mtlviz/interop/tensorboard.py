"""A run's curves as TensorBoard event files: a TensorBoard run per task, and one for the run itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import RunLogError
from mtlviz.runlog import RunLog, arguments
from mtlviz.runlog.folder import RUN

try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError as error:
    raise ImportError("mtlviz.interop.tensorboard needs TensorBoard: pip install 'mtlviz[tensorboard]'") from error

AXES = ("step", "position")
CURVES = ("loss", "weight", "grad_norm", "relative_rate")  # of each task, as log.steps names them
TOTALS = ("rate_variance", "conflict_rate", "update_norm", "learning_rate")  # of the run, as log.totals names them
_OURS = ".mtlviz"  # how the names of event files end that this module wrote
_EVENTS = "*tfevents*"  # what TensorBoard takes for event files
_DRAFT = ".mtlviz-draft"


@dataclass(frozen=True)
class _Scalars:
    """Values (n, k) under k tags, at the rows of a table: step (n,), position (n,), discarded (n,), seconds (n,)."""

    rows: pd.DataFrame
    tags: Sequence[str]
    values: NDArray[np.float64]


def export(
    log: RunLog,
    folder: str | os.PathLike[str],
    *,
    axis: str = "step",
    discarded: bool = False,
    pairs: bool = True,
    every: int = 1,
    overwrite: bool = False,
) -> Path:
    """Writes the curves of a run so that `tensorboard --logdir folder` shows them.

    Each task is a TensorBoard run of its own, in a folder of its name, so that one chart holds the curves of all tasks:
    loss, weight, grad_norm, relative_rate, validation/<metric> and measure/<name>. The run itself, in `folder`, has
    what is no single task's: rate_variance, conflict_rate, update_norm, learning_rate, cosine/<task> · <task> and
    measure/<name>. Wall times are those of the run. TensorBoard keeps numbers as float32. Where a task is absent, and
    wherever a value is NaN, there is no point. Characters that a file system may refuse become _ in folders' names.

    Args:
        log: a run log, also of a run that goes on: it is written as it is now.
        folder: where to write; it may hold other files.
        axis: what TensorBoard's horizontal axis is: "step", the work done, or "position", the place on the surviving
            trajectory; they differ where the run was rewound.
        discarded: write also what a rewind discarded; with axis="step" only, since positions come twice.
        pairs: write the cosine of each pair of tasks: T(T-1)/2 tags.
        every: only each so many-th recorded step; validations and measures are written all. TensorBoard draws about
            1000 points a curve, and writing takes about 0.1 ms a step and task.
        overwrite: replace the event files that an earlier export wrote there.

    Returns:
        The folder.

    Raises:
        RunLogError: the folder holds event files already, cannot be written, or an argument is of another kind.
    """
    _check(log, axis, discarded, every)
    place = arguments.path(folder, "export")
    old = _refuse_occupied(place, overwrite=overwrite)
    now = log.snapshot()
    began = _began(now)
    written = set()
    for part, scalars in _parts(now, pairs=pairs, every=int(every)):
        path = place / part / f"events.out.tfevents.{int(began):010d}{_OURS}"
        _write(path, scalars, began=began, axis=axis, discarded=discarded)
        written.add(path)
    for path in old - written:
        path.unlink(missing_ok=True)
    return place


def _check(log: object, axis: object, discarded: object, every: object) -> None:
    if not isinstance(log, RunLog):
        raise RunLogError(f"export needs a RunLog, came with {log!r}. Open a folder with mv.RunLog.open.")
    if axis not in AXES:
        raise RunLogError(f"export needs an axis, one of {', '.join(AXES)}; came as {axis!r}.")
    if discarded and axis == "position":
        raise RunLogError("export cannot draw what was discarded over positions, which come twice: use axis='step'.")
    if not arguments.is_count(every):
        raise RunLogError(f"export needs every, an integer of 1 or more; came as {every!r}.")


def _refuse_occupied(folder: Path, *, overwrite: bool) -> set[Path]:
    """The event files of an earlier export, where they may be replaced."""
    found = set(folder.rglob(_EVENTS))
    foreign = sorted(path for path in found if not path.name.endswith(_OURS))
    if foreign:
        raise RunLogError(
            f"{folder} holds event files that mtlviz did not write ({foreign[0].relative_to(folder)}); nothing in it "
            "was touched. Choose another folder."
        )
    deep = sorted(path for path in found if len(path.relative_to(folder).parts) > 2)  # tasks of another export
    if deep:
        raise RunLogError(
            f"{folder} holds exports in folders of its own ({deep[0].relative_to(folder)}); nothing in it was touched. "
            "Choose another folder, beside them."
        )
    if found and not overwrite:
        raise RunLogError(f"{folder} holds an export already. Choose another folder, or replace it: overwrite=True.")
    return found


def _began(log: RunLog) -> float:
    """When the run began, in seconds since 1970; where nothing tells, as if it had ended now."""
    if log.path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            created = json.loads((log.path / RUN).read_text(encoding="utf-8"))["created"]
            return datetime.fromisoformat(created).timestamp()
    return time.time() - log.time


def _parts(log: RunLog, *, pairs: bool, every: int) -> Iterator[tuple[str, list[_Scalars]]]:
    """The folders to write, "" for the run itself, each with what goes there."""
    kept = np.arange(0, len(log), every)
    totals, T = log.totals, len(log.names)
    clock = totals[["step", "position", "discarded", "time"]]
    validations, measures = log.validations, _placed(log.measures, clock)
    validations = validations.assign(time=_at(clock, validations["step"], "time"))
    of_run = [_Scalars(clock.iloc[kept], TOTALS, totals[list(TOTALS)].to_numpy(np.float64)[kept])]
    if pairs and T > 1:
        table = log.pairs
        per_step = T * (T - 1) // 2
        names = [f"cosine/{row.task_a} · {row.task_b}" for row in table.head(per_step).itertuples()]
        cosines = table["cosine"].to_numpy(np.float64).reshape(-1, per_step)
        of_run.append(_Scalars(clock.iloc[kept], names, cosines[kept]))
    yield "", [*of_run, *_tagged(measures[measures["task"].isna()], "measure")]
    curves = log.steps[list(CURVES)].to_numpy(np.float64).reshape(-1, T, len(CURVES))
    for index, (name, part) in enumerate(zip(log.names, folder_names(log.names), strict=True)):
        own = _Scalars(clock.iloc[kept], CURVES, _absent_left_out(curves[kept, index]))
        checks = validations[validations["task"] == name].rename(columns={"metric": "name"})
        yield part, [own, *_tagged(checks, "validation"), *_tagged(measures[measures["task"] == name], "measure")]


def _absent_left_out(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """A task that is absent has weight 0, which is no weight: (n, 4) with NaN for it."""
    return np.where(np.isnan(curves[:, :1]), np.nan, curves)


def _placed(measures: pd.DataFrame, clock: pd.DataFrame) -> pd.DataFrame:
    """Measures with the clocks of the recorded step at or before theirs, and their names with pair and layer."""
    name = measures["name"].astype(object)
    for column in ("other", "layer"):
        there = measures[column].notna().to_numpy()
        name = name.where(~there, name + "/" + measures[column].astype(object).astype(str))
    columns = {key: _at(clock, measures["step"], key) for key in ("position", "time", "discarded")}
    return measures.assign(name=name, **columns)


def _at(clock: pd.DataFrame, step: pd.Series, column: str) -> NDArray[Any]:
    """A clock at the last recorded step up to each of these; 0 or False where there is none."""
    index = np.searchsorted(clock["step"].to_numpy(), step.to_numpy(), side="right")
    values = clock[column].to_numpy()
    return np.concatenate([np.zeros(1, values.dtype), values])[index]


def _tagged(frame: pd.DataFrame, kind: str) -> Iterator[_Scalars]:
    """A frame of single values, a part for each of its names."""
    ordered = frame.sort_values("step", kind="stable")
    for name, rows in ordered.groupby("name", sort=False):
        yield _Scalars(rows, (f"{kind}/{name}",), rows[["value"]].to_numpy(np.float64))


def _write(path: Path, scalars: Sequence[_Scalars], *, began: float, axis: str, discarded: bool) -> None:
    """Writes an event file, whole or not at all."""
    draft = path.with_name(_DRAFT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
            for part in scalars:
                for event in _events(part, began=began, axis=axis, discarded=discarded):
                    writer.write(event.SerializeToString())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise RunLogError(
            f"Could not write {path}: {error.strerror or error}. Free space or choose a folder where you may write."
        ) from error


def _events(part: _Scalars, *, began: float, axis: str, discarded: bool) -> Iterator[Event]:
    """An event per row that has a value."""
    kept = np.ones(len(part.rows), bool) if discarded else ~part.rows["discarded"].to_numpy(bool)
    places, seconds = part.rows[axis].to_numpy(np.int64), part.rows["time"].to_numpy(np.float64)
    tags = [tag.encode("utf-8", "replace").decode() for tag in part.tags]
    for row in np.flatnonzero(kept & ~np.isnan(part.values).all(axis=1)):
        event = Event(wall_time=began + seconds[row], step=int(places[row]))
        for tag, value in zip(tags, part.values[row].tolist(), strict=True):
            if not math.isnan(value):
                event.summary.value.add(tag=tag, simple_value=value)
        yield event


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder's name for each task: letters, digits and what every file system takes, and no two alike."""
    taken: set[str] = set()
    found = []
    for name in names:
        plain = re.sub(r"[^\w .,()+=@-]", "_", name)[:48].strip(" .") or "task"
        chosen, count = plain, 1
        while chosen.casefold() in taken:
            count += 1
            chosen = f"{plain} ({count})"
        taken.add(chosen.casefold())
        found.append(chosen)
    return found
