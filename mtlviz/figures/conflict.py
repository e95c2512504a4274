"""Conflict between tasks: who with whom, how often, and where in the trunk."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import CROWDED, Pen, finite, needed, rows, traces

WRITTEN = 12  # tasks up to which a cell has room for its number
AXIS_NAME = 16  # characters of a name beside a heat map


def conflict_matrix(frame: pd.DataFrame, *, value: str = "cosine") -> go.Figure:
    """Draw the T×T matrix of cosines between gradients (or of conflict rates) as an annotated heat map.

    Args:
        frame: as `analysis.conflict_matrix` returns it.
        value: "cosine" (-1 to 1, neutral at 0) or "conflict_rate" (0 to 1).

    Returns:
        One heat map; its diagonal is left empty, for a task does not meet itself.

    Raises:
        FrameError: a column is missing, or value is neither.
    """
    question = "Who pulls against whom?"
    scale, says, unit = _scale(value, "conflict_matrix")
    needed(
        frame, ("task_a", "task_b", "cosine", "conflict_rate", "count", "step_first", "step_last"), "conflict_matrix"
    )
    tasks = theme.names(frame["task_a"])
    T = len(tasks)
    if T < 2 or not np.isfinite(finite(frame[value])[(frame["task_a"] != frame["task_b"]).to_numpy()]).any():
        return theme.noted(question, says, "A conflict takes two tasks." if T == 1 else "No step with two tasks yet.")
    first, last = int(frame["step_first"].min()), int(frame["step_last"].max())
    when = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    heat = scale | _pairs_by_task(frame, tasks, value)
    heat |= {} if T <= WRITTEN else _scale_bar(unit)
    ticks = {
        "tickmode": "array",
        "tickvals": np.arange(T),
        "ticktext": theme.short_names(tasks, AXIS_NAME),
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
    }
    height = max(theme.HEIGHT, 120 + 16 * T)
    shared = theme.layout(question, f"{says}<br>{when}", legend=False, height=height) | {"hovermode": "closest"}
    axes = {"xaxis": ticks | {"autotickangles": [0, -45, -90]}, "yaxis": ticks | {"autorange": "reversed"}}
    return theme.figure([heat], shared | axes)


def conflict_rate(frame: pd.DataFrame, *, by: str = "task") -> go.Figure:
    """Draw how often gradients conflict over the steps.

    Args:
        frame: as `analysis.conflict_rate` returns it.
        by: "task" draws each task with all others, "pair" each pair (colour: its first task, dash: its second).

    Returns:
        A faint line each, then a line each; the thick grey one is all pairs together. With two tasks it is alone.

    Raises:
        FrameError: a column is missing, or `by` is neither.
    """
    question, says = "How often do gradients conflict?", "share of task pairs in conflict, 0 to 1"
    needed(frame, ("step", "discarded", "of", "task_a", "task_b", "conflict_rate"), "conflict_rate")
    if by not in ("task", "pair"):
        raise FrameError(f"figures.conflict_rate needs by='task' or by='pair', but by is {by!r}.")
    if not np.isfinite(finite(frame["conflict_rate"])).any():
        one = len(theme.names(frame["task_a"])) == 1
        return theme.noted(question, says, "A conflict takes two tasks." if one else "No step with two tasks yet.")
    lines = _rate_lines(frame, by)
    crowded = len(lines) > CROWDED
    groups = [traces(line, "conflict_rate", pen, band=False, positive=False, crowded=crowded) for line, pen in lines]
    data = [trace for layer in zip(*groups, strict=True) for trace in layer]
    axis = theme.value_axis("conflict rate", zero_line=True) | {"range": [-0.02, 1.02], "tickformat": ".0%"}
    shared = theme.layout(question, says) | {"hovermode": "closest" if crowded else "x unified"}
    return theme.figure(data, shared | {"xaxis": theme.step_axis(frame["step"]), "yaxis": axis})


def layer_conflict(frame: pd.DataFrame, *, value: str = "cosine") -> go.Figure:
    """Draw where in the trunk and when gradients conflict: layers from the input (top) to the output.

    Args:
        frame: as `analysis.layer_conflict` returns it.
        value: "cosine" (mean over pairs) or "conflict_rate".

    Returns:
        A faint heat map of the discarded stretches, then one of the surviving steps.

    Raises:
        FrameError: a column is missing, or value is neither.
    """
    question = "Where in the trunk do tasks conflict?"
    scale, says, unit = _scale(value, "layer_conflict")
    needed(frame, ("step", "discarded", "layer", "cosine", "conflict_rate", "count"), "layer_conflict")
    if not np.isfinite(finite(frame[value])).any():
        return theme.noted(question, says, "No gradients by layer were recorded (layers_every).")
    layers = theme.names(frame["layer"])
    names, full = theme.short_names(layers, AXIS_NAME), [theme.literal(name) for name in layers]
    data = [_layers_by_step(frame, value, full, scale, gone=gone) for gone in (True, False)]
    data[0] |= {"opacity": theme.FAINT}
    data[1] |= _scale_bar(unit)
    ticks = {"tickmode": "array", "tickvals": np.arange(len(layers)), "ticktext": names, "automargin": True}
    axis = ticks | {"showgrid": False, "zeroline": False, "autorange": "reversed"}
    shared = theme.layout(question, says, legend=False, height=max(260, 120 + 26 * len(layers)))
    shared |= {"hovermode": "closest", "xaxis": theme.step_axis(frame["step"]), "yaxis": axis}
    return theme.figure(data, shared)


def _scale(value: str, figure: str) -> tuple[dict[str, Any], str, str]:
    """Return a heat map's colours, and what it shows in words and as a unit."""
    shared = {"type": "heatmap", "showscale": False, "hoverongaps": False}
    if value == "cosine":
        ends = {"zmin": -1, "zmax": 1, "zmid": 0, "colorscale": [list(stop) for stop in theme.DIVERGING]}
        return shared | ends, "cosine between gradients (below 0: conflict)", "cosine"
    if value == "conflict_rate":
        ends = {"zmin": 0, "zmax": 1, "colorscale": [list(stop) for stop in theme.SEQUENTIAL]}
        return shared | ends, "share of steps in conflict", "conflict rate"
    raise FrameError(f"figures.{figure} needs value='cosine' or value='conflict_rate', but value is {value!r}.")


