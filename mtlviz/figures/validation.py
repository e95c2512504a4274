"""Validation curves, one panel per metric, with each task's best point marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import CROWDED, Pen, finite, needed, traces

PANEL = 160  # pixels of height per metric
LABEL = (0.16, 0.13)  # width and height of a label, as a part of a narrow panel


def validations(frame: pd.DataFrame) -> go.Figure:
    """Draw each task's metric on the validation split over the steps, its best point marked with a star and its value.

    Tasks with one metric share a panel, for their values compare; other metrics get panels of their own.

    Args:
        frame: as `analysis.validations` returns it.

    Returns:
        Per task, in the log's order, a faint line (discarded), a line and a star. A label that would cover another is
        left out; the star's hover box always tells.

    Raises:
        FrameError: a column is missing.
    """
    question, says = "How good did each task get?", "validation metric; ★ best so far"
    needed(frame, ("step", "discarded", "task", "metric", "value", "best"), "validations")
    if not np.isfinite(finite(frame["value"])).any():
        return theme.noted(question, says, "No validation yet.")
    tasks, metrics = theme.names(frame["task"]), list(frame["metric"].drop_duplicates())
    crowded = frame["task"].nunique() > CROWDED
    panels = {metric: index + 1 for index, metric in enumerate(metrics)}
    data: list[dict[str, Any]] = []
    labels = {metric: _labels(frame[frame["metric"] == metric]) for metric in metrics}
    for index, name in enumerate(theme.short_names(tasks)):
        for metric in metrics:
            rows = frame[(frame["task"] == tasks[index]) & (frame["metric"] == metric)]
            if len(rows):
                pen = Pen(name, theme.colour(index), theme.dash(index))
                lines = traces(rows, "value", pen, band=False, positive=False, crowded=crowded)
                group = [*lines, _star(rows, pen, labels[metric].get(tasks[index]))]
                axis = {"yaxis": "y" if panels[metric] == 1 else f"y{panels[metric]}"}
                data += [trace | axis for trace in group]
    shared = theme.layout(question, says, height=130 + PANEL * len(metrics)) | _panels(metrics, frame["step"])
    return go.Figure({"data": data, "layout": shared | {"hovermode": "closest" if crowded else "x unified"}})


def _panels(metrics: list[str], steps: pd.Series) -> dict[str, Any]:
    """Return one step axis and a value axis per metric, from top to bottom."""
    share, space = 1.0 / len(metrics), 0.08 if len(metrics) > 1 else 0.0
    bottom = "y" if len(metrics) == 1 else f"y{len(metrics)}"
    axes: dict[str, Any] = {"xaxis": theme.step_axis(steps) | {"anchor": bottom, "domain": [0, 1]}}
    for index, metric in enumerate(metrics):
        top = 1.0 - index * share
        place = {"domain": [max(0.0, top - share + (space if index < len(metrics) - 1 else 0.0)), top], "anchor": "x"}
        key = "yaxis" if index == 0 else f"yaxis{index + 1}"
        axes[key] = theme.value_axis(theme.literal(metric, 20)) | place
        axes[key]["title"]["font"] = {"size": 11}  # as tall as its panel
    return axes


def _star(rows: pd.DataFrame, pen: Pen, position: str | None) -> dict[str, Any]:
    best = rows[rows["best"].to_numpy(bool)]
    value = best["value"].to_numpy(np.float64)
    return {
        "type": "scatter",
        "name": pen.name,
        "legendgroup": pen.name,
        "showlegend": False,
        "x": best["step"].to_numpy(np.float64),
        "y": value,
        "mode": "markers+text" if position else "markers",
        "marker": {"symbol": "star", "size": 11, "color": pen.colour},
        "text": [f"{v:.4g}" for v in value],
        "textposition": position or "top center",
        "textfont": {"color": pen.colour, "size": 12},
        "cliponaxis": False,
        "hovertemplate": "best: %{y:.4~g} at step %{x:,.0f}",
    }


def _labels(rows: pd.DataFrame) -> dict[object, str]:
    """Return where each task's best value is written: above or below its star, whichever covers fewer points.

    A label that would cover another is left out.
    """
    best = rows[rows["best"].to_numpy(bool)].sort_values("value", ascending=False, kind="stable")
    points = np.stack([_scaled(rows["step"]), _scaled(rows["value"])], axis=1)
    at = dict(zip(rows.index, points, strict=True))
    taken = np.empty((0, 2))
    places: dict[object, str] = {}
    for row, task in zip(best.index, best["task"], strict=True):
        x, y = at[row]
        side, shift = ("left", -0.5) if x > 0.85 else ("right", 0.5) if x < 0.15 else ("center", 0.0)
        free = []
        for vertical, offset in (("top", 0.7), ("bottom", -0.7)):
            centre = np.array([x + shift * LABEL[0], y + offset * LABEL[1]])
            if not (np.abs(taken - centre) < LABEL).all(axis=1).any():
                covered = (np.abs(points - centre) < np.array(LABEL) / 2).all(axis=1).sum()
                free.append((int(covered), f"{vertical} {side}", centre))
        if free:
            _, places[task], centre = min(free, key=lambda place: place[0])
            taken = np.vstack([taken, centre])
    return places


def _scaled(column: pd.Series) -> NDArray[np.float64]:
    """Return a column moved to 0 to 1, as a panel shows it."""
    values = finite(column)
    known = values[np.isfinite(values)]
    spread = np.ptp(known) if known.size else 0.0
    return (values - (known.min() if known.size else 0.0)) / (spread if spread > 0 else 1.0)
