"""When each task would have stopped with one patience or another: a counterfactual, drawn as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import needed

LINE = 19  # pixels of height per task and patience
APART = 0.8  # between the lines of two tasks, in lines
NAME = 18  # characters of a task's name beside its lines


def convergence(frame: pd.DataFrame) -> go.Figure:
    """Draw for each task and patience the validation that would have been kept, and the one that would have decided.

    Args:
        frame: as `analysis.convergence` returns it.

    Returns:
        Per task, in the log's order, a line for each patience: from the star, its best, to the diamond, where it
        would have stopped, with the patience beside it; a dotted line to the last validation where it would not.

    Raises:
        FrameError: a column is missing.
    """
    question = "When would each task have stopped?"
    says = "counterfactual, with a patience of n validations: ★ kept, ◆ stopped, dotted: not within the run"
    columns = ("task", "patience", "converged", "step", "best_step", "best", "final_step", "final", "lost")
    needed(frame, columns, "convergence")
    at = _lines(frame)
    shown = np.isfinite(_steps(frame, "best_step"))
    if not shown.any():
        return theme.noted(question, says, "No validation yet.")
    names, places = theme.names(frame["task"]), theme.places(frame["task"])
    short = theme.short_names(names, NAME)
    data: list[dict[str, Any]] = []
    ticks: dict[float, str] = {}
    for place in np.unique(places):
        own = places == place
        ticks[float(at[own].mean())] = short[place]
        data += _task(frame[own & shown], at[own & shown], short[place], theme.colour(int(place)))
    axis: dict[str, Any] = {"range": [float(at.max()) + 0.8, float(at.min()) - 0.8], "tickvals": list(ticks)}
    axis |= {"ticktext": list(ticks.values()), "automargin": True, "showgrid": False, "zeroline": False}
    axis |= {"fixedrange": True, "ticklabelstandoff": 6}
    height = max(230, 120 + round(LINE * (float(at.max() - at.min()) + 1.6)))
    shared = theme.layout(question, says, height=height, legend=False)
    ends = theme.step_axis(pd.Series(_steps(frame, "final_step")))
    return theme.figure(data, shared | {"xaxis": ends, "yaxis": axis, "hovermode": "closest"})


def _lines(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return the height of each row's line, counted in lines from the top, with room between two tasks."""
    places, patience = theme.places(frame["task"]), frame["patience"].to_numpy(np.int64)
    order = np.lexsort((patience, places))
    at = np.empty(len(frame))
    at[order] = np.arange(len(frame)) + APART * np.cumsum(np.diff(places[order], prepend=places[order][:1]) != 0)
    return at


def _task(rows: pd.DataFrame, at: NDArray[np.float64], name: str, colour: str) -> list[dict[str, Any]]:
    """Return the lines of a task: those that would have stopped, then those that would not."""
    kept, converged = _steps(rows, "best_step"), rows["converged"].to_numpy(bool)
    end = np.where(converged, _steps(rows, "step"), _steps(rows, "final_step"))
    said = [_said(name, row) for row in rows.itertuples()]
    shared = {"type": "scatter", "name": name, "legendgroup": name, "showlegend": False, "cliponaxis": False}
    traces = []
    for chosen, symbol, dash in ((converged, "diamond", "solid"), (~converged, "line-ns-open", "dot")):
        count = int(chosen.sum())
        x, y = (np.full((count, 3), np.nan) for _ in range(2))
        x[:, 0], x[:, 1], y[:, :2] = kept[chosen], end[chosen], at[chosen][:, None]
        numbers = [f" {n}" for n in rows["patience"].to_numpy()[chosen]]
        texts = [text for n in numbers for text in ("", n, "")]
        hover = [text for row in np.flatnonzero(chosen) for text in (said[row], said[row], "")]
        marker = {"symbol": ["star", symbol, "circle"] * count, "size": 10, "color": colour, "opacity": 1.0}
        traces.append(
            shared
            | {"x": x.ravel(), "y": y.ravel(), "mode": "lines+markers+text", "line": {"color": colour, "dash": dash}}
            | {"text": texts, "textposition": "middle right", "textfont": {"color": colour, "size": 11}}
            | {"marker": marker, "customdata": hover, "hovertemplate": "%{customdata}<extra></extra>"}
        )
    return traces


def _said(name: str, row: Any) -> str:
    """Return what the hover box says of a line."""
    then = f"would have stopped at step {row.step:,.0f}" if row.converged else "would not have stopped within the run"
    lost = (
        "nothing lost" if row.lost == 0 else f"{abs(row.lost):.3g} {'lost since' if row.lost > 0 else 'gained since'}"
    )
    return f"{name}, patience {row.patience}: {then}<br>best {row.best:.4g} at step {row.best_step:,.0f}; {lost}"


def _steps(frame: pd.DataFrame, column: str) -> NDArray[Any]:
    """Return a column of steps, NaN where there is none."""
    return frame[column].astype("Float64").to_numpy(np.float64, na_value=np.nan)
