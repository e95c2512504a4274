"""What each task gains by the tasks that train beside it, with intervals over seeds, and what they decide."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from mtlviz.analysis.scores import numbers_of, one_metric
from mtlviz.errors import FrameError
from mtlviz.intervals import paired

ALL = "all"
"""The source of a task that trains with all others."""

NEEDS = "transfer_gains"
NEEDED = ("seed", "source", "task", "metric", "direction", "value")
GAINS = [
    *("source", "target", "metric", "direction", "seeds", "alone", "together", "gain", "low", "high", "verdict"),
    "failed",
]


def transfer_gains(
    runs: pd.DataFrame, *, confidence: float = 0.95, on: Literal["value", "test"] = "value"
) -> pd.DataFrame:
    """Return what each target task gains by each source: its metric together less its metric alone, over seeds.

    The differences are paired: the run with the source and the run alone of one seed share data, batches and initial
    parameters, so that what a seed does to both cancels. The interval is Student's t over the seeds' differences, and
    it decides: "positive" where it lies above 0, "negative" where it lies below, "undecided" where it holds 0, where
    fewer than two seeds count, or where all differ by the very same and are too few for a sign test. Every interval is
    for itself: among n pairs between which nothing is transferred about n (1 − confidence) get a verdict all the same;
    confidence = 1 − 0.05 / n makes that one in twenty for all together.

    Args:
        runs: as `mv.experiments.transfer_runs` returns it; some of its rows, as those of one task, will do. A source
            that is missing (NaN), as a CSV file that pandas reads has it, is "".
        confidence: of the two-sided intervals.
        on: "value" (on the validation split) or "test".

    Returns:
        A row per target and source, in the order of the tasks, "all" last: source, target, metric, direction, seeds
        (with both runs), alone and together (means over those), gain (> 0: the target is better with the source than
        alone; in the metric's own unit), low, high (NaN for a single seed), verdict, and failed (seeds that are
        missing since a run failed or has no value). The gain is NaN where no seed counts.

    Raises:
        FrameError: a column is missing, no task was trained alone or none with others, a row stands twice, `select`
        differs, a task has several metrics, a direction is neither "max" nor "min", or `on` is unknown or has no
        numbers. ValueError: a confidence
        outside (0, 1).
    """
    rows = _checked(runs, on)
    tasks = list(dict.fromkeys(rows["task"]))
    sources = [name for name in dict.fromkeys([*tasks, *rows["source"]]) if name not in ("", ALL)]
    numbers = rows.pivot(index="seed", columns=["source", "task"], values=on)  # a row per seed
    found = []
    for target in tasks:  # first, so that the targets stand in their own order
        for source in [*sources, ALL]:
            if (source, target) not in numbers.columns or ("", target) not in numbers.columns:
                continue
            of = rows[(rows["task"] == target).to_numpy()].iloc[0]
            pair = numbers[[("", target), (source, target)]]
            both = pair.to_numpy(np.float64)[_asked(rows, source, target, numbers.index)]
            counted = both[np.isfinite(both).all(axis=1)]
            better = 1.0 if of["direction"] == "max" else -1.0
            gain, low, high, verdict = paired(better * (counted[:, 1] - counted[:, 0]), confidence)
            alone, together = counted.mean(axis=0) if len(counted) else (np.nan, np.nan)
            found.append(
                {
                    "source": source,
                    "target": target,
                    "metric": of["metric"],
                    "direction": of["direction"],
                    "seeds": len(counted),
                    "alone": alone,
                    "together": together,
                    "gain": gain,
                    "low": low,
                    "high": high,
                    "verdict": verdict,
                    "failed": len(both) - len(counted),
                }
            )
    if not found:
        raise FrameError("transfer_gains needs tasks that were trained with others; the frame has each alone only.")
    return pd.DataFrame(found)[GAINS]


def transfer_matrix(gains: pd.DataFrame, *, value: str = "gain") -> pd.DataFrame:
    """Return gains as a matrix: a row per source, a column per target, NaN where a task would meet itself.

    Args:
        gains: as `transfer_gains` returns it.
        value: which column fills it, such as "gain", "verdict" or "seeds".

    Raises:
        FrameError: a column is missing, or a source and target stand twice.
    """
    if not isinstance(gains, pd.DataFrame) or (missing := [c for c in ("source", "target", value) if c not in gains]):
        came = f"missing: {', '.join(missing)}" if isinstance(gains, pd.DataFrame) else f"got {type(gains).__name__}"
        raise FrameError(f"transfer_matrix needs the frame that transfer_gains returns; {came}.")
    if gains.duplicated(["source", "target"]).any():
        raise FrameError("transfer_matrix needs each source and target once; some stand twice.")
    rows, columns = gains["source"].unique(), gains["target"].unique()
    order = [*(name for name in columns if name in rows), *(name for name in rows if name not in columns)]
    return gains.pivot(index="source", columns="target", values=value).reindex(index=order, columns=columns)


def _asked(rows: pd.DataFrame, source: str, target: str, seeds: pd.Index) -> Any:
    """Which seeds (n,) were to have the run with the source, or the one alone."""
    chosen = (rows["task"] == target) & rows["source"].isin(["", source])
    return seeds.isin(rows.loc[chosen, "seed"])


def _checked(runs: Any, on: str) -> pd.DataFrame:
    """The rows, with names as texts and what is not finite as NaN. Raises: FrameError, see `transfer_gains`."""
    if on not in ("value", "test"):
        raise FrameError(f"transfer_gains is on='value' or on='test', not {on!r}.")
    if not isinstance(runs, pd.DataFrame):
        raise FrameError(f"transfer_gains needs a frame as transfer_runs returns it, got {type(runs).__name__}.")
    if missing := [column for column in dict.fromkeys((*NEEDED, on)) if column not in runs.columns]:
        came = ", ".join(map(str, runs.columns)) or "no column"
        raise FrameError(
            f"transfer_gains needs the frame of transfer_runs; missing: {', '.join(missing)}; got: {came}."
        )
    if "select" in runs.columns and runs["select"].nunique(dropna=False) > 1:
        raise FrameError("transfer_gains needs rows of one `select`; the frame mixes several. Take those of one.")
    rows = runs[[*dict.fromkeys((*NEEDED, on))]].astype({"source": object, "task": object})
    rows = rows.assign(source=rows["source"].where(rows["source"].notna(), ""), **{on: numbers_of(rows[on], NEEDS)})
    if wrong := sorted(set(map(str, rows["direction"])) - {"max", "min"}):
        raise FrameError(f"transfer_gains needs the direction 'max' or 'min' in every row, not {wrong[0]!r}.")
    one_metric(rows, NEEDS)
    if rows.duplicated(["seed", "source", "task"]).any():
        first = rows[rows.duplicated(["seed", "source", "task"])].iloc[0]
        raise FrameError(
            f"transfer_gains needs a row per seed, source and task; {first['task']!r} with source {first['source']!r} "
            f"stands twice for seed {first['seed']}. Select the rows of one experiment."
        )
    if not (rows["source"] == "").any():
        raise FrameError("transfer_gains needs tasks that were trained alone (source ''); the frame has none.")
    if on == "test" and rows["test"].isna().all():
        raise FrameError(
            "transfer_gains has no test metric: give the problem test data, and take select='final', whose checkpoint "
            "alone is tested."
        )
    return rows
