"""Validation curves, with the best point of each task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import Source, checked
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog

COLUMNS = ("step", "position", "discarded", "task", "metric", "value")


def validations(source: Source, *, directions: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return every validation, with the best one of each task marked.

    Args:
        source: a RunLog, or a frame like `log.validations`.
        directions: for a frame, "max" or "min" of each task: which way its metric gets better. A log knows.

    Returns:
        The columns step, position, discarded, task, metric, value (in the metric's unit), then direction and best: True
        at one row a task, its best finite value that no rewind discarded; of equal values the first.

    Raises:
        FrameError: the source is neither, or a task's direction is missing or neither "max" nor "min".
    """
    if isinstance(source, RunLog):
        frame, known = source.validations, {task.name: task.direction for task in source.tasks}
    else:
        frame, known = checked(source, COLUMNS, needs="validations", table="validations"), {}
    ways = known | dict(directions or {})
    direction = frame["task"].astype(object).map(ways)
    if not direction.isin(["max", "min"]).all():
        wrong = sorted(set(frame["task"].astype(str)[~direction.isin(["max", "min"])]))
        raise FrameError(
            f"validations needs a direction, 'max' or 'min', for every task; not so for: {', '.join(wrong)}. "
            "Give a RunLog, or directions={task: 'max' or 'min'}."
        )
    value = frame["value"].to_numpy(np.float64)
    counts = np.isfinite(value) & ~frame["discarded"].to_numpy(bool)
    score = pd.Series(np.where(direction == "max", value, -value))[counts]
    order = np.lexsort((np.arange(len(score)), -score.to_numpy(), frame["task"].astype(str).to_numpy()[counts]))
    ranked = score.index.to_numpy()[order]
    first = ~pd.Series(frame["task"].astype(str).to_numpy()[ranked]).duplicated().to_numpy()
    best = np.zeros(len(frame), bool)
    best[ranked[first]] = True
    return frame[list(COLUMNS)].assign(direction=direction.to_numpy(), best=best).reset_index(drop=True)
