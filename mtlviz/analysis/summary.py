"""One row per task and one row per run: what happened, in numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import POINTS, log_only, mean
from mtlviz.analysis.conflict import RATE_POINTS
from mtlviz.analysis.validation import judged
from mtlviz.runlog import PHASES, RunLog
from mtlviz.runlog.frames import categories


def task_table(log: RunLog, *, discarded: bool = False) -> pd.DataFrame:
    """Return a row per task: how well it does, how much it moves the trunk, and whether others stand in its way.

    Args:
        log: a RunLog.
        discarded: whether what a rewind discarded counts too.

    Returns:
        Columns task, metric, direction, final and best (validation, in the metric's unit), best_step, test (the metric
        on the test split: the last measure named "test"), loss (at its last step), share (mean share of the update),
        conflict_rate (with the other tasks, 0 to 1), relative_rate (mean L/‖g‖), samples (labelled samples, mean per
        step), train_samples, converged (the step of the validation that decided so, missing where it has not), phase
        (what it learned from in the last update) and monitored_on (the split that its validations were measured on:
        "validation", or another where it has none, so that what was chosen was judged by the same data). NaN where
        nothing was recorded.

    Raises:
        FrameError: the source is no log.
    """
    log_only(log, needs="task_table", because="it draws on every table")
    steps = log.thin(n=POINTS, table="steps")
    pairs = log.thin(n=RATE_POINTS, table="pairs")
    if not discarded:
        steps, pairs = steps[~steps["discarded"].to_numpy(bool)], pairs[~pairs["discarded"].to_numpy(bool)]
    table = pd.DataFrame(
        {
            "task": pd.Categorical(log.names, categories=log.names, ordered=True),
            "metric": [task.metric for task in log.tasks],
            "direction": [task.direction for task in log.tasks],
        }
    )
    table = table.join(_validated(log, discarded=discarded))
    return table.assign(
        test=_tested(log),
        loss=_last(steps, "loss", len(table)),
        share=_mean(steps, "share", len(table)),
        conflict_rate=_with_others(pairs, len(table)),
        relative_rate=_mean(steps, "relative_rate", len(table)),
        samples=_mean(steps, "samples", len(table)),
        train_samples=pd.array([task.samples.get("train") for task in log.tasks], dtype="Int64"),
        converged=_converged(log),
        phase=_phases(log),
        monitored_on=[dict(log.info.config.get("monitored_on") or {}).get(name, "validation") for name in log.names],
    )


def run_summary(log: RunLog) -> pd.DataFrame:
    """Return one row that says what the run is and how far it came.

    Returns:
        Columns problem, weighting and schedule (as configured, or ""), state, tasks, layers, steps (the last update's
        number), recorded (updates in the log), discarded (recorded updates that a rewind threw away), seconds,
        steps_per_second (over the whole run), validations, events and converged (how many tasks have).

    Raises:
        FrameError: the source is no log.
    """
    log_only(log, needs="run_summary", because="it draws on every table")
    totals = log.thin(n=POINTS, table="totals")
    thrown = totals.loc[totals["discarded"].to_numpy(bool), "learning_rate_count"].sum()
    recorded, seconds = len(log), float(log.time or 0.0)
    return pd.DataFrame(
        {
            "problem": [log.info.problem],
            "weighting": [str(log.info.config.get("weighting", ""))],
            "schedule": [str(dict(log.info.config.get("schedule") or {}).get("kind", ""))],
            "state": [log.state],
            "tasks": [len(log.tasks)],
            "layers": [len(log.info.layers)],
            "steps": [int(log.last_step or 0)],
            "recorded": [recorded],
            "discarded": [int(thrown)],
            "seconds": [seconds],
            "steps_per_second": [recorded / seconds if seconds > 0 else np.nan],
            "validations": [len(log.validations)],
            "events": [len(log.events)],
            "converged": [int((~_converged(log).isna()).sum())],
        }
    )


def _validated(log: RunLog, *, discarded: bool) -> pd.DataFrame:
    """Return final, best and best_step of each task, in the log's order."""
    frame, _ = judged(log)
    kept = frame if discarded else frame[~frame["discarded"].to_numpy(bool)]
    kept = kept[np.isfinite(kept["value"].to_numpy(np.float64))]
    final = kept.groupby("task", observed=True)["value"].last().reindex(log.names)
    if discarded:
        frame, _ = judged(
            log.validations.assign(discarded=False), directions={task.name: task.direction for task in log.tasks}
        )
    best = frame[frame["best"]].set_index("task").reindex(log.names)
    return pd.DataFrame(
        {
            "final": final.to_numpy(np.float64),
            "best": best["value"].to_numpy(np.float64),
            "best_step": pd.array(best["step"].to_numpy(np.float64), dtype="Int64"),
        }
    )


def _tested(log: RunLog) -> np.ndarray:
    """Return each task's last measure named "test", (T,), NaN where there is none."""
    measures = log.measures
    tests = measures[(measures["name"] == "test").to_numpy()].drop_duplicates("task", keep="last")
    return tests.set_index("task")["value"].reindex(log.names).to_numpy(np.float64)


def _converged(log: RunLog) -> pd.arrays.IntegerArray:
    """Return the step at which each task was found to have converged, (T,); the first, should a log name several."""
    events = log.events
    found = events[(events["kind"] == "convergence").to_numpy() & events["task"].notna().to_numpy()]
    steps = found.drop_duplicates("task").set_index("task")["step"].reindex(log.names)
    return pd.array(steps.to_numpy(np.float64), dtype="Int64")


def _phases(log: RunLog) -> pd.Categorical:
    """Return what each task learned from in the last recorded update, (T,); missing before the first."""
    phases = log._now()["steps"]["phases"]
    return categories(phases[-1] if len(phases) else np.full(len(log.names), -1, np.int8), PHASES)


def _sums(summary: pd.DataFrame, key: str, name: str, T: int) -> np.ndarray:
    """Return the sum of a column per task, (T,)."""
    return np.bincount(summary[key].cat.codes.to_numpy(), summary[name].to_numpy(np.float64), minlength=T)


def _mean(steps: pd.DataFrame, quantity: str, T: int) -> np.ndarray:
    return mean(_sums(steps, "task", f"{quantity}_sum", T), _sums(steps, "task", f"{quantity}_count", T))


def _last(steps: pd.DataFrame, quantity: str, T: int) -> np.ndarray:
    """Return each task's last value at a step where it is present, (T,)."""
    present = (
        steps[steps[f"{quantity}_count"].to_numpy() > 0]
        .sort_values("step_last", kind="stable")
        .drop_duplicates("task", keep="last")
    )
    last = np.full(T, np.nan)
    last[present["task"].cat.codes.to_numpy()] = present[f"{quantity}_last"].to_numpy(np.float64)
    return last


def _with_others(pairs: pd.DataFrame, T: int) -> np.ndarray:
    """Return each task's conflict rate over all pairs that it is in, (T,)."""
    keys = ("task_a", "task_b")
    conflicts = np.sum([_sums(pairs, key, "conflict_sum", T) for key in keys], axis=0)
    return mean(conflicts, np.sum([_sums(pairs, key, "conflict_count", T) for key in keys], axis=0))
