"""Signal and noise of task gradients, from products of two halves of a batch: conflict that is real, and the floor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.buckets import log_only, mean
from mtlviz.errors import FrameError
from mtlviz.intervals import mean_interval, verdict
from mtlviz.runlog import RunLog

Floats = NDArray[np.float64]

VERDICTS = {"negative": "conflict", "positive": "agreement", "undecided": "undecided"}


def conflict_test(
    log: RunLog, *, step: int | None = None, window: int | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Return for each pair of tasks whether their gradients conflict, beyond what the noise of batches makes of it.

    The two gradients of one batch share its noise, so that their product is biased. ½(g_aᴬ·g_bᴮ + g_aᴮ·g_bᴬ) over the
    halves A, B of a batch shares no sample: its mean over many steps is tested against 0 by Student's t. Where the true
    product is 0, "conflict" or "agreement" is said in 1 − confidence of the cases, half of these each; for each pair
    by itself: of many pairs, some are wrong by chance. It takes the batches for draws of their own: of one batch that
    comes again at every step it tells what is true of that batch.

    Args:
        log: of a probe with noise=True.
        step: the last step to take; None is the end. window: so many recorded steps; None takes all. It should be long
            enough for a mean (20 or more) and short enough for the gradients to mean the same.
        confidence: of the interval.

    Returns:
        A row per pair: task_a, task_b, mean, low, high (of the product), cosine (the mean ÷ the lengths without noise;
        NaN where noise hides one), relative, relative_low, relative_high (÷ the root mean squares of the norms, as the
        batches show them: −1 to 1), same_batch (the mean product of one batch, relative, biased), count (steps),
        verdict ("conflict", "agreement" or "undecided"), step_first, step_last.

    Raises:
        FrameError: not a log, one without such measures, or step, window or confidence do not fit.
    """
    products, squares, steps = _products(log, step, window, confidence, needs="conflict_test")
    known = pd.CategoricalDtype(list(log.names), ordered=True)
    a, b = np.triu_indices(len(log.names), 1)
    rows = [mean_interval(products[:, i, j], confidence) for i, j in zip(a, b, strict=True)]
    middle, low, high = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = np.sqrt(_means(products))
        shown = np.sqrt(_means(squares))
        lengths = shown.diagonal()[a] * shown.diagonal()[b]
        frame = pd.DataFrame(
            {
                "task_a": pd.Categorical.from_codes(a, dtype=known),
                "task_b": pd.Categorical.from_codes(b, dtype=known),
                "mean": middle,
                "low": low,
                "high": high,
                "cosine": middle / (signal.diagonal()[a] * signal.diagonal()[b]),
                "relative": middle / lengths,
                "relative_low": low / lengths,
                "relative_high": high / lengths,
                "same_batch": _means(squares)[a, b] / lengths,
            }
        )
    said = [VERDICTS[verdict(one, other)] for one, other in zip(low, high, strict=True)]
    frame = frame.assign(
        count=np.isfinite(products[:, a, b]).sum(axis=0).astype(np.int64),
        verdict=pd.Categorical(said, categories=list(VERDICTS.values())),
    )
    return _spanned(frame, steps)


def noise_floor(
    log: RunLog, *, step: int | None = None, window: int | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Return how much of each task's squared gradient norm is noise of the batch, and how much is left as signal.

    E‖g_t‖² = ‖∇L_t‖² + noise; the halves' product g_tᴬ·g_tᴮ has the mean ‖∇L_t‖². A task whose norm is nearly all noise
    looks strong and pulls nowhere: a larger batch helps it, and a weight does not.

    Args, Raises: as `conflict_test`.

    Returns:
        A row per task: task, norm (root mean square over the steps), signal (√ of the halves' mean product, 0 where
        that is below 0), noise (the share of the squared norm that is noise; above 1 by chance where hardly anything is
        signal), low, high (its interval, with the norms taken as known), count, step_first, step_last.
    """
    products, squares, steps = _products(log, step, window, confidence, needs="noise_floor")
    own, norms = (cube.diagonal(axis1=1, axis2=2) for cube in (products, squares))
    known = pd.CategoricalDtype(list(log.names), ordered=True)
    total = _means(norms)
    rows = [mean_interval(own[:, t], confidence) for t in range(len(log.names))]
    middle, low, high = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    frame = pd.DataFrame(
        {
            "task": pd.Categorical.from_codes(np.arange(len(log.names)), dtype=known),
            "norm": np.sqrt(total),
            "signal": np.sqrt(np.maximum(middle, 0.0)),
            "noise": 1 - mean(middle, total),
            "low": 1 - mean(high, total),
            "high": 1 - mean(low, total),
            "count": np.isfinite(own).sum(axis=0).astype(np.int64),
        }
    )
    return _spanned(frame, steps)


def _products(
    log: Any, step: int | None, window: int | None, confidence: float, *, needs: str
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return the halves' products (S, T, T) and the Gramians (S, T, T) of the surviving steps that are asked for."""
    log = log_only(log, needs=needs, because="it needs measures and Gramians of the same steps").snapshot()
    if not 0 < confidence < 1:
        raise FrameError(f"{needs} needs a confidence between 0 and 1, but confidence is {confidence!r}.")
    if window is not None and (not isinstance(window, int | np.integer) or window < 2):
        raise FrameError(f"{needs} needs a window of at least 2 recorded steps, but window is {window!r}.")
    measures = log.measures
    measures = measures[measures["name"].to_numpy() == "noise_dot"]
    if not len(measures):
        raise FrameError(f'{needs} needs the measures "noise_dot"; record them with mv.Probe(..., noise=True).')
    recorded, T = log.recorded_steps, len(log.names)
    noted = np.unique(measures["step"].to_numpy())
    wanted = np.isin(recorded, noted) & ~log.discarded & (recorded <= (recorded[-1] if step is None else step))
    places = np.flatnonzero(wanted)[-window if window is not None else 0 :]
    steps = recorded[places]
    measures = measures[np.isin(measures["step"].to_numpy(), steps)]
    products = np.full((len(steps), T, T), np.nan)
    order = {name: index for index, name in enumerate(log.names)}
    at = np.searchsorted(steps, measures["step"].to_numpy())
    a, b = (np.array([order[name] for name in measures[key]], dtype=np.intp) for key in ("task", "other"))
    products[at, a, b] = products[at, b, a] = measures["value"].to_numpy(np.float64)
    return products, log.gramian_at(places).reshape(-1, T, T), steps


def _spanned(frame: pd.DataFrame, steps: NDArray[np.int64]) -> pd.DataFrame:
    """Return the frame with the first and last step that it tells of; missing where there is none."""
    ends = (int(steps.min()), int(steps.max())) if len(steps) else (None, None)
    first, last = (pd.array([end] * len(frame), dtype="Int64") for end in ends)
    return frame.assign(step_first=first, step_last=last)


def _means(values: Floats) -> Floats:
    """Return the means over the steps that have a value; NaN where none has."""
    known = np.isfinite(values)
    return mean(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))
