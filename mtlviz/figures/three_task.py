"""The three-task picture: clouds and their boundaries in the plane, and what one task learns of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme

Range = tuple[float, float]

COLOURS = {"alone": 0, "with 2": 1, "with 3": 2, "all": 5}  # places in the house's; a partner's is that of its task
HEIGHT, MARK = 600, 8  # pixels
REACH = 1.15  # of the farthest point of a task from its middle: how far its learned boundary is drawn
PAD = 0.08  # of a range, on either side

_POINTS = ("task", "x_1", "x_2", "label")
_LINES = ("trained", "task", "x_1", "x_2", "angle")


def three_task(
    points: pd.DataFrame,
    boundaries: pd.DataFrame,
    *,
    task: str = "task 1",
    ranges: tuple[Range, Range] | None = None,
    height: int = HEIGHT,
) -> go.Figure:
    """Draw one training sample of the three tasks, their true boundaries and those that one task learns.

    Args:
        points: as `ThreeTask.points` returns them; + is the class +1.
        boundaries: as `ThreeTask.boundaries` returns them.
        task: whose learned boundaries are drawn, one for each group that it trains in.
        ranges: of x₁ and x₂; None: all points.
        height: of the figure, in pixels.

    Returns:
        The plane, with equal axes; true boundaries dotted, learned ones in the colour of the task that came in.

    Raises:
        FrameError: a column is missing, or the task.
    """
    needed(points, _POINTS, "three_task", "points")
    needed(boundaries, _LINES, "three_task", "boundaries")
    question = f"Who turns the boundary of {theme.literal(task)}?"
    says = "one training sample: + and ○ are its two classes, dotted the true<br>boundaries, solid what the task learns"
    if points.empty:
        return theme.noted(question, says, "No point yet.")
    mine = points[points["task"] == task]
    if mine.empty:
        raise FrameError(
            f"figures.three_task knows no task {task!r}; there are {', '.join(map(str, set(points.task)))}."
        )
    box = _ranges(points) if ranges is None else ranges
    data = [_marks(points, name, place) for place, name in enumerate(theme.names(points["task"]))]
    true = boundaries[boundaries["trained"] == "true"]
    # Two tasks of one boundary are one line.
    lines = true.assign(at=true["angle"].round(9)).drop_duplicates("at")
    data += [_true(line, box, first=n == 0) for n, line in enumerate(lines.itertuples())]
    learned = boundaries[(boundaries["trained"] != "true") & (boundaries["task"] == task)]
    middle = mine[["x_1", "x_2"]].to_numpy(np.float64)
    reach = REACH * float(np.linalg.norm(middle - middle.mean(axis=0), axis=1).max())
    found = {str(line.trained): line for line in learned.itertuples()}
    data += [_learned(found.get(trained), trained, task, reach) for trained in COLOURS]
    layout = theme.layout(question, says, height=height) | {"hovermode": "closest"}
    plain: dict[str, Any] = {"zeroline": False, "constrain": "domain", "nticks": 8}
    layout["xaxis"] = plain | {"title": {"text": "x₁", "standoff": 6}, "range": list(box[0])}
    layout["yaxis"] = plain | {"title": {"text": "x₂", "standoff": 6}, "range": list(box[1]), "scaleanchor": "x"}
    layout["yaxis"]["constraintoward"] = "top"
    return theme.figure(data, layout)


def needed(frame: Any, columns: Sequence[str], figure: str, source: str) -> None:
    """Check that a figure gets a frame of the picture. Raises: FrameError, what it needed and what came."""
    needs = f"figures.{figure} needs the frame that ThreeTask.{source} returns"
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"{needs}, but got {type(frame).__name__}.")
    if missing := [column for column in columns if column not in frame.columns]:
        got = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(f"{needs}; missing: {', '.join(missing)}; got: {got}.")


def _ranges(points: pd.DataFrame) -> tuple[Range, Range]:
    """All points, with room around them."""
    ranges = []
    for name in ("x_1", "x_2"):
        low, high = float(points[name].min()), float(points[name].max())
        room = PAD * (high - low) or 1.0
        ranges.append((low - room, high + room))
    return ranges[0], ranges[1]


def _marks(points: pd.DataFrame, name: object, place: int) -> dict[str, Any]:
    own = points[points["task"] == name]
    plus = (own["label"] > 0).to_numpy()
    colour = theme.colour(place)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": own["x_1"].to_numpy(),
        "y": own["x_2"].to_numpy(),
        "marker": {
            "color": colour,
            "size": MARK,
            "symbol": np.where(plus, "cross-thin", "circle-open"),
            "line": {"width": 2, "color": colour},
        },
        "text": np.where(plus, "+1", "−1"),
        "name": theme.literal(name),
        "showlegend": True,
        "hovertemplate": f"{theme.literal(name)}, class %{{text}}<br>(%{{x:.2f}}, %{{y:.2f}})<extra></extra>",
    }


def _true(line: Any, box: tuple[Range, Range], *, first: bool) -> dict[str, Any]:
    far = float(np.ptp(box[0]) + np.ptp(box[1]))
    return _line(line, far) | {
        "line": {"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"},
        "name": "true boundary",
        "legendgroup": "true",
        "showlegend": first,
        "hovertemplate": f"true boundary, {line.angle:.0f}°<extra></extra>",
    }


def _learned(line: Any | None, trained: str, task: str, reach: float) -> dict[str, Any]:
    """The line, or, where nothing was learned, a trace without points, so that the figure keeps its traces."""
    drawn = {"type": "scatter", "mode": "lines", "x": [], "y": []} if line is None else _line(line, reach)
    says = "" if line is None else f"{theme.literal(task)} {trained}: {line.angle:.0f}°"
    return drawn | {
        "line": {"color": theme.colour(COLOURS[trained]), "width": 3, "dash": "dash" if trained == "all" else "solid"},
        "name": trained,
        "legendgroup": trained,
        "showlegend": True,
        "hovertemplate": f"{says}<extra></extra>",
    }


def _line(line: Any, reach: float) -> dict[str, Any]:
    """From a point of the line as far as `reach` in both directions."""
    angle = np.deg2rad(line.angle)
    along = np.array([-reach, reach])
    x, y = line.x_1 + along * np.cos(angle), line.x_2 + along * np.sin(angle)
    return {"type": "scatter", "mode": "lines", "x": x, "y": y}
