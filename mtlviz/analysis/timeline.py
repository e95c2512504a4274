"""What each task did over a run: learned, was distilled or waited; when it converged, and what a rewind threw away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import log_only
from mtlviz.runlog import PHASES, RunLog
from mtlviz.runlog.derived import discarded
from mtlviz.runlog.frames import categories, rewinds

MARKS = ("added", "convergence", "rewind")
_COLUMNS = ("task", "kind", "phase", "step_first", "step_last", "position_first", "position_last", "discarded", "value")


def timeline(log: RunLog) -> pd.DataFrame:
    """Return per task the stretches of the run in which it did one thing, and the moments at which that changed.

    Args:
        log: a RunLog. Without a schedule each task has one stretch, supervised (and more where it was rewound).

    Returns:
        A row per stretch or mark, in the order of the tasks, then stretches before marks, then by step:
        task (missing at a rewind that no task caused); kind: "stretch", "added", "convergence" or "rewind"; phase of a
        stretch; step_first, step_last and position_first, position_last; discarded: whether a rewind threw the stretch
        away; value: at a convergence the validation that was kept, in its metric's unit.
        Of a stretch the clocks are those of its first and last recorded update. A mark reaches from where it goes back
        to up to where it was made: a convergence from the best validation to the one that decided, a rewind from the
        checkpoint to where the run stood. A task's adding is a moment: the update after which it was made (0 before the
        first), and the position from which the task learns, after the rewind that may have come with it.

    Raises:
        FrameError: the source is no log.
    """
    log_only(log, needs="timeline", because="it draws on the steps and on the events")
    store = log._now()  # the stored columns: a frame of a row per step and task would cost far more than its changes
    table, T = store["steps"], len(store.info.tasks)
    step, position = table["step"], table["position"]
    gone = discarded(step, position, rewinds(store))
    parts = [_stretches(step, position, gone, table["phases"], T), _marks(log, step, position)]
    frame = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS})
    order = np.lexsort((frame["step_last"], frame["kind"] != 0, np.where(frame["task"] < 0, T, frame["task"])))
    frame = frame.iloc[order].reset_index(drop=True)
    kinds = pd.Index(["stretch", *MARKS], dtype="str")
    return frame.assign(
        task=categories(frame["task"].to_numpy(np.int16), log.names),
        kind=kinds.take(frame["kind"].to_numpy(np.intp)),
        phase=categories(frame["phase"].to_numpy(np.int8), PHASES),
    )


def _stretches(
    step: NDArray[np.int64], position: NDArray[np.int64], gone: NDArray[np.bool_], phases: NDArray[np.int8], T: int
) -> dict[str, NDArray[Any]]:
    """Return the stretches as columns, task by task; task, kind and phase as codes."""
    rows = len(step)
    changed, changing = np.divmod(np.flatnonzero(phases[1:] != phases[:-1]), T)  # few: only they are sorted
    all_at_once = np.flatnonzero((gone[1:] != gone[:-1]) | (position[1:] <= position[:-1]))
    every = np.concatenate([np.arange(min(rows, 1)), all_at_once + 1])
    begins = np.concatenate([changing * rows + changed + 1, (np.arange(T)[:, None] * rows + every).ravel()])
    task, first = np.divmod(np.unique(begins), max(rows, 1))
    last = np.append(first[1:], rows)[: len(first)] - 1
    last[last < first] = rows - 1  # the next stretch is another task's
    return {
        "task": task,
        "kind": np.zeros(len(task), np.int64),
        "phase": phases[first, task],
        "step_first": step[first],
        "step_last": step[last],
        "position_first": position[first],
        "position_last": position[last],
        "discarded": gone[first],
        "value": np.full(len(task), np.nan),
    }


def _marks(log: RunLog, step: NDArray[np.int64], position: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the marks as columns; what a loop of a user's own leaves out of a detail is taken from the steps."""
    events = log.events
    rows: list[tuple[Any, ...]] = []
    codes = events["task"].cat.codes.to_numpy()
    places = {name: code for code, name in enumerate(log.names)}
    event: Any  # a named tuple of the columns
    for event, code in zip(events.itertuples(), codes, strict=True):
        at, where, detail = int(event.step), int(event.position), event.detail
        past = np.searchsorted(step, at, side="right")
        if event.kind == "convergence" and code >= 0:
            back = (detail.get("best_step", at), detail.get("best_position", where))
            rows.append((code, 2, back[0], at, back[1], where, detail.get("best", np.nan)))
        elif event.kind == "rewind":
            stood = int(position[past - 1]) if past else where
            before = np.flatnonzero(position[:past] <= where)
            to = detail.get("step", int(step[before[-1]]) if len(before) else 0)
            tasks = [places[name] for name in detail.get("tasks", ()) if name in places]
            rows += [(task, 3, to, at, where, stood, np.nan) for task in tasks or [-1]]
        elif event.kind == "task_added" and code >= 0:
            rows.append((code, 1, at, at, where, where, np.nan))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    task, kind, first, last, from_, to_, value = columns
    whole = {"task": task, "kind": kind, "phase": [-1] * len(rows), "step_first": first, "step_last": last}
    whole |= {"position_first": from_, "position_last": to_}
    marks = {name: np.asarray(values, np.int64) for name, values in whole.items()}
    return marks | {"discarded": np.zeros(len(rows), bool), "value": np.asarray(value, np.float64)}
