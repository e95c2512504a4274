"""Validation curves, one panel per metric, with each task's best point marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.branches import branches
from mtlviz.figures.lines import CROWDED, Pen, finite, needed, rows, traces

PANEL = 160  # pixels of height per metric
LABEL = (0.16, 0.13)  # width and height of a label, as a part of a narrow panel


def validations(frame: pd.DataFrame, *, over: str = "step") -> go.Figure:
    """Draw each task's metric on the validation split over the steps, its best point marked with a star and its value.

    Tasks with one metric share a panel, for their values compare; other metrics get panels of their own.

    Args:
        frame: as `analysis.validations` returns it.
        over: "step", all the work in the order in which it was done; or "position", where what a rewind threw away
            branches off the curve that stayed.

    Returns:
        Per task, in the log's order, a faint line (discarded), a line and a star. In a run with a schedule what was
        discarded begins where it branches off, the line goes on at the rewind from the value of the checkpoint, and
        between it and the star stand: a thin line where the task was distilled, a dotted one where it waited, and,
        once it has converged, a diamond on the validation that was kept and a thin dotted line back to it from the one
        that decided. A label that would cover another is left out; the star's hover box always tells.

    Raises:
        FrameError: a column is missing, or `over` is neither.
    """
    question, says = "How good did each task get?", "validation metric; ★ best so far"
    if over not in ("step", "position"):
        raise FrameError(f"validations is drawn over='step' or over='position'; it came as {over!r}.")
    columns: tuple[str, ...] = ("step", "discarded", "value", "best")
    needed(frame, ("task", "metric", *columns, over), "validations")
    branching = "phase" in frame.columns or over == "position"
    if branching:
        says += "; ◇ kept at convergence; thin: soft labels"
        frame = _with_branches(frame)
        columns += ("position", "phase", "decided")
    if not np.isfinite(finite(frame["value"])).any():
        return theme.noted(question, says, "No validation yet.")
    tasks, metrics = theme.names(frame["task"]), [str(metric) for metric in frame["metric"].drop_duplicates()]
    names, at = theme.short_names(tasks), theme.places(frame["task"])
    panel = pd.Index(metrics).get_indexer(pd.Index(frame["metric"].astype(str)))
    crowded = len(np.unique(at)) > CROWDED
    places = {number: _labels(frame, at, panel == number, over) for number in range(len(metrics))}
    data: list[dict[str, Any]] = []
    for index, number in sorted(set(zip(at.tolist(), panel.tolist(), strict=True))):
        line = rows(frame, columns, (at == index) & (panel == number))
        pen = Pen(names[index], theme.colour(index), theme.dash(index))
        if branching:
            group = branches(line, pen, over=over, crowded=crowded)
        else:
            group = traces(line, "value", pen, band=False, positive=False, crowded=crowded)
        group[1]["showlegend"] = pen.name not in {trace["name"] for trace in data}  # a task may change its metric
        axis = {"yaxis": "y" if number == 0 else f"y{number + 1}"}
        data += [trace | axis for trace in (*group, _star(line, pen, places[number].get(index), over))]
    height = max(130 + PANEL * len(metrics), theme.HEIGHT if branching else 0)
    shared = theme.layout(question, says, height=height) | _panels(metrics, frame, over)
    return theme.figure(data, shared | {"hovermode": "closest" if crowded else "x unified"})


def _with_branches(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with what the branches are drawn from; without a schedule nothing converged."""
    given: dict[str, Any] = {"position": frame["step"], "phase": "supervised", "decided": np.nan}
    whole = frame.assign(**{name: value for name, value in given.items() if name not in frame.columns})
    decided = whole["decided"].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return whole.assign(phase=whole["phase"].astype(object), decided=decided)


def _panels(metrics: list[str], frame: pd.DataFrame, over: str) -> dict[str, Any]:
    """Return one step axis and a value axis per metric, from top to bottom."""
    space = 0.08 if len(metrics) > 1 else 0.0
    tall = (1.0 - space * (len(metrics) - 1)) / len(metrics)
    bottom = "y" if len(metrics) == 1 else f"y{len(metrics)}"
    axes: dict[str, Any] = {"xaxis": theme.step_axis(frame[over]) | {"anchor": bottom}}
    if over == "position":
        axes["xaxis"] |= {"title": {"text": "position", "standoff": 8}, "unifiedhovertitle": {"text": "position %{x}"}}
    for index, metric in enumerate(metrics):
        top = 1.0 - index * (tall + space)
        key = "yaxis" if index == 0 else f"yaxis{index + 1}"
        axes[key] = theme.value_axis(theme.literal(metric, 20)) | {"domain": [max(0.0, top - tall), top], "anchor": "x"}
        axes[key]["title"]["font"] = {"size": 11}  # as tall as its panel
    return axes


def _star(line: dict[str, NDArray[Any]], pen: Pen, position: str | None, over: str) -> dict[str, Any]:
    best = line["best"].astype(bool)
    value = line["value"][best].astype(np.float64)
    return {
        "type": "scatter",
        "name": pen.name,
        "legendgroup": pen.name,
        "showlegend": False,
        "x": line[over][best].astype(np.float64),
        "y": value,
        "mode": "markers+text" if position else "markers",
        "marker": {"symbol": "star", "size": 11, "color": pen.colour},
        "text": [f"{v:.4g}" for v in value],
        "textposition": position or "top center",
        "textfont": {"color": pen.colour, "size": 12},
        "cliponaxis": False,
        "hovertemplate": f"best: %{{y:.4~g}} at {over} %{{x:,.0f}}",
    }


def _labels(frame: pd.DataFrame, tasks: NDArray[np.intp], chosen: NDArray[np.bool_], over: str) -> dict[int, str]:
    """Return where each task's best value is written: above or below its star, whichever covers fewer points.

    A label that would cover another is left out.
    """
    points = np.stack([_scaled(frame[column].to_numpy()[chosen]) for column in (over, "value")], axis=1)
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
