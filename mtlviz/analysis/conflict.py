"""Conflict between tasks (⟨g_a, g_b⟩ < 0): between pairs, over time, and by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import Source, finite, mean, placed, summaries
from mtlviz.analysis.pairs import pairs_at
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog

RATE_POINTS = 100
"""Buckets of a conflict rate: a rate over fewer steps than a hundredth of the run says little."""

LAYER_POINTS = 60


def conflict_matrix(source: Source, *, step: int | None = None, window: int | None = None) -> pd.DataFrame:
    """Return the cosines between all tasks' gradients, at one recorded step or averaged over many.

    Args:
        source: a RunLog, or a frame like `log.pairs`.
        step: a recorded step; None is the end of the run.
        window: average over so many recorded steps, `step` the last of them. Without window: the given step alone, or,
            without step too, the whole surviving run.

    Returns:
        T×T rows, diagonal included: task_a, task_b, cosine (mean over steps; NaN where never defined), conflict_rate
        (share of the steps with both tasks present where they conflict), count (those steps), step_first and step_last
        (of what was averaged). The diagonal has cosine 1, conflict rate 0 and count 0: a task never meets itself.

    Raises:
        FrameError: the step was not recorded, window < 1, or the source is neither a log nor a frame of pairs.
    """
    if step is None and window is None:
        summary = summaries(source, "pairs", ("cosine", "conflict"), n=RATE_POINTS, needs="conflict_matrix")
        summary = summary[~summary["discarded"].to_numpy(bool)]
    else:
        pairs = pairs_at(source, step=step, window=window, needs="conflict_matrix")
        summary = pairs[["task_a", "task_b"]].assign(step_first=pairs["step"], step_last=pairs["step"])
        for quantity in ("cosine", "conflict"):
            values = finite(pairs[quantity])
            counted = np.isfinite(values)
            summary[f"{quantity}_sum"], summary[f"{quantity}_count"] = np.where(counted, values, 0.0), counted
    return _square(summary)


def _square(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the T×T long frame of the summed buckets of the pairs."""
    tasks = summary["task_a"].cat.categories
    T = len(tasks)
    a, b = summary["task_a"].cat.codes.to_numpy(), summary["task_b"].cat.codes.to_numpy()
    sums = {}
    for name in ("cosine_sum", "cosine_count", "conflict_sum", "conflict_count"):
        total = np.zeros((T, T))
        np.add.at(total, (a, b), summary[name].to_numpy(np.float64))
        sums[name] = total + total.T  # pairs are stored once, a before b
    cosine = mean(sums["cosine_sum"], sums["cosine_count"])
    rate = mean(sums["conflict_sum"], sums["conflict_count"])
    np.fill_diagonal(cosine, 1.0)
    np.fill_diagonal(rate, 0.0)
    row, column = np.divmod(np.arange(T * T), max(T, 1))
    return pd.DataFrame(
        {
            "task_a": pd.Categorical.from_codes(row, categories=tasks, ordered=True),
            "task_b": pd.Categorical.from_codes(column, categories=tasks, ordered=True),
            "cosine": cosine.ravel(),
            "conflict_rate": rate.ravel(),
            "count": sums["conflict_count"].ravel().astype(np.int64),
            "step_first": summary["step_first"].min() if len(summary) else pd.NA,
            "step_last": summary["step_last"].max() if len(summary) else pd.NA,
        }
    ).astype({"step_first": "Int64", "step_last": "Int64"})


