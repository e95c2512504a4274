"""The pairs of a few recorded steps, without reading the whole run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import CLOCKS, Source, checked
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog, derived

COLUMNS = ("task_a", "task_b", "cosine", "conflict")
FEW = 256  # steps up to which single Gramians are read, instead of the frame of all pairs


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
        now = source.snapshot()
        # Where every update since the first was recorded and none was thrown away, a step's row needs no search.
        if len(now) == now.last_step and (window or 1) <= FEW and not (now.events["kind"] == "rewind").any():
            return _read(now, step, window or 1, needs=needs)
        frame = now.pairs
    else:
        frame = checked(source, (*CLOCKS, *COLUMNS), needs=needs, table="pairs")
    clocks = frame[list(CLOCKS)].drop_duplicates("step").sort_values("step")
    steps, kept = clocks["step"].to_numpy(), ~clocks["discarded"].to_numpy(bool)
    end = _place(steps, step, needs=needs)
    wanted = steps[end : end + 1] if window is None else steps[: end + 1][kept[: end + 1]][-window:]
    return frame.loc[frame["step"].isin(wanted), [*CLOCKS, *COLUMNS]]


def _read(log: RunLog, step: int | None, window: int, *, needs: str) -> pd.DataFrame:
    """Return the pairs of a log that recorded every step and never went back."""
    T = len(log.names)
    index = derived.triangle(T)
    end = _place(np.arange(1, log.last_step + 1), step, needs=needs)
    rows = np.arange(max(0, end + 1 - window), end + 1)
    whole = np.array([log.gramian_at(int(row)) for row in rows]).reshape(len(rows), T * T)
    upper = whole[:, index.flat]
    dot = derived.dots(upper, T)
    names = pd.CategoricalDtype(list(log.names), ordered=True)
    codes = {key: np.tile(code, len(rows)) for key, code in (("task_a", index.a), ("task_b", index.b))}
    return pd.DataFrame(
        {
            "step": np.repeat(rows + 1, len(index.a)),
            "discarded": False,
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
