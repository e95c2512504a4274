"""The pairs of a few recorded steps, without reading the whole run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import CLOCKS, Source, checked
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog, derived

COLUMNS = ("task_a", "task_b", "cosine", "conflict")


def pairs_at(source: Source, *, step: int | None, window: int | None, needs: str) -> pd.DataFrame:
    """Return step, discarded, task_a, task_b, cosine and conflict at `window` recorded steps that end at `step`.

    Args:
        source: a RunLog, or a frame like `log.pairs`.
        step: a recorded step, discarded or not; None is the last.
        window: how many steps, without those that a rewind discarded; None is the step itself.
        needs: the analysis that asks.

    Raises:
        FrameError: the step was not recorded, the window is no positive count, or the source is neither log nor frame.
    """
    if window is not None and window < 1:
        raise FrameError(f"{needs} needs a window of at least 1 recorded step, but window is {window!r}.")
    if isinstance(source, RunLog):
        return _of_log(source.snapshot(), step, window, needs=needs)
    frame = checked(source, (*CLOCKS, *COLUMNS), needs=needs, table="pairs")
    clocks = frame[list(CLOCKS)].drop_duplicates("step").sort_values("step")
    steps, kept = clocks["step"].to_numpy(), ~clocks["discarded"].to_numpy(bool)
    end = _place(steps, step, needs=needs)
    wanted = steps[end : end + 1] if window is None else steps[: end + 1][kept[: end + 1]][-window:]
    return frame.loc[frame["step"].isin(wanted), [*CLOCKS, *COLUMNS]]


def _of_log(log: RunLog, step: int | None, window: int | None, *, needs: str) -> pd.DataFrame:
    """Return the pairs from the few Gramians that are asked for, so that the cost does not grow with the run."""
    T, steps, gone = len(log.names), log.recorded_steps, log.discarded
    index = derived.triangle(T)
    end = _place(steps, step, needs=needs)
    rows = np.arange(len(steps))[end:][:1] if window is None else np.flatnonzero(~gone[: end + 1])[-window:]
    upper = log.gramian_at(rows).reshape(len(rows), T * T)[:, index.flat]
    dot = derived.dots(upper, T)
    names = pd.CategoricalDtype(list(log.names), ordered=True)
    codes = {key: np.tile(code, len(rows)) for key, code in (("task_a", index.a), ("task_b", index.b))}
    return pd.DataFrame(
        {
            "step": np.repeat(steps[rows], len(index.a)),
            "discarded": np.repeat(gone[rows], len(index.a)),
            **{key: pd.Categorical.from_codes(code, dtype=names) for key, code in codes.items()},
            "cosine": derived.cosines(dot, derived.norms(upper, T)).ravel(),
            "conflict": derived.conflicts(dot).ravel(),
        }
    )


def _place(steps: NDArray[np.int64], step: int | None, *, needs: str) -> int:
    """Return where `step` stands among the recorded ones; None is the last."""
    if step is None:
        return len(steps) - 1
    index = int(np.searchsorted(steps, step))
    if index < len(steps) and steps[index] == step:
        return index
    near = ", ".join(map(str, steps[max(0, index - 1) : index + 1])) or "none, the run has no step yet"
    raise FrameError(f"{needs} needs a recorded step, but step {step} was not recorded; the nearest: {near}.")
