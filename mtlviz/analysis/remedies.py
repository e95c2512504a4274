"""What a remedy changes in each task: before and after on the same seeds, and what the interval decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from mtlviz.analysis.scores import numbers_of
from mtlviz.errors import FrameError, unknown
from mtlviz.intervals import paired

NEEDED = ("method", "seed", "task", "metric", "direction")
CHANGES = [
    *("remedy", "versus", "task", "metric", "direction", "seeds", "before", "after", "gain", "low", "high", "verdict"),
    "failed",
]


def remedy_changes(
    frame: pd.DataFrame,
    versus: str | Mapping[str, str] | None = None,
    *,
    confidence: float = 0.95,
    on: Literal["value", "test"] = "value",
) -> pd.DataFrame:
    """Return what each remedy changes in each metric, over seeds.

    The differences are paired: two runs of one seed share what the seed decides, so that it cancels. The interval is
    Student's t over the seeds' differences, and it decides: "positive" where it lies above 0, "negative" where it lies
    below, else "undecided", as with fewer than two seeds, or where all differ by the very same and are too few for a
    sign test. Each is for itself: of n remedies that change nothing about
    n (1 − confidence) get a verdict all the same.

    Args:
        frame: as `mv.experiments.remedies` or `label_noise` returns it; or, with `versus`, as `compare` does.
        versus: the method that all others are measured against, or {method: the one that it is measured against};
            None for what the frame's column `versus` says, where "" and what is missing is none.
        confidence: of the two-sided intervals.
        on: "value" (on the validation split) or "test".

    Returns:
        A row per remedy and metric, in the frame's order: remedy, versus (what it is measured against), task, metric,
        direction, seeds (with both runs), before and after (means over those), gain (> 0: better with the remedy, in
        the metric's own unit), low, high (NaN for a single seed), verdict, and failed (seeds that are missing since a
        run failed or has no value). The gain is NaN where no seed counts.

    Raises:
        FrameError: a column is missing, a row stands twice, `select` differs, a direction is neither "max" nor "min",
            `versus` names a method that is not there or nothing is left to measure. ValueError: a confidence outside
            (0, 1).
    """
    if on not in ("value", "test"):
        raise FrameError(f"remedy_changes is on='value' or on='test', not {on!r}.")
    rows = _checked(frame, on)
    found = []
    for remedy, other in _pairs(rows, versus).items():
        for (task, metric), own in rows[rows["method"] == remedy].groupby(["task", "metric"], sort=False):
            of = (rows["method"] == other) & (rows["task"] == task) & (rows["metric"] == metric)
            both = pd.concat([rows[of].set_index("seed")[on], own.set_index("seed")[on]], axis=1).to_numpy(np.float64)
            counted = both[np.isfinite(both).all(axis=1)]
            better = 1.0 if own["direction"].iloc[0] == "max" else -1.0
            gain, low, high, verdict = paired(better * (counted[:, 1] - counted[:, 0]), confidence)
            before, after = counted.mean(axis=0) if len(counted) else (np.nan, np.nan)
            found.append(
                {
                    "remedy": remedy,
                    "versus": other,
                    "task": task,
                    "metric": metric,
                    "direction": own["direction"].iloc[0],
                    "seeds": len(counted),
                    "before": before,
                    "after": after,
                    "gain": gain,
                    "low": low,
                    "high": high,
                    "verdict": verdict,
                    "failed": len(both) - len(counted),
                }
            )
    return pd.DataFrame(found)[CHANGES]


def _pairs(rows: pd.DataFrame, versus: str | Mapping[str, str] | None) -> dict[str, str]:
    """What each remedy is measured against. Raises: FrameError for a method that is not there, or for no pair."""
    methods = list(rows["method"].unique())
    if versus is None:
        if "versus" not in rows.columns:
            raise FrameError(f"remedy_changes needs versus=, what to measure against; the methods are {methods}.")
        told = rows[["method", "versus"]].drop_duplicates()
        pairs = {method: other for method, other in told.itertuples(index=False) if other and pd.notna(other)}
    elif isinstance(versus, Mapping):
        pairs = dict(versus)
    else:
        pairs = {method: versus for method in methods if method != versus}
        if versus not in methods:
            raise FrameError(f"remedy_changes: {unknown('method', versus, methods)}.")
    for name in (*pairs, *pairs.values()):
        if name not in methods:
            raise FrameError(f"remedy_changes: {unknown('method', name, methods)}.")
    if not pairs:
        raise FrameError(f"remedy_changes needs a remedy beside what it is measured against; there is only {methods}.")
    return pairs


def _checked(frame: Any, on: str) -> pd.DataFrame:
    """The rows, with names as texts and what is not finite as NaN. Raises: FrameError, see `remedy_changes`."""
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(
            f"remedy_changes needs a frame as mv.experiments.remedies returns it, got {type(frame).__name__}."
        )
    if missing := [column for column in (*NEEDED, on) if column not in frame.columns]:
        came = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(
            f"remedy_changes needs {', '.join((*NEEDED, on))}; missing: {', '.join(missing)}; got: {came}."
        )
    if not len(frame):
        raise FrameError("remedy_changes needs at least one row; the frame has none.")
    if "select" in frame.columns and frame["select"].nunique(dropna=False) > 1:
        mixed = ", ".join(map(repr, frame["select"].unique()))
        raise FrameError(f"remedy_changes needs rows of one `select`; the frame mixes {mixed}. Take those of one.")
    texts = [name for name in ("method", "task", "metric", "direction", "versus") if name in frame.columns]
    rows = frame[[*dict.fromkeys((*texts, "seed", on))]].astype(dict.fromkeys(texts, object))
    rows = rows.assign(**{on: numbers_of(rows[on], "remedy_changes")})
    if wrong := sorted(set(map(str, rows["direction"])) - {"max", "min"}):
        raise FrameError(f"remedy_changes needs the direction 'max' or 'min', not {', '.join(map(repr, wrong))}.")
    if rows.duplicated(["method", "seed", "task", "metric"]).any():
        raise FrameError("remedy_changes needs one row per method, seed, task and metric; some stand twice.")
    return rows
