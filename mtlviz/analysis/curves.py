"""Curves over the steps of a run: losses, gradient norms, relative rates, shares of the update and weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import (
    CLOCKS,
    POINTS,
    Source,
    checked,
    finite,
    log_only,
    mean,
    placed,
    summaries,
    summarised,
)
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog


def losses(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return each task's training loss over the steps, a row per bucket of steps and task.

    Args:
        source: a RunLog, or a frame like `log.steps`.
        n: at most so many points a task; each is the mean of its bucket's steps where the task is present.

    Returns:
        Columns step (the bucket's middle), step_first, step_last, discarded, task, loss (mean), loss_min, loss_max
        (each in that loss's own unit) and count (steps where the task is present; 0 gives NaN).

    Raises:
        FrameError: the source is neither, or n < 1.
    """
    return _curve(source, "loss", n=n, needs="losses")


def gradient_norms(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return ‖g_t‖ of each task's gradient on the shared parameters over the steps.

    Args, Raises: as `losses`.

    Returns:
        Columns step, step_first, step_last, discarded, task, grad_norm (bucket mean), grad_norm_min, grad_norm_max and
        count.
    """
    return _curve(source, "grad_norm", n=n, needs="gradient_norms")


def relative_rates(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return each task's relative rate L_t / ‖g_t‖ over the steps: how much loss is left per unit of gradient.

    Args, Raises: as `losses`.

    Returns:
        Columns step, step_first, step_last, discarded, task, relative_rate (bucket mean), relative_rate_min,
        relative_rate_max and count; steps with ‖g_t‖ = 0 do not count.

    Source: Yuan and Zhang, "Equitable Multi-Task Learning", arXiv 2306.09373, section 3 (the relative contribution).
    """
    return _curve(source, "relative_rate", n=n, needs="relative_rates")


def rate_variance(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return the variance of the relative rates L_t / ‖g_t‖ between the tasks over the steps; 0 is equitable.

    Args, Raises: as `losses`.

    Returns:
        Columns step, step_first, step_last, discarded, rate_variance (bucket mean of the variance at a step),
        rate_variance_min, rate_variance_max and count.

    Source: Yuan and Zhang, "Equitable Multi-Task Learning", arXiv 2306.09373, section 3.
    Differs: the variance is taken over the tasks present, divided by their number; the text at hand has lost the
        equation, so this is a reconstruction.
    """
    if isinstance(source, RunLog):
        summary = summaries(source, "totals", (), n=n, needs="rate_variance")
    else:
        frame = checked(source, (*CLOCKS, "task", "relative_rate"), needs="rate_variance", table="steps")
        if n < 1:
            raise FrameError(f"rate_variance needs a number of points n of at least 1, but n is {n!r}.")
        rates = frame.assign(relative_rate=finite(frame["relative_rate"])).groupby("step")
        clocks = frame.drop_duplicates("step").set_index("step")
        totals = clocks[["discarded"]].assign(rate_variance=rates["relative_rate"].var(ddof=0))
        summary = summarised(totals.reset_index(), (), ("rate_variance",), n=n)
    return _with_band(summary, (), "rate_variance")


def shares(log: RunLog, *, n: int = POINTS) -> pd.DataFrame:
    """Return each task's share of the update, w_t (G w)_t / wᵀGw, over the steps.

    At a step the shares of the tasks present sum to 1. A share is negative where the update moves against the task's
    own weighted gradient, and NaN where the update is zero or the task absent.

    Args:
        log: a RunLog; no single table holds both weights and inner products.
        n: at most so many points a task.

    Returns:
        Columns step, step_first, step_last, discarded, task, share (bucket mean, no unit), share_min, share_max, count.

    Raises:
        FrameError: a frame came instead of a log, or n < 1.
    """
    log_only(log, needs="shares", because="a share of the update takes the weights and the Gramian of a step")
    return _curve(log, "share", n=n, needs="shares")


def weights(source: Source, *, n: int = POINTS) -> pd.DataFrame:
    """Return each task's weight over the steps, as the weighting gave it and normalised to Σ|w| = 1.

    Args, Raises: as `losses`.

    Returns:
        Columns step, step_first, step_last, discarded, task, weight (bucket mean over the steps where the task is
        present, in the method's own scale), normalised (that mean divided by the sum of the bucket's absolute means;
        NaN where all are 0) and count (steps where the task is present; 0 gives NaN).
    """
    summary = summaries(source, "steps", ("weight", "loss"), n=n, needs="weights")
    present = summary["loss_count"].to_numpy(np.int64)  # an absent task has weight 0, which adds nothing to the sum
    curve = placed(summary, ("task",)).assign(weight=mean(summary["weight_sum"], present))
    total = curve["weight"].abs().groupby(curve["step_first"]).transform("sum")
    return curve.assign(normalised=mean(curve["weight"], total), count=present)


def _curve(source: Source, quantity: str, *, n: int, needs: str) -> pd.DataFrame:
    return _with_band(summaries(source, "steps", (quantity,), n=n, needs=needs), ("task",), quantity)


def _with_band(summary: pd.DataFrame, keys: tuple[str, ...], quantity: str) -> pd.DataFrame:
    """Return where each bucket stands, its mean as `quantity`, its extremes and its count."""
    count = summary[f"{quantity}_count"].to_numpy(np.int64)
    return placed(summary, keys).assign(
        **{
            quantity: mean(summary[f"{quantity}_sum"], count),
            f"{quantity}_min": summary[f"{quantity}_min"].to_numpy(np.float64),
            f"{quantity}_max": summary[f"{quantity}_max"].to_numpy(np.float64),
        },
        count=count,
    )
