"""Curves over the steps: a line per task, with a band from each bucket's minimum to its maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures import theme
from mtlviz.figures.lines import CROWDED, Pen, finite, is_positive, needed, rows, traces

PLACE = ("step", "discarded")
BANDS = 6  # tasks up to which bands can be told apart


def losses(frame: pd.DataFrame) -> go.Figure:
    """Draw each task's training loss over the steps; the axis is logarithmic where no loss is negative.

    Args:
        frame: as `analysis.losses` returns it.

    Returns:
        First a band per task (minimum to maximum of a bucket; up to six tasks), then per task a faint line (discarded
        by a rewind), then per task a line (mean of a bucket).

    Raises:
        FrameError: a column is missing.
    """
    look = _Look("losses", "loss", "Do all tasks learn?", "training loss, each in its own scale", "loss (own scale)")
    return _per_task(frame, look)


def gradient_norms(frame: pd.DataFrame) -> go.Figure:
    """Draw ‖g_t‖ of each task on the shared parameters over the steps, on a logarithmic axis.

    Args, Returns, Raises: as `losses`, with a frame as `analysis.gradient_norms` returns it.
    """
    question, quantity = "Whose gradient is the loudest?", "norm of each task's gradient on the trunk"
    return _per_task(frame, _Look("gradient_norms", "grad_norm", question, quantity, "gradient norm ‖g‖"))


def relative_rates(frame: pd.DataFrame) -> go.Figure:
    """Draw each task's relative rate L_t / ‖g_t‖ over the steps, logarithmic where no loss is negative.

    Args, Returns, Raises: as `losses`, with a frame as `analysis.relative_rates` returns it.
    """
    question, quantity = "Which task is left behind?", "relative rate: loss ÷ norm of its gradient"
    return _per_task(frame, _Look("relative_rates", "relative_rate", question, quantity, "relative rate L / ‖g‖"))


def shares(frame: pd.DataFrame) -> go.Figure:
    """Draw each task's share of the update over the steps; below zero the update moves against the task.

    Args, Raises: as `losses`, with a frame as `analysis.shares` returns it.

    Returns:
        Per task a faint line, then per task a line. No bands: near a zero update single shares are huge and would
        flatten all else.
    """
    question, quantity = "Which task moves the trunk?", "share of the update (below 0: moved against the task)"
    look = _Look("shares", "share", question, quantity, "share of the update", linear=True)
    return _per_task(frame, look)


def weights(frame: pd.DataFrame, *, normalised: bool = True) -> go.Figure:
    """Draw each task's weight over the steps.

    Args:
        frame: as `analysis.weights` returns it.
        normalised: draw w / Σ|w|, comparable between methods; False draws the raw weights in the method's own scale.

    Returns:
        Per task a faint line, then per task a line.

    Raises:
        FrameError: a column is missing.
    """
    question = "What does the weighting favour?"
    if normalised:
        look = _Look("weights", "normalised", question, "weight of each task, w / Σ|w|", "weight w / Σ|w|", linear=True)
    else:
        look = _Look("weights", "weight", question, "weight of each task, as given", "weight w", linear=True)
    return _per_task(frame, look)


def rate_variance(frame: pd.DataFrame) -> go.Figure:
    """Draw the variance of the relative rates between the tasks over the steps, on a logarithmic axis.

    Args, Raises: as `losses`, with a frame as `analysis.rate_variance` returns it.

    Returns:
        One band, one faint line, one line.
    """
    question, quantity = "Do the tasks learn at one pace?", "variance of the relative rate between tasks (0: one pace)"
    needed(frame, (*PLACE, "rate_variance", "rate_variance_min", "rate_variance_max"), "rate_variance")
    if not np.isfinite(finite(frame["rate_variance"])).any():
        return theme.noted(question, quantity, "No step with relative rates yet.")
    positive = is_positive(frame["rate_variance"])
    line = rows(frame, (*PLACE, "rate_variance", "rate_variance_min", "rate_variance_max"), np.ones(len(frame), bool))
    data = traces(line, "rate_variance", Pen("variance between tasks", theme.colour(0)), band=True, positive=positive)
    axes = {"xaxis": theme.step_axis(frame["step"]), "yaxis": theme.value_axis("variance of L / ‖g‖", log=positive)}
    return theme.figure(data, theme.layout(question, quantity) | axes)


@dataclass(frozen=True, slots=True)
class _Look:
    """What tells one figure of tasks from the next; a linear axis shows zero, and no bands."""

    figure: str
    quantity: str
    question: str
    says: str
    unit: str
    linear: bool = False


def _per_task(frame: pd.DataFrame, look: _Look) -> go.Figure:
    ends = () if look.linear else (f"{look.quantity}_min", f"{look.quantity}_max")
    needed(frame, (*PLACE, "task", look.quantity, *ends), look.figure)
    if not np.isfinite(finite(frame[look.quantity])).any():
        return theme.noted(look.question, look.says, "No step recorded yet." if frame.empty else "No finite value yet.")
    log = not look.linear and is_positive(frame[look.quantity])
    tasks, places = theme.names(frame["task"]), theme.places(frame["task"])
    crowded = len(np.unique(places)) > CROWDED
    groups: list[list[dict[str, Any]]] = []
    for index, name in enumerate(theme.short_names(tasks)):
        chosen = places == index
        if chosen.any():
            pen = Pen(name, theme.colour(index), theme.dash(index), 1.4 if crowded else 2.0)
            band = not look.linear and len(tasks) <= BANDS
            line = rows(frame, (*PLACE, look.quantity, *ends), chosen)
            groups.append(traces(line, look.quantity, pen, band=band, positive=log, crowded=crowded))
    data = [trace for layer in zip(*groups, strict=True) for trace in layer]  # all bands, all faint parts, all lines
    axes = {
        "xaxis": theme.step_axis(frame["step"]),
        "yaxis": theme.value_axis(look.unit, log=log, zero_line=look.linear),
    }
    if log:
        axes["yaxis"]["autorangeoptions"] = {"clipmin": _least_shown(frame[look.quantity])}
    shared = theme.layout(look.question, look.says) | axes | {"hovermode": "closest" if crowded else "x unified"}
    return theme.figure(data, shared)


def _least_shown(column: pd.Series) -> float:
    """Return the least that a logarithmic axis shows until it is dragged: below lie less than 2% of the values.

    The loss and gradient of a task that has just been distilled vanish, and would squeeze all others into a band.
    """
    values = finite(column, positive=True)
    return float(np.nanquantile(values, 0.02)) / 10
