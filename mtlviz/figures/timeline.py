"""The timeline of a run: a bar per task over the steps, as thick as the task learns from true labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import needed

THICK = {"supervised": 0.5, "distilled": 0.2, "waiting": 0.05}  # of the height of a row
SAYS = {"supervised": "true labels", "distilled": "soft labels", "waiting": "waits"}
ABOVE = 0.38  # how far above the middle of its bar a task's way back is drawn, in rows
ROW = ((10, 34), (20, 24), (10_000, 17))  # up to so many tasks a row is so many pixels high
NAME = 18  # characters of a task's name beside its bar


def timeline(frame: pd.DataFrame) -> go.Figure:
    """Draw what each task did over the steps: a bar per task, faint where a rewind threw the stretch away.

    Args:
        frame: as `analysis.timeline` returns it.

    Returns:
        A thick bar where a task learned from true labels, a thinner one where from its own soft labels, a line where it
        waited: per phase one trace of faint bars and one of the others. Then a dotted line down through all tasks
        at each rewind, and above a task's bar the way from where it was found to have converged back to the checkpoint
        that was kept; last what only the legend shows.

    Raises:
        FrameError: a column is missing.
    """
    question = "When did each task converge, at what cost?"
    says = "what each task learned from; ◆ converged, and went back to its best ◀"
    columns = ("task", "kind", "phase", "step_first", "step_last", "position_first", "position_last", "discarded")
    needed(frame, (*columns, "value"), "timeline")
    names = theme.names(frame["task"])
    frame = frame.assign(task=pd.Categorical(frame["task"], categories=names))  # a part of it has the same places
    stretches = frame[(frame["kind"] == "stretch").to_numpy()]
    if stretches.empty:
        return theme.noted(question, says, "No step recorded yet.")
    data = [trace for phase in THICK for trace in _bars(stretches, phase)]
    data += [_down(frame, len(names)), _ways_back(frame), *_legend()]
    height = max(230, 130 + next(pixels for most, pixels in ROW if len(names) <= most) * len(names))
    axes = {"xaxis": theme.step_axis(frame["step_last"]), "yaxis": _task_axis(names)}
    layout = theme.layout(question, says, height=height) | axes
    return theme.figure(data, layout | {"hovermode": "closest", "barmode": "overlay"})


def _bars(stretches: pd.DataFrame, phase: str) -> list[dict[str, Any]]:
    """Return the faint bars of a phase, then the others; a bar begins where the update before it ended."""
    chosen = stretches[(stretches["phase"] == phase).to_numpy()]
    at, first, last, gone, low, high = _arrays(chosen)
    known = [theme.literal(name) for name in theme.names(chosen["task"])]
    names = [known[int(place)] for place in at]
    pens = [theme.NEUTRAL if phase == "waiting" else theme.colour(int(place)) for place in at]
    bars = []
    for part, opacity, said in ((gone, theme.FAINT, ", thrown away"), (~gone, 1.0, "")):
        hover = f"%{{customdata[0]}}: {SAYS[phase]}<br>steps %{{customdata[1]}}, positions %{{customdata[2]}}{said}"
        rows = np.flatnonzero(part)
        bars.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": phase,
                "legendgroup": phase,
                "showlegend": False,
                "base": first[rows] - 1.0,
                "x": last[rows] - first[rows] + 1.0,
                "y": at[rows],
                "width": THICK[phase],
                "marker": {"color": [pens[row] for row in rows], "opacity": opacity, "line": {"width": 0}},
                "customdata": [[names[i], _span(first[i], last[i]), _span(low[i], high[i])] for i in rows.tolist()],
                "hovertemplate": f"{hover}<extra></extra>",
            }
        )
    return bars


def _down(frame: pd.DataFrame, tasks: int) -> dict[str, Any]:
    """Return a line down through all tasks at each rewind: there everything went back."""
    steps = np.unique(frame["step_last"].to_numpy(np.float64)[(frame["kind"] == "rewind").to_numpy()])
    ends = np.array([-0.5, tasks - 0.5, np.nan])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "rewind",
        "showlegend": False,
        "x": np.repeat(steps, 3),
        "y": np.tile(ends, len(steps)),
        "line": {"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
        "opacity": 0.7,
        "hoverinfo": "skip",
    }


def _ways_back(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a line above each converged task's bar: from the validation that decided back to the one that was kept."""
    chosen = frame[(frame["kind"] == "convergence").to_numpy()]
    at, kept, decided, _, _, _ = _arrays(chosen)
    x, y = np.full((len(at), 3), np.nan), np.full((len(at), 3), np.nan)
    x[:, 0], x[:, 1], y[:, :2] = decided, kept, (at - ABOVE)[:, None]
    said = [
        f"{theme.literal(task)}: converged at step {end:,.0f}<br>best validation {value:.4g} at step {start:,.0f}"
        for task, end, start, value in zip(chosen["task"], decided, kept, chosen["value"], strict=True)
    ]
    pens = [theme.colour(int(place)) for place in at]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "converged",
        "showlegend": False,
        "x": x.ravel(),
        "y": y.ravel(),
        "line": {"color": theme.NEUTRAL, "width": 1.5},
        "marker": {
            "symbol": ["diamond", "triangle-left", "circle"] * len(at),
            "size": 9,
            "color": [pen for pen in pens for _ in range(3)],
            "opacity": 1.0,
        },
        "text": [text for text in said for _ in range(3)],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
    }


def _legend() -> list[dict[str, Any]]:
    """Return traces without data, which say in the legend what a bar's thickness means, in no task's colour."""
    shared = {"type": "scatter", "x": [None], "y": [None], "mode": "lines", "hoverinfo": "skip", "showlegend": True}
    lines = {"supervised": 9, "distilled": 4, "waiting": 1}
    entries = [
        shared | {"name": SAYS[phase], "legendgroup": phase, "line": {"color": theme.NEUTRAL, "width": width}}
        for phase, width in lines.items()
    ]
    faint = {"line": {"color": theme.NEUTRAL, "width": 9}, "opacity": theme.FAINT}
    return [*entries, shared | faint | {"name": "thrown away", "legendgroup": "thrown away"}]


def _task_axis(names: list[object]) -> dict[str, Any]:
    """Return the axis of the tasks, the first on top, with room above for its way back."""
    return {
        "range": [len(names) - 0.5, -0.6],
        "tickvals": np.arange(len(names)),
        "ticktext": theme.short_names(names, NAME),
        "ticklabelstandoff": 6,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def _arrays(frame: pd.DataFrame) -> tuple[NDArray[Any], ...]:
    """Return the rows' places in the order of the tasks, and their clocks."""
    clocks = ("step_first", "step_last", "discarded", "position_first", "position_last")
    return theme.places(frame["task"]).astype(np.float64), *(frame[column].to_numpy() for column in clocks)


def _span(first: int, last: int) -> str:
    return f"{first:,} to {last:,}"
