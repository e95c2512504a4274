"""Means with the interval that Student's t gives them, over seeds or repeats."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Verdict = Literal["positive", "negative", "undecided"]


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of the finite values (n,) and its two-sided interval by Student's t.

    Returns: mean, low, high; all NaN for no finite value, the bounds NaN for a single one, which has no spread.

    Raises: ValueError for a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if len(values) == 1:
        return mean, np.nan, np.nan
    quantile = float(stdtrit(len(values) - 1, 0.5 + confidence / 2))
    half = quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return mean, mean - half, mean + half


def verdict(low: float, high: float) -> Verdict:
    """On which side of zero a whole interval lies; "undecided" where it holds zero, or is not known (NaN)."""
    if low > 0:
        return "positive"
    return "negative" if high < 0 else "undecided"
