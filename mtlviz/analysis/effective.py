"""What the optimizer made of the gradients, beside what the plain direction would have done over the same distance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import log_only
from mtlviz.analysis.what_if import POINTS, predicted_changes
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog, derived

PLAIN, OPTIMIZER = "plain direction", "optimizer"


def effective_change(log: RunLog, *, n: int = POINTS) -> pd.DataFrame:
    """Return each task's first-order change of loss along the optimizer's step, and along −Σ w_t g_t of that length.

    Momentum goes on along older gradients, Adam divides by each coordinate's own size, clipping and decay do theirs: a
    direction that helps every task may become a step that does not. Where the two differ, the weighting is not to
    blame. It counts on the logged weights being those of the loop.

    Args:
        log: of a probe with effective=<the optimizer>.
        n: at most so many points a line.

    Returns:
        A row per method ("plain direction", "optimizer"), bucket and task: step, step_first, step_last, method, task,
        change (mean ⟨g_t, Δθ⟩, in the unit of the task's loss), relative (mean of change ÷ (‖g_t‖ ‖Δθ‖), −1 to 1: −1 is
        straight down the task's own gradient, above 0 its loss grows) and count.

    Raises:
        FrameError: not a log, one without such measures, or n < 1.
    """
    log = log_only(log, needs="effective_change", because="it needs measures and Gramians of the same steps").snapshot()
    measures = log.measures
    kind = measures["name"].to_numpy()
    changes, lengths = measures[kind == "effective_change"], measures[kind == "effective_length"]
    if not len(lengths):
        raise FrameError(
            "effective_change needs measures of that name; record them with mv.Probe(..., effective=optimizer)."
        )
    T, steps = len(log.names), log.recorded_steps
    places = np.flatnonzero(np.isin(steps, lengths["step"].to_numpy()) & ~log.discarded)
    at = steps[places]
    length = lengths.drop_duplicates("step", keep="last").set_index("step")["value"].reindex(at).to_numpy(np.float64)
    taken = np.full((len(at), T), np.nan)
    changes = changes[np.isin(changes["step"].to_numpy(), at)]
    order = {name: index for index, name in enumerate(log.names)}
    tasks = np.array([order[name] for name in changes["task"]], dtype=np.intp)
    taken[np.searchsorted(at, changes["step"].to_numpy()), tasks] = changes["value"].to_numpy(np.float64)
    G = log.gramian_at(places).reshape(-1, T, T)
    norm = np.sqrt(G.diagonal(axis1=1, axis2=2))
    update = derived.updates(log.weights[places], G.reshape(-1, T * T)[:, derived.triangle(T).flat])[1]  # ‖Σ w g‖
    along = np.einsum("sab,sb->sa", np.nan_to_num(G), log.weights[places])
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.where(update[:, None] > 0, -along / update[:, None] * length[:, None], 0.0)
        parts = [
            _rows(at, name, log.names, c, c / (norm * length[:, None]))
            for name, c in ((PLAIN, plain), (OPTIMIZER, taken))
        ]
    return predicted_changes(pd.concat(parts, ignore_index=True), n=n)


def _rows(
    steps: np.ndarray, method: str, names: tuple[str, ...], change: np.ndarray, relative: np.ndarray
) -> pd.DataFrame:
    S, T = change.shape
    absent = np.isnan(relative)
    return pd.DataFrame(
        {
            "step": np.repeat(steps, T),
            "method": pd.Categorical([method] * (S * T), categories=[PLAIN, OPTIMIZER], ordered=True),
            "task": pd.Categorical.from_codes(
                np.tile(np.arange(T), S), dtype=pd.CategoricalDtype(list(names), ordered=True)
            ),
            "change": np.where(absent, np.nan, change).ravel(),
            "relative": relative.ravel(),
        }
    )