def conflict_rate(source: Source, *, n: int = RATE_POINTS) -> pd.DataFrame:
    """Return how often gradients conflict over the steps: all pairs together, each task with the others, each pair.

    Args:
        source: a RunLog, or a frame like `log.pairs`.
        n: at most so many points a line.

    Returns:
        Columns step, step_first, step_last, discarded, of ("all", "task" or "pair"), task_a, task_b (both missing for
        "all", task_b missing for "task"), conflict_rate (0 to 1: conflicts ÷ count) and count (pairs of present tasks,
        over the bucket's steps).

    Raises:
        FrameError: the source is neither, or n < 1.
    """
    summary = summaries(source, "pairs", ("conflict",), n=n, needs="conflict_rate")
    tasks = summary["task_a"].cat.categories
    buckets = summary.drop_duplicates("step_first")
    bucket = np.searchsorted(buckets["step_first"].to_numpy(), summary["step_first"].to_numpy())
    codes = {key: summary[key].cat.codes.to_numpy() for key in ("task_a", "task_b")}
    values = [summary[name].to_numpy(np.float64) for name in ("conflict_sum", "conflict_count")]
    shape = (len(buckets), len(tasks))
    whole, by_task = [], []
    for value in values:
        whole.append(np.bincount(bucket, value, minlength=len(buckets)))
        table = np.zeros(shape)
        for code in codes.values():
            np.add.at(table, (bucket, code), value)
        by_task.append(table)
    place = placed(buckets)
    missing = np.full(len(buckets), -1)
    each = np.tile(np.arange(len(tasks)), len(buckets))
    parts = [
        _rates(place, "all", tasks, missing, missing, *whole),
        _rates(
            place.loc[place.index.repeat(len(tasks))],
            "task",
            tasks,
            each,
            np.full(each.shape, -1),
            *(table.ravel() for table in by_task),
        ),
        _rates(placed(summary), "pair", tasks, codes["task_a"], codes["task_b"], *values),
    ]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _rates(
    place: pd.DataFrame,
    of: str,
    tasks: pd.Index,
    a: np.ndarray,
    b: np.ndarray,
    conflicts: np.ndarray,
    count: np.ndarray,
) -> pd.DataFrame:
    """Return one kind of rows of `conflict_rate`; the code -1 is a missing task."""
    return place.assign(
        of=pd.Categorical([of] * len(place), categories=["all", "task", "pair"], ordered=True),
        task_a=pd.Categorical.from_codes(a, categories=tasks, ordered=True),
        task_b=pd.Categorical.from_codes(b, categories=tasks, ordered=True),
        conflict_rate=mean(conflicts, count),
        count=count.astype(np.int64),
    )


def layer_conflict(source: Source, *, pair: Sequence[str] | None = None, n: int = LAYER_POINTS) -> pd.DataFrame:
    """Return where in the trunk gradients conflict: the mean cosine and the conflict rate of each layer over the steps.

    Args:
        source: a RunLog whose training recorded layers, or a frame like `log.layers`.
        pair: two task names to look at; None takes all pairs together.
        n: at most so many buckets of steps.

    Returns:
        Columns step, step_first, step_last, discarded, layer (categorical, in the trunk's order), cosine (mean over
        pairs and steps), conflict_rate (0 to 1) and count. No row where no layers were recorded.

    Raises:
        FrameError: the pair is not two tasks of the log, the source is neither, or n < 1.
    """
    summary = summaries(source, "layers", ("cosine", "conflict"), n=n, needs="layer_conflict")
    if pair is not None:
        summary = summary[_is_pair(summary, pair)]
    layers = list(source.info.layers) if isinstance(source, RunLog) else list(summary["layer"].drop_duplicates())
    keys = ["step_first", "step_last", "discarded", "layer"]
    sums = ["cosine_sum", "cosine_count", "conflict_sum", "conflict_count"]
    summary = summary[keys + sums].astype({"layer": pd.CategoricalDtype(layers, ordered=True)})
    grouped = summary.groupby(keys, observed=True, sort=True)[sums].sum().reset_index()
    return placed(grouped, ("layer",)).assign(
        cosine=mean(grouped["cosine_sum"], grouped["cosine_count"]),
        conflict_rate=mean(grouped["conflict_sum"], grouped["conflict_count"]),
        count=grouped["conflict_count"].to_numpy(np.int64),
    )


def _is_pair(summary: pd.DataFrame, pair: Sequence[str]) -> np.ndarray:
    tasks = list(summary["task_a"].cat.categories)
    if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1] or any(name not in tasks for name in pair):
        raise FrameError(f"layer_conflict needs a pair of two different tasks out of {tasks}, but pair is {pair!r}.")
    a, b = sorted(pair, key=tasks.index)
    return ((summary["task_a"] == a) & (summary["task_b"] == b)).to_numpy()
