"""Validation curves, one panel per metric, with each task's best point marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

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
        axes["yaxis" if index == 0 else f"yaxis{index + 1}"] = theme.value_axis(theme.literal(metric, 24)) | place
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
    """Return where each task's best value is written, without those that would cover one another."""
    value = finite(rows["value"])
    best = rows[rows["best"].to_numpy(bool)].sort_values("value", ascending=False, kind="stable")
    if best.empty:
        return {}
    low, spread = np.nanmin(value), np.ptp(value[np.isfinite(value)]) or 1.0
    steps = rows["step"].to_numpy(np.float64)
    begin, length = steps.min(), np.ptp(steps) or 1.0
    taken: list[tuple[float, float]] = []
    places: dict[object, str] = {}
    for task, step, level in zip(best["task"], best["step"], best["value"], strict=True):
        x, y = (step - begin) / length, (level - low) / spread
        side = "left" if x > 0.85 else "right" if x < 0.15 else "center"
        for vertical, offset in (("top", LABEL[1] / 2), ("bottom", -LABEL[1] / 2)):
            if all(abs(x - other) > LABEL[0] or abs(y + offset - height) > LABEL[1] for other, height in taken):
                taken.append((x, y + offset))
                places[task] = f"{vertical} {side}"
                break
    return places
