"""When tasks converged, by a run's own rule, and when they would have by another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import Source, finite, log_only
from mtlviz.analysis.validation import judged, waiting_schedule
from mtlviz.convergence import Convergence, Rule
from mtlviz.errors import FrameError
from mtlviz.runlog import Event, RunLog, TaskInfo


def replay_events(log: RunLog) -> pd.DataFrame:
    """Return the events that the rule of convergence says of a stored run, by the run's own settings.

    They are the rows of `log.events` of the kinds convergence, rewind, distillation, task_added and step_cap, worked
    out again from the stored validations alone: a check of the run, and of a log whose events were lost. Where the run
    has not finished, or its end was lost, a last round of validations that lacks some of the tasks is left out: nothing
    was decided there yet. What follows from a whole one is there before the run itself has said it.

    Args:
        log: a RunLog whose configuration has a "schedule".

    Returns:
        The columns step, position, task, kind and detail of `log.events`, in the same order.

    Raises:
        FrameError: the source is no log, or the run had no schedule that waits for convergence.
    """
    now = log_only(log, needs="replay_events", because="the rule needs the run's own settings").snapshot()
    schedule = waiting_schedule(now)
    if schedule is None:
        raise FrameError(
            "replay_events needs the log of a run with a schedule that waits for convergence, such as "
            "mv.training.Joint; this run's configuration has none. analysis.convergence(log, patience=...) asks any "
            "run when its tasks would have converged."
        )
    follows = Convergence(Rule.from_config(schedule, now.tasks))
    signals = follows.begin()
    ended = now.events[(now.events["kind"] == "finish").to_numpy()]
    rounds = list(_rounds(now.validations))
    if not len(ended) and rounds and any(rounds[-1][1].keys() < values.keys() for _, values in rounds[:-1]):
        del rounds[-1]
    for (step, position), values in rounds:
        signals += follows.validation(step, position, values)
    if len(ended):
        signals += follows.end(int(ended["step"].iloc[-1]), int(ended["position"].iloc[-1]))
    said = RunLog.create(None, now.info)
    for signal in signals:
        said.append(Event(*signal))
    return said.events


def _rounds(validations: pd.DataFrame) -> Iterable[tuple[tuple[int, int], dict[str, float]]]:
    """Yield step and position of each round of validations, and what it measured; the step alone tells rounds apart."""
    steps = validations["step"].to_numpy()
    positions, tasks = validations["position"].to_numpy(), validations["task"].astype(object).to_numpy()
    values = validations["value"].to_numpy(np.float64)
    for rows in np.split(np.arange(len(steps)), np.flatnonzero(np.diff(steps)) + 1):
        if len(rows):
            measured = dict(zip(tasks[rows].tolist(), values[rows].tolist(), strict=True))
            yield (int(steps[rows[0]]), int(positions[rows[0]])), measured


def convergence(
    source: Source,
    *,
    patience: int | Iterable[int] | Mapping[str, int],
    directions: Mapping[str, str] | None = None,
    min_delta: float | Mapping[str, float] = 0.0,
) -> pd.DataFrame:
    """Return when each task would have converged, had it been watched with one patience or another. Counterfactual.

    Each task is asked for itself, on its surviving curve: after how many validations without a better one it would have
    been stopped, which of its validations would have been kept, and what it has lost since. In the run itself
    nothing was stopped then (or by another rule), and had it been, the other tasks would have gone on without it: the
    curves from there on would be others.

    Args:
        source: a RunLog, or a frame with the columns step, task, metric and value; also of a user's own loop. Where
            it has `discarded`, what a rewind threw away does not count.
        patience: validations without improvement, from 1: one for all tasks, several to compare, or one for each task.
        directions: for a frame, "max" or "min" of each task: which way its metric gets better. A log knows.
        min_delta: by how much, in the metric's unit, a validation must be better to count; one or one for each task.

    Returns:
        A row per task and patience: task, metric, direction, patience, converged, step (of the validation that would
        have decided it; missing where none would), best_step and best (the validation that would have been kept; the
        best so far where the task would not have converged), final_step and final (its last finite validation),
        lost (best − final, the other way round where less is better: above 0 where going on made it worse, below 0
        where stopping would have missed something) and counterfactual, True.

    Raises:
        FrameError: a column or a direction is missing, or a task was measured by several metrics.
        ValueError: a patience or a min_delta that cannot be used.

    Source: Lu et al., NAACL 2022 industry track, section 3 (the rule).
    """
    if isinstance(source, pd.DataFrame) and "discarded" not in source.columns:
        source = source.assign(discarded=False)
    frame, ways = judged(source, directions=directions, needs="convergence")
    frame = frame[~frame["discarded"].to_numpy(bool)].sort_values("step", kind="stable")
    tasks = frame["task"].cat.categories
    each = _patiences(patience, [str(task) for task in tasks])
    delta = dict(min_delta) if isinstance(min_delta, Mapping) else dict.fromkeys(tasks, min_delta)
    if missing := [task for task in tasks if task not in delta]:
        raise ValueError(f"min_delta needs a number for every task; missing: {', '.join(missing)}")
    rows = []
    for task, curve in frame.groupby("task", observed=True, sort=True):
        metrics = curve["metric"].unique()
        if len(metrics) > 1:
            raise FrameError(
                f"convergence needs one metric a task; {task} was measured by {', '.join(map(str, metrics))}. "
                "Choose one: frame[frame.metric == ...]."
            )
        info = TaskInfo(str(task), str(metrics[0]), ways[str(task)])
        rows += [_stopped(info, curve, n, delta[str(task)]) for n in each[str(task)]]
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)
    return table.assign(
        task=pd.Categorical(table["task"], categories=tasks, ordered=True), counterfactual=np.ones(len(table), bool)
    )


_COLUMNS = {
    "task": "object",
    "metric": "str",
    "direction": "str",
    "patience": "int64",
    "converged": "bool",
    "step": "Int64",
    "best_step": "Int64",
    "best": "float64",
    "final_step": "Int64",
    "final": "float64",
    "lost": "float64",
}


def _patiences(patience: int | Iterable[int] | Mapping[str, int], tasks: list[str]) -> dict[str, list[int]]:
    """Return the patiences to ask each task with."""
    if isinstance(patience, Mapping):
        if missing := [task for task in tasks if task not in patience]:
            raise ValueError(f"patience needs a number for every task; missing: {', '.join(missing)}")
        return {task: [_whole(patience[task])] for task in tasks}
    several = [_whole(n) for n in patience] if isinstance(patience, Iterable) else [_whole(patience)]
    return dict.fromkeys(tasks, several)


def _whole(patience: Any) -> int:
    """Return a patience as a plain int, also where numpy counted it; the rule refuses what is no patience."""
    try:
        return patience if isinstance(patience, bool) else index(patience)
    except TypeError as error:
        raise ValueError(f"patience counts validations, a whole number from 1; it is {patience!r}") from error


def _stopped(task: TaskInfo, curve: pd.DataFrame, patience: int, min_delta: float) -> tuple[object, ...]:
    """Return one row: where the rule would have stopped a task on its own curve, and what came after."""
    steps, values = curve["step"].tolist(), finite(curve["value"])
    rule = Rule.of([task], patience=patience, min_delta=min_delta)
    best, best_step, waited, decided = None, None, 0, None
    for step, value in zip(steps, values.tolist(), strict=True):
        if rule.improves(task.name, value, best):
            best, best_step, waited = value, step, 0
        elif best is not None:
            waited += 1
            if waited >= patience:
                decided = step
                break
    known = np.flatnonzero(np.isfinite(values))
    final_step, final = (steps[known[-1]], values[known[-1]]) if len(known) else (None, np.nan)
    kept = np.nan if best is None else best
    lost = kept - final if task.direction == "max" else final - kept
    where = (decided is not None, decided, best_step, kept, final_step, final, lost)
    return task.name, task.metric, task.direction, patience, *where
