"""How each task fares just now: means over the last recorded steps, at a cost that does not grow with the run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import log_only, mean
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog, derived

WINDOW = 100
"""Recorded steps that count as recent unless told otherwise."""


def recent(log: RunLog, *, window: int = WINDOW) -> pd.DataFrame:
    """Return a row per task of means over the last recorded steps, without those that a rewind discarded.

    Args:
        log: a RunLog.
        window: how many recorded steps.

    Returns:
        Columns task, steps (of the window, where the task is present), loss, weight, grad_norm, relative_rate, share
        (of the update) and conflict_rate (with the other tasks, 0 to 1); each the mean of the window's finite values,
        NaN where there is none.

    Raises:
        FrameError: the source is no log, or window < 1.
    """
    log_only(log, needs="recent", because="a share of the update takes the weights and the Gramian of a step")
    if isinstance(window, bool) or not isinstance(window, (int, np.integer)) or window < 1:
        raise FrameError(f"recent needs a window of at least 1 recorded step, but window is {window!r}.")
    now, T = log.snapshot(), len(log.names)
    rows = np.flatnonzero(~now.discarded)[-int(window) :]
    table = now._now()["steps"]
    losses, weights, upper = table["losses"][rows], table["weights"][rows], table["gramian"][rows]
    norms = derived.norms(upper, T)
    present = ~np.isnan(losses)
    return pd.DataFrame(
        {
            "task": pd.Categorical(log.names, categories=log.names, ordered=True),
            "steps": present.sum(axis=0),
            "loss": _mean(losses),
            "weight": _mean(np.where(present, weights, np.nan)),
            "grad_norm": _mean(norms),
            "relative_rate": _mean(derived.relative_rates(losses, norms, table["phases"][rows])),
            "share": _mean(derived.updates(weights, upper)[0]),
            "conflict_rate": _with_others(derived.conflicts(derived.dots(upper, T)), T),
        }
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each column's finite values, (n, T) -> (T,)."""
    known = np.isfinite(values)
    return mean(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _with_others(conflicts: NDArray[np.float64], T: int) -> NDArray[np.float64]:
    """Return each task's conflict rate over all pairs that it is in, (n, pairs) -> (T,)."""
    index = derived.triangle(T)
    found, counted = np.nansum(conflicts, axis=0), (~np.isnan(conflicts)).sum(axis=0)  # (pairs,) each
    total = np.bincount(index.a, found, minlength=T) + np.bincount(index.b, found, minlength=T)
    return mean(total, np.bincount(index.a, counted, minlength=T) + np.bincount(index.b, counted, minlength=T))
