"""Means with the interval that Student's t gives them, over seeds or repeats."""

from __future__ import annotations

from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Verdict = Literal["positive", "negative", "undecided"]

_SAME = 1e-9  # differences this close to each other, as a share of their size, differ by rounding alone


def is_share(value: object) -> bool:
    """Whether a value is a number between 0 and 1, as a confidence must be."""
    return isinstance(value, Real) and 0 < float(value) < 1


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of the finite values (n,) and its two-sided interval by Student's t.

    Returns: mean, low, high; all NaN for no finite value, the bounds NaN for a single one, which has no spread.

    Raises: ValueError for a confidence outside (0, 1).
    """
    if not is_share(confidence):
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


def paired(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float, Verdict]:
    """`mean_interval` of differences (n,) between runs of the same seeds, and what it decides.

    A metric that goes in steps, as an accuracy on few rows, often differs by the very same over few seeds. The interval
    then has no width, and says nothing of chance; so that the sign test decides: n equal signs come by chance in
    2^(1 − n) of all cases.

    Returns: mean, low, high and the verdict.

    Raises: ValueError as `mean_interval`.
    """
    mean, low, high = mean_interval(differences, confidence)
    count = int(np.isfinite(differences).sum())
    same = high - low <= _SAME * abs(mean)
    if same and 2.0 ** (1 - count) > 1 - confidence:
        return mean, low, high, "undecided"
    return mean, low, high, verdict(low, high)


def verdict(low: float, high: float) -> Verdict:
    """On which side of zero a whole interval lies; "undecided" where it holds zero, or is not known (NaN)."""
    if low > 0:
        return "positive"
    return "negative" if high < 0 else "undecided"