def _scale_bar(unit: str) -> dict[str, Any]:
    return {
        "showscale": True,
        "colorbar": {"title": {"text": unit, "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }


def _pairs_by_task(frame: pd.DataFrame, tasks: list[object], value: str) -> dict[str, Any]:
    """Return the cells (T, T) of the matrix and what they say."""
    T = len(tasks)
    at = theme.places(frame["task_a"]), theme.places(frame["task_b"])
    cells = {name: np.full((T, T), np.nan) for name in ("cosine", "conflict_rate", "count")}
    for name, table in cells.items():
        table[at] = frame[name].to_numpy(np.float64)
        np.fill_diagonal(table, np.nan)
    full = [theme.literal(name) for name in tasks]
    return {
        "z": cells[value],
        "customdata": np.stack([cells["cosine"], cells["conflict_rate"], cells["count"]], axis=-1),
        "text": [[f"{a} × {b}" for b in full] for a in full],
        "hovertemplate": "%{text}<br>cosine %{customdata[0]:.3f}<br>in conflict at %{customdata[1]:.1%}"
        " of %{customdata[2]:,} steps<extra></extra>",
        "texttemplate": ("%{z:.2f}" if value == "cosine" else "%{z:.0%}") if T <= WRITTEN else "",
        "xgap": 2,
        "ygap": 2,
    }


def _rate_lines(frame: pd.DataFrame, by: str) -> list[tuple[dict[str, NDArray[Any]], Pen]]:
    """Return the rows and the pen of each line, all pairs together last, so that it lies on top."""
    tasks = theme.names(frame["task_a"])
    names, T = theme.short_names(tasks), len(tasks)
    a, b = theme.places(frame["task_a"]), theme.places(frame["task_b"])
    kind = {of: (frame["of"] == of).to_numpy() for of in ("all", "task", "pair")}
    if T == 2:
        lines = [(kind["all"], Pen(f"{names[0]} × {names[1]}", theme.NEUTRAL, width=3.5))]
    elif by == "task":
        lines = [(kind["task"] & (a == i), Pen(names[i], theme.colour(i), theme.dash(i))) for i in range(T)]
    else:
        pens = {
            (i, j): Pen(f"{names[i]} × {names[j]}", theme.colour(i), theme.DASHES[j % len(theme.DASHES)])
            for i, j in combinations(range(T), 2)
        }
        lines = [(kind["pair"] & (a == i) & (b == j), pen) for (i, j), pen in pens.items()]
    if T > 2:
        lines.append((kind["all"], Pen("all pairs", theme.NEUTRAL, width=3.5)))
    return [(rows(frame, ("step", "discarded", "conflict_rate"), chosen), pen) for chosen, pen in lines]


def _layers_by_step(
    frame: pd.DataFrame, value: str, full: list[str], scale: dict[str, Any], *, gone: bool
) -> dict[str, Any]:
    """Return the heat map of the discarded or of the surviving steps."""
    chosen = frame["discarded"].to_numpy(bool) == gone
    part = frame[chosen]
    steps = np.unique(frame["step"].to_numpy(np.float64))
    at = theme.places(frame["layer"])[chosen], np.searchsorted(steps, part["step"].to_numpy(np.float64))
    cells = {name: np.full((len(full), len(steps)), np.nan) for name in ("cosine", "conflict_rate", "count")}
    for name, table in cells.items():
        table[at] = part[name].to_numpy(np.float64)
    return scale | {
        "x": steps,
        "y": np.arange(len(full)),
        "z": cells[value],
        "customdata": np.stack([cells["cosine"], cells["conflict_rate"]], axis=-1),
        "text": [[name] * len(steps) for name in full],
        "hovertemplate": "%{text}, step %{x:,.0f}<br>mean cosine %{customdata[0]:.3f}"
        "<br>conflict rate %{customdata[1]:.1%}<extra></extra>",
    }
