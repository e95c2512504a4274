"""Where an analysis reads from: a log's incremental summaries, or the same summaries of a stored frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog

POINTS = 200
"""At most so many buckets a curve unless told otherwise: so few that the means are smooth in a run of any length."""

KEYS: dict[str, tuple[str, ...]] = {
    "steps": ("task",),
    "pairs": ("task_a", "task_b"),
    "layers": ("layer", "task_a", "task_b"),
    "validations": ("task",),
}
CLOCKS = ("step", "discarded")

Source = RunLog | pd.DataFrame


def summaries(source: Source, table: str, quantities: Sequence[str], *, n: int, needs: str) -> pd.DataFrame:
    """Return a row per bucket and key with `q_min`, `q_max`, `q_sum` and `q_count` of each quantity q.

    A log gives its incremental summaries, whose cost does not grow with the run. A frame as `log.steps`, `log.pairs`
    or `log.layers` shows it (for instance read back from Parquet) is summarised here.

    Raises:
        FrameError: n < 1, or the source is neither, or the frame lacks a column; `needs` names the analysis.
    """
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise FrameError(f"{needs} needs a number of points n of at least 1, but n is {n!r}.")
    if isinstance(source, RunLog):
        return source.thin(n=int(n), table=table)
    frame = checked(source, (*CLOCKS, *KEYS[table], *quantities), needs=needs, table=table)
    return summarised(frame, KEYS[table], quantities, n=int(n))


def checked(source: Any, columns: Sequence[str], *, needs: str, table: str) -> pd.DataFrame:
    """Return the source if it is a frame that has the columns, its tasks and layers as ordered categoricals.

    A CSV file keeps no categories; names then come in the order in which they first stand in the frame, which is the
    log's own where the frame is.

    Raises:
        FrameError: what `needs` needed and what came instead, or a name is missing.
    """
    if not isinstance(source, pd.DataFrame):
        way_out = (
            " Open the path with mv.RunLog.open."
            if isinstance(source, (str, bytes)) or hasattr(source, "__fspath__")
            else ""
        )
        raise FrameError(
            f"{needs} needs a RunLog or a frame like log.{table}, but got {type(source).__name__}.{way_out}"
        )
    missing = [column for column in columns if column not in source.columns]
    if missing:
        raise FrameError(
            f"{needs} needs a frame like log.{table} with the columns {', '.join(columns)}; "
            f"missing: {', '.join(missing)}; got: {', '.join(map(str, source.columns)) or 'no column'}."
        )
    tasks = [key for key in KEYS[table] if key.startswith("task")]
    return source.assign(**_ordered(source, tasks, needs), **_ordered(source, set(KEYS[table]) - set(tasks), needs))


def _ordered(frame: pd.DataFrame, keys: Collection[str], needs: str) -> dict[str, pd.Series]:
    """Return the columns of the keys as ordered categoricals of one order."""
    known: dict[Any, None] = {}
    for key in keys:
        column = frame[key]
        if column.isna().any():
            raise FrameError(
                f"{needs} needs a name in every row of {key}, but some are missing. pandas reads names such as NA as "
                "missing: read the file with keep_default_na=False and na_values=['']."
            )
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        known |= dict.fromkeys(column.cat.categories if categorical else column.unique())
    order = pd.CategoricalDtype(list(known), ordered=True)
    return {key: frame[key].astype(order) for key in keys}


def log_only(source: Any, *, needs: str, because: str) -> RunLog:
    """Return the source if it is a log.

    Raises:
        FrameError: it is not; `because` says what a frame alone lacks.
    """
    if not isinstance(source, RunLog):
        raise FrameError(f"{needs} needs a RunLog, because {because}; got {type(source).__name__}.")
    return source


def summarised(frame: pd.DataFrame, keys: Sequence[str], quantities: Sequence[str], *, n: int) -> pd.DataFrame:
    """Return the summaries of a frame in at most n buckets (but one per stretch, where rewinds left more than n)."""
    clocks = frame.drop_duplicates("step").sort_values("step")
    steps, bucket = clocks["step"].to_numpy(), bucket_numbers(clocks["discarded"].to_numpy(bool), n)
    edges = pd.DataFrame({"step": steps, "discarded": clocks["discarded"].to_numpy(bool), "bucket": bucket})
    edges = edges.groupby("bucket").agg(
        step_first=("step", "first"), step_last=("step", "last"), discarded=("discarded", "first")
    )
    numbers = {q: finite(frame[q]) for q in quantities}
    grouped = (
        frame[list(keys)]
        .assign(bucket=bucket[np.searchsorted(steps, frame["step"].to_numpy())], **numbers)
        .groupby(["bucket", *keys], observed=True)
    )
    parts = []
    for q in quantities:
        part = grouped[q].agg(["min", "max", "sum", "count"])
        parts.append(part.rename(columns={name: f"{q}_{name}" for name in part.columns}))
    return edges.join(pd.concat(parts, axis=1).reset_index(list(keys)), how="right").reset_index(drop=True)


def bucket_numbers(discarded: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Return each row's bucket, evenly filled, and none on both sides of a border of `discarded`."""
    if not len(discarded):
        return np.empty(0, np.int64)
    run = np.concatenate([[0], np.cumsum(discarded[1:] != discarded[:-1])])
    lengths = np.bincount(run)
    size = -(-len(discarded) // n)
    while size < len(discarded) and int(np.sum(-(-lengths // size))) > n:
        size += 1 + size // 64  # fine enough to stay close to n, coarse enough to end soon
    counts = -(-lengths // size)  # buckets of each run
    within = np.arange(len(run)) - np.concatenate([[0], np.cumsum(lengths)[:-1]])[run]
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return (offsets[run] + within * counts[run] // lengths[run]).astype(np.int64)


def finite(column: pd.Series) -> NDArray[np.float64]:
    """Return a column as float64 with NaN wherever it is not a finite number."""
    values = (
        column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        if column.dtype == "boolean"
        else column.to_numpy(np.float64)
    )
    return np.where(np.isfinite(values), values, np.nan)


def mean(total: pd.Series | NDArray[Any], count: pd.Series | NDArray[Any]) -> NDArray[np.float64]:
    """Return total / count, NaN where nothing was counted."""
    totals, counts = np.asarray(total, np.float64), np.asarray(count, np.float64)
    return np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)


def placed(summary: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return the columns that place a bucket: step (its middle), step_first, step_last, discarded, then the keys."""
    first, last = summary["step_first"].to_numpy(), summary["step_last"].to_numpy()
    where = {"step": (first + last) / 2.0, "step_first": first, "step_last": last}
    return pd.DataFrame(where).assign(
        discarded=summary["discarded"].to_numpy(bool), **{key: summary[key].array for key in keys}
    )
