"""What each task lost from its best validation to the end of its run, and whether that is more than noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.intervals import mean_interval

BOUND = 3.0  # standard deviations of one validation that a curve may lose by its noise alone
_NEEDED = (
    "method",
    "seed",
    "task",
    "metric",
    "direction",
    "best",
    "final",
    "noise",
    "test",
    "test_best",
    "converged_at",
)


def convergence_drops(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each method lost of each task from its best validation to its last: Lu et al.'s claim, tested.

    **Noise.** Validations wobble from one to the next also where nothing is learned or lost, and the best of many is
    the one that luck raised most: a curve that stays level loses something from best to last all the same. σ is the
    standard deviation of one validation about its curve (`noise` in the frame; `mtlviz.experiments.surviving.wobble`),
    as a root mean square over seeds, and the bound is 3 σ: level curves of 20 validations lose more than that, in the
    mean of three seeds, once in 20 times. A binomial standard error is not taken: best and last validation judge the
    same samples, so that most of it is in both.

    **Test.** The checkpoint that is best on validation is luck's choice on validation only: where a task is monitored
    on another split, its test metric at that checkpoint less the one at the end says without that bias what was lost.

    Args:
        frame: as `mv.experiments.convergence_study` returns it. "uniform (best)", which is no run, is left out.

    Returns:
        A row per method and task, in the frame's order: method, task, metric, seeds (with both validations), converged
        (in how many of them the task did), best, final (means over seeds, in the metric's unit), drop (mean of best −
        final, above 0 where the task got worse), drop_low and drop_high (its interval of 95 % over seeds, of Student's
        t; NaN for one), noise (3 σ; NaN where no curve is long enough to tell), more_than_noise (drop > noise), clear
        (the whole interval lies on that side; both missing where they cannot be told),
        test_drop, test_drop_low and test_drop_high (the same on the test split) and monitored_on.

    Raises:
        FrameError: a column is missing.
    """
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"convergence_drops needs the frame of a convergence study, got {type(frame).__name__}.")
    if missing := [column for column in _NEEDED if column not in frame.columns]:
        raise FrameError(f"convergence_drops needs the frame of a convergence study; missing: {', '.join(missing)}.")
    better = np.where(frame["direction"] == "max", 1.0, -1.0)
    rows = frame.assign(
        drop=better * (_numbers(frame, "best") - _numbers(frame, "final")),
        test_drop=better * (_numbers(frame, "test_best") - _numbers(frame, "test")),
    )
    if "is_run" in rows.columns:
        rows = rows[rows["is_run"].astype(bool)]
    keys = ["method", "task", "metric"]
    rows = rows.assign(**{key: rows[key].astype(object) for key in keys})
    told = [_told(group.iloc[0][keys].to_dict(), group) for _, group in rows.groupby(keys, sort=False)]
    table = pd.DataFrame(told, columns=[*keys, *_COLUMNS])
    return table.astype({"more_than_noise": "boolean", "clear": "boolean"})


_COLUMNS = (
    *("seeds", "converged", "best", "final", "drop", "drop_low", "drop_high", "noise", "more_than_noise", "clear"),
    *("test_drop", "test_drop_low", "test_drop_high", "monitored_on"),
)


def _told(names: dict[Any, Any], group: pd.DataFrame) -> dict[str, object]:
    """The row of a method and task."""
    known = group[np.isfinite(_numbers(group, "drop"))]
    drop, low, high = mean_interval(_numbers(known, "drop"))
    test, test_low, test_high = mean_interval(_numbers(known, "test_drop"))
    sigma = _numbers(known, "noise")
    sigma = sigma[np.isfinite(sigma)]
    noise = float(BOUND * np.sqrt(np.mean(sigma**2))) if len(sigma) else np.nan
    monitored = group["monitored_on"].iloc[0] if "monitored_on" in group.columns else "validation"
    return names | {
        "seeds": len(known),
        "converged": int(known["converged_at"].notna().sum()),
        "best": float(_numbers(known, "best").mean()) if len(known) else np.nan,
        "final": float(_numbers(known, "final").mean()) if len(known) else np.nan,
        "drop": drop,
        "drop_low": low,
        "drop_high": high,
        "noise": noise,
        "more_than_noise": pd.NA if np.isnan(noise) or np.isnan(drop) else bool(drop > noise),
        "clear": pd.NA if np.isnan(noise) or np.isnan(low) else bool(low > noise or high <= noise),
        "test_drop": test,
        "test_drop_low": test_low,
        "test_drop_high": test_high,
        "monitored_on": monitored,
    }


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    return frame[column].to_numpy(np.float64, na_value=np.nan)
