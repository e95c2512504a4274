"""What runs reached in their metrics, as frames of experiments hold it: checked before it is compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import FrameError


def numbers_of(column: pd.Series, needs: str) -> NDArray[np.float64]:
    """The numbers (n,) of a column, NaN for what is missing or not finite. Raises: FrameError for what is no number."""
    try:
        numbers = column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise FrameError(f"{needs} needs numbers in the column {str(column.name)!r}: {error}.") from error
    return np.where(np.isfinite(numbers), numbers, np.nan)


def one_metric(rows: pd.DataFrame, needs: str) -> None:
    """Raises: FrameError where rows of one task are of several metrics, whose values cannot be compared."""
    kinds = rows[["task", "metric", "direction"]].astype(str).drop_duplicates()
    if (twice := kinds["task"].duplicated(keep=False)).any():
        task = kinds.loc[twice, "task"].iloc[0]
        told = kinds[kinds["task"] == task]
        came = ", ".join(f"{metric} ({way})" for metric, way in zip(told["metric"], told["direction"], strict=True))
        raise FrameError(f"{needs} needs one metric a task; {task!r} has {came}. Select the rows of one experiment.")
