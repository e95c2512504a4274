"""Validation curves, one panel per metric, with each task's best point marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import CROWDED, Pen, finite, needed, rows, traces

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
    tasks, metrics = theme.names(frame["task"]), [str(metric) for metric in frame["metric"].drop_duplicates()]
    names, at = theme.short_names(tasks), theme.places(frame["task"])
    panel = pd.Index(metrics).get_indexer(pd.Index(frame["metric"].astype(str)))
    crowded = len(np.unique(at)) > CROWDED
    places = {number: _labels(frame, at, panel == number) for number in range(len(metrics))}
    data: list[dict[str, Any]] = []
    for index, number in sorted(set(zip(at.tolist(), panel.tolist(), strict=True))):
        line = rows(frame, ("step", "discarded", "value", "best"), (at == index) & (panel == number))
        pen = Pen(names[index], theme.colour(index), theme.dash(index))
        group = traces(line, "value", pen, band=False, positive=False, crowded=crowded)
        group[-1]["showlegend"] = pen.name not in {trace["name"] for trace in data}  # a task may change its metric
        axis = {"yaxis": "y" if number == 0 else f"y{number + 1}"}
        data += [trace | axis for trace in (*group, _star(line, pen, places[number].get(index)))]
    shared = theme.layout(question, says, height=130 + PANEL * len(metrics)) | _panels(metrics, frame["step"])
    return theme.figure(data, shared | {"hovermode": "closest" if crowded else "x unified"})


def _panels(metrics: list[str], steps: pd.Series) -> dict[str, Any]:
    """Return one step axis and a value axis per metric, from top to bottom."""
    space = 0.08 if len(metrics) > 1 else 0.0
    tall = (1.0 - space * (len(metrics) - 1)) / len(metrics)
    bottom = "y" if len(metrics) == 1 else f"y{len(metrics)}"
    axes: dict[str, Any] = {"xaxis": theme.step_axis(steps) | {"anchor": bottom}}
    for index, metric in enumerate(metrics):
        top = 1.0 - index * (tall + space)
        key = "yaxis" if index == 0 else f"yaxis{index + 1}"
        axes[key] = theme.value_axis(theme.literal(metric, 20)) | {"domain": [max(0.0, top - tall), top], "anchor": "x"}
        axes[key]["title"]["font"] = {"size": 11}  # as tall as its panel
    return axes


def _star(line: dict[str, NDArray[Any]], pen: Pen, position: str | None) -> dict[str, Any]:
    best = line["best"].astype(bool)
    value = line["value"][best].astype(np.float64)
    return {
        "type": "scatter",
        "name": pen.name,
        "legendgroup": pen.name,
        "showlegend": False,
        "x": line["step"][best].astype(np.float64),
        "y": value,
        "mode": "markers+text" if position else "markers",
        "marker": {"symbol": "star", "size": 11, "color": pen.colour},
        "text": [f"{v:.4g}" for v in value],
        "textposition": position or "top center",
        "textfont": {"color": pen.colour, "size": 12},
        "cliponaxis": False,
        "hovertemplate": "best: %{y:.4~g} at step %{x:,.0f}",
    }


def _labels(frame: pd.DataFrame, tasks: NDArray[np.intp], chosen: NDArray[np.bool_]) -> dict[int, str]:
    """Return where each task's best value is written: above or below its star, whichever covers fewer points.

    A label that would cover another is left out.
    """
    points = np.stack([_scaled(frame[column].to_numpy()[chosen]) for column in ("step", "value")], axis=1)
    best, task = frame["best"].to_numpy(bool)[chosen], tasks[chosen]
    taken = np.empty((0, 2))
    places: dict[int, str] = {}
    for row in sorted(np.flatnonzero(best), key=lambda row: -points[row, 1]):
        x, y = points[row]
        side, shift = ("left", -0.5) if x > 0.85 else ("right", 0.5) if x < 0.15 else ("center", 0.0)
        free = []
        for vertical, offset in (("top", 0.7), ("bottom", -0.7)):
            centre = np.array([x + shift * LABEL[0], y + offset * LABEL[1]])
            if not (np.abs(taken - centre) < LABEL).all(axis=1).any():
                covered = (np.abs(points - centre) < np.array(LABEL) / 2).all(axis=1).sum()
                free.append((int(covered), f"{vertical} {side}", centre))
        if free:
            _, places[int(task[row])], centre = min(free, key=lambda place: place[0])
            taken = np.vstack([taken, centre])
    return places


def _scaled(column: NDArray[Any]) -> NDArray[np.float64]:
    """Return a column moved to 0 to 1, as a panel shows it."""
    values = finite(column)
    known = values[np.isfinite(values)]
    spread = np.ptp(known) if known.size else 0.0
    return (values - (known.min() if known.size else 0.0)) / (spread if spread > 0 else 1.0)
