"""Validation curves, with the best point of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import POINTS, Source, bucket_numbers, checked, finite
from mtlviz.errors import FrameError
from mtlviz.runlog import PHASES, RunLog
from mtlviz.runlog.frames import categories

COLUMNS = ("step", "discarded", "task", "metric", "value")


def validations(source: Source, *, directions: Mapping[str, str] | None = None, n: int = POINTS) -> pd.DataFrame:
    """Return the validations, with the best one of each task marked.

    Args:
        source: a RunLog, or a frame like `log.validations`.
        directions: for a frame, "max" or "min" of each task: which way its metric gets better. A log knows.
        n: at most about so many validations a task and metric. Where there are more, those stay that a curve cannot do
            without: the best, the first, the last, and the least and greatest of each stretch of the run.

    Returns:
        The columns step, position (where the source has it), discarded, task, metric, value (in the metric's unit),
        then direction and best: True at one row a task, its best finite value that no rewind discarded; of equal values
        the first. Of the log of a run with a schedule also phase (what the task learned from in the update before;
        missing before the first) and decided: at the validation that was kept of a task that converged, the step of
        the validation that decided so; missing elsewhere. The rows stand in the source's order.

    Raises:
        FrameError: the source is neither, n < 1, or a task's direction is missing or neither "max" nor "min".
    """
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise FrameError(f"validations needs a number of points n of at least 1, but n is {n!r}.")
    frame, ways = judged(source, directions=directions)
    kept = frame["best"].to_numpy(bool)
    if isinstance(source, RunLog) and scheduled(source):
        frame, marked = _with_schedule(frame, source)
        kept = kept | marked
    frame = frame[_drawn(frame, kept, int(n))].reset_index(drop=True)
    direction = pd.Series(frame["task"].astype(object).map(ways), dtype="str")
    return frame.assign(direction=direction, best=frame.pop("best"))


def judged(
    source: Source, *, directions: Mapping[str, str] | None = None, needs: str = "validations"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return every validation, with the best ones marked, and each task's direction; see `validations`."""
    if isinstance(source, RunLog):
        frame, known = source.validations, {task.name: task.direction for task in source.tasks}
    else:
        frame, known = checked(source, COLUMNS, needs=needs, table="validations"), {}
    ways = known | dict(directions or {})
    task = frame["task"].cat.codes.to_numpy()
    names = [str(name) for name in frame["task"].cat.categories]
    wrong = sorted(names[code] for code in np.unique(task) if ways.get(names[code]) not in ("max", "min"))
    if wrong:
        raise FrameError(
            f"{needs} needs a direction, 'max' or 'min', for every task; not so for: {', '.join(wrong)}. "
            "Give a RunLog, or directions={task: 'max' or 'min'}."
        )
    value = finite(frame["value"])
    counts = np.isfinite(value) & ~frame["discarded"].to_numpy(bool)
    best = np.zeros(len(frame), bool)
    for code in np.unique(task[counts]):
        rows = np.flatnonzero(counts & (task == code))
        score = value[rows] if ways[names[code]] == "max" else -value[rows]
        best[rows[np.argmax(score)]] = True
    kept = [column for column in ("step", "position", *COLUMNS[1:]) if column in frame.columns]
    return frame[kept].assign(best=best).reset_index(drop=True), ways


def scheduled(log: RunLog) -> bool:
    """Return whether tasks of the run wait, converge or are distilled: its configuration, or an event, says so."""
    config = log.info.config
    return bool(config.get("schedule")) or bool(set(log._now()["events"]["kind"]) & {"convergence", "task_added"})


def waiting_schedule(log: RunLog) -> Mapping[str, Any] | None:
    """Return the settings of the run's schedule where it waits for tasks to converge, else None."""
    schedule = log.info.config.get("schedule")
    return schedule if isinstance(schedule, Mapping) and "patience" in schedule else None


def _with_schedule(frame: pd.DataFrame, log: RunLog) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return the frame with the columns phase and decided, and which rows a convergence is drawn from."""
    now = log.snapshot()
    steps, T = now._now()["steps"], len(now.tasks)
    step, task = frame["step"].to_numpy(np.int64), frame["task"].cat.codes.to_numpy(np.int64)
    row = np.searchsorted(steps["step"], step, side="right") - 1  # -1 before the first update
    phase = np.full(len(frame), -1, np.int8)
    phase[row >= 0] = steps["phases"].reshape(-1, T)[row[row >= 0], task[row >= 0]]
    decided, marked = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    events = now.events[(now.events["kind"] == "convergence").to_numpy()]
    event: Any  # a named tuple of the columns
    for event, code in zip(events.itertuples(), events["task"].cat.codes, strict=True):
        own = task == code
        best = own & (step == event.detail.get("best_step", -1))
        decided[best] = event.step
        marked |= best | (own & (step == event.step))
    return frame.assign(phase=categories(phase, PHASES), decided=pd.array(decided, dtype="Int64")), marked


def _drawn(frame: pd.DataFrame, kept: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Return which of the judged rows to keep: those that are, and so many that each task has about n a metric."""
    task, (metric, metrics) = frame["task"].cat.codes.to_numpy(np.int64), pd.factorize(frame["metric"])
    step, value, gone = frame["step"].to_numpy(), finite(frame["value"]), frame["discarded"].to_numpy(bool)
    order = np.argsort(step, kind="stable")
    line = task * len(metrics) + metric
    order = order[np.argsort(line[order].astype(np.int32), kind="stable")]
    kept = kept.copy()
    for rows in np.split(order, np.flatnonzero(np.diff(line[order])) + 1):
        if len(rows) <= n:
            kept[rows] = True
            continue
        known = np.isfinite(value[rows])
        bucket = bucket_numbers(gone[rows], max(1, n // 2))
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        for extreme, missing in ((np.minimum, np.inf), (np.maximum, -np.inf)):  # NaN stays only where all are
            values = np.where(known, value[rows], missing)
            at = np.flatnonzero(values == extreme.reduceat(values, starts)[bucket])
            ends = {"prepend": -1} if missing > 0 else {"append": bucket[-1] + 1}
            kept[rows[at[np.diff(bucket[at], **ends) > 0]]] = True  # the first least and the last greatest
        for alike in (known, known & ~gone[rows]):
            kept[rows[np.flatnonzero(alike)[[0, -1]]] if alike.any() else rows[:0]] = True
    return kept
