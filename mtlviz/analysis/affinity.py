"""Inter-task affinity: by which part of itself the loss of a task falls after a step along another's gradient alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import POINTS, Source, finite, mean, placed, summarised
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog

KEYS = ("source", "target")
COLUMNS = ("step", "name", "task", "other", "value")


def affinity(source: Source, *, last: int | None = None) -> pd.DataFrame:
    """Return how much a step along each task's gradient lowers each task's loss, averaged over the run.

    It is 1 − (loss of the target after the step) ÷ (loss before), on the same batch: above 0 the source helps the
    target, below 0 it hinders it. Training measures it with `affinity_every`.

    Args:
        source: a RunLog, or a frame like `log.measures`, in which every row counts unless a column `discarded` says
            otherwise.
        last: average over so many of the steps that were measured, the newest; None over all. What a rewind discarded
            does not count.

    Returns:
        T×T rows, diagonal included: source, target, affinity (a part of the target's loss, so 0.01 is 1 %; NaN where it
        was never defined) and steps (how many the mean is of). No row where nothing was measured.

    Raises:
        FrameError: the source is neither a log nor such a frame, or last < 1.
    """
    if last is not None and (isinstance(last, bool) or not isinstance(last, (int, np.integer)) or last < 1):
        raise FrameError(f"affinity needs last, a whole number of measured steps from 1, or None; got {last!r}.")
    if last is None:
        summary = _summary(source, n=POINTS, needs="affinity")
        return _square(summary[~summary["discarded"].to_numpy(bool)])
    rows = _of_log(source.snapshot()) if isinstance(source, RunLog) else _checked(source, needs="affinity")
    rows = rows[~rows["discarded"].to_numpy(bool)]
    rows = rows[rows["step"].isin(np.unique(rows["step"])[-int(last) :])]
    values = finite(rows["affinity"])
    counted = np.isfinite(values)
    return _square(rows.assign(affinity_sum=np.where(counted, values, 0.0), affinity_count=counted))


def measures_affinity(log: RunLog) -> bool:
    """Whether a run measures affinity as it trains, or its log holds some."""
    return bool(log.info.config.get("affinity_every")) or len(log.affinities[0]) > 0


def affinity_curves(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return the affinity of every ordered pair over the steps.

    Args:
        source: as for `affinity`.
        n: at most so many points a pair.

    Returns:
        Columns step, step_first, step_last, discarded, source, target, affinity (mean over the bucket) and steps.

    Raises:
        FrameError: the source is neither a log nor such a frame, or n < 1.
    """
    summary = _summary(source, n=n, needs="affinity_curves")
    return placed(summary, KEYS).assign(
        affinity=mean(summary["affinity_sum"], summary["affinity_count"]),
        steps=summary["affinity_count"].to_numpy(np.int64),
    )


def _summary(source: Source, *, n: int, needs: str) -> pd.DataFrame:
    """Return a row per bucket, source and target with `affinity_sum` and `affinity_count`."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise FrameError(f"{needs} needs a number of points n of at least 1, but n is {n!r}.")
    if isinstance(source, RunLog):
        return source.thin(n=int(n), table="affinity")
    return summarised(_checked(source, needs=needs), KEYS, ("affinity",), n=int(n))


def _of_log(log: RunLog) -> pd.DataFrame:
    """Return step, discarded, source, target and affinity of every measured step and pair."""
    steps, values = log.affinities
    T, names = len(log.names), pd.CategoricalDtype(list(log.names), ordered=True)
    place = np.searchsorted(log.recorded_steps, steps)
    first, second = np.divmod(np.arange(T * T), max(T, 1))
    return pd.DataFrame(
        {
            "step": np.repeat(steps, T * T),
            "discarded": np.repeat(log.discarded[place], T * T),
            "source": pd.Categorical.from_codes(np.tile(first, len(steps)), dtype=names),
            "target": pd.Categorical.from_codes(np.tile(second, len(steps)), dtype=names),
            "affinity": values.ravel(),
        }
    )


def _checked(frame: object, *, needs: str) -> pd.DataFrame:
    """Return the same of a frame of measures."""
    if not isinstance(frame, pd.DataFrame):
        path = isinstance(frame, (str, bytes)) or hasattr(frame, "__fspath__")
        way_out = " Open the path with mv.RunLog.open." if path else ""
        raise FrameError(
            f"{needs} needs a RunLog or a frame like log.measures, but got {type(frame).__name__}.{way_out}"
        )
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        got = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(f"{needs} needs a frame like log.measures; missing: {', '.join(missing)}; got: {got}.")
    own = (frame["name"] == "affinity") & frame["task"].notna() & frame["other"].notna()
    if "layer" in frame.columns:
        own &= frame["layer"].isna()
    rows = frame[own.to_numpy(bool)]
    known: dict[object, None] = {}
    for name in ("task", "other"):
        categorical = isinstance(frame[name].dtype, pd.CategoricalDtype)
        known |= dict.fromkeys(frame[name].cat.categories if categorical else rows[name].unique())
    names = pd.CategoricalDtype(list(known), ordered=True)
    return pd.DataFrame(
        {
            "step": rows["step"].to_numpy(np.int64),
            "discarded": rows["discarded"].to_numpy(bool) if "discarded" in frame.columns else False,
            "source": rows["task"].astype(names).array,
            "target": rows["other"].astype(names).array,
            "affinity": rows["value"].to_numpy(np.float64),
        }
    )


def _square(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the T×T long frame of sums and counts."""
    tasks = summary["source"].cat.categories
    T = len(tasks)
    at = summary["source"].cat.codes.to_numpy(), summary["target"].cat.codes.to_numpy()
    total, count = np.zeros((T, T)), np.zeros((T, T))
    np.add.at(total, at, summary["affinity_sum"].to_numpy(np.float64))
    np.add.at(count, at, summary["affinity_count"].to_numpy(np.float64))
    row, column = np.divmod(np.arange(T * T if len(summary) else 0), max(T, 1))
    return pd.DataFrame(
        {
            "source": pd.Categorical.from_codes(row, categories=tasks, ordered=True),
            "target": pd.Categorical.from_codes(column, categories=tasks, ordered=True),
            "affinity": mean(total, count).ravel()[: len(row)],
            "steps": count.ravel()[: len(row)].astype(np.int64),
        }
    )
