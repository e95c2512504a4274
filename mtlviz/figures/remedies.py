"""What remedies change: a panel per metric, a row per remedy, and in it a dot with its interval for each task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

NAME = 24  # characters of a remedy beside its row
HEAD = 168  # pixels of heading, legend and the last axis
BETWEEN = 76  # pixels from one panel to the next: an axis and its title
LEAST = 120  # pixels of all panels: below, the legend would scroll
DOT, ROW = 15, 40  # pixels of a task in a row, and of a row at least
COLUMNS = ("remedy", "versus", "task", "metric", "seeds", "before", "after", "gain", "low", "high", "verdict")


def remedy_changes(frame: pd.DataFrame) -> go.Figure:
    """Draw what each remedy changes in each task, and whether the interval tells it from nothing.

    Args:
        frame: as `analysis.remedy_changes` returns it.

    Returns:
        A panel per metric with the gain across, in the metric's own unit, to the right better; a row per remedy and in
        it a dot per task in the task's colour with its interval. A dot is filled where the interval lies on one side
        of 0. Where remedies are measured against several, each row says against which.

    Raises:
        FrameError: a column is missing.
    """
    question = "Does the remedy help?"
    needed(frame, COLUMNS, "remedy_changes")
    over = [theme.literal(name, NAME) for name in frame["versus"].unique()]
    before = f"“{over[0]}”" if len(over) == 1 else "before"
    says = f"gain over {before}, to the right better<br>with its interval over seeds; filled: told from 0"
    if not np.isfinite(finite(frame["gain"])).any():
        return theme.noted(question, says, "No seed has both runs, so there is no change to show.")
    tasks = theme.names(frame["task"])
    data = _legend(frame, tasks)
    parts = [(str(name), part) for name, part in frame.groupby("metric", sort=False, observed=True)]
    tall = [max(ROW, DOT * part["task"].nunique() + 6) * len(_rows(part)) for _, part in parts]
    tall = [round(height * max(1.0, LEAST / sum(tall))) for height in tall]
    plot = sum(tall) + BETWEEN * (len(parts) - 1)
    layout: dict[str, Any] = {}
    top = plot
    for index, ((metric, part), height) in enumerate(zip(parts, tall, strict=True)):
        number = str(index + 1) if index else ""
        data += _dots(part, tasks, number)
        layout |= _axes(part, number, metric, several=len(over) > 1)
        layout[f"yaxis{number}"] |= {"domain": [max(0.0, (top - height) / plot), top / plot]}
        top -= height + BETWEEN
    shared = theme.layout(question, says, height=HEAD + plot)
    return theme.figure(data, shared | layout | {"hovermode": "closest"})


def _rows(part: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the rows of a panel from the top: each remedy, and what it is measured against."""
    return list(dict.fromkeys(_row_of_each(part)))


def _row_of_each(part: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(part["remedy"].astype(str), part["versus"].astype(str), strict=True))


def _legend(frame: pd.DataFrame, tasks: list[object]) -> list[dict[str, Any]]:
    """Return a filled dot for each task, without a place: those of the panels may be hollow."""
    mark = {"size": 9, "symbol": "circle"}
    return [
        {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip"}
        | {"name": name, "legendgroup": name, "marker": mark | {"color": theme.colour(place)}}
        for place, (task, name) in enumerate(zip(tasks, theme.short_names(tasks), strict=True))
        if (frame["task"] == task).any()
    ]


def _dots(part: pd.DataFrame, tasks: list[object], number: str) -> list[dict[str, Any]]:
    """Return a trace per task of a panel."""
    rows, short = {row: float(index) for index, row in enumerate(_rows(part))}, theme.short_names(tasks)
    present = [task for task in tasks if (part["task"] == task).any()]
    traces = []
    for beside, task in enumerate(present):
        own, place = part[(part["task"] == task).to_numpy()], tasks.index(task)
        numbers = {name: finite(own[name]) for name in ("before", "after", "low", "high", "seeds", "gain")}
        gain, colour = numbers["gain"], theme.colour(place)
        bar = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": colour}
        bar |= {"array": np.nan_to_num(numbers["high"] - gain), "arrayminus": np.nan_to_num(gain - numbers["low"])}
        decided = own["verdict"].isin(["positive", "negative"]).to_numpy(bool)
        mark = {"color": colour, "size": 9, "line": {"width": 2, "color": colour}}
        offset = (beside - (len(present) - 1) / 2) * 0.7 / len(present)
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "name": short[place], "showlegend": False}
        trace |= {"x": gain, "y": [rows[row] + offset for row in _row_of_each(own)], "legendgroup": short[place]}
        trace |= {"error_x": bar, "marker": mark | {"symbol": np.where(decided, "circle", "circle-open")}}
        trace |= {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        trace["text"] = [f"{theme.literal(a)}<br>over {theme.literal(b)}" for a, b in _row_of_each(own)]
        trace["customdata"] = np.stack(list(numbers.values()), axis=-1)
        trace["hovertemplate"] = (
            f"{short[place]}: %{{x:+.3~g}} (%{{customdata[2]:.3~g}} to %{{customdata[3]:.3~g}})<br>%{{text}}<br>"
            "%{customdata[0]:.4~g} → %{customdata[1]:.4~g}, %{customdata[4]} seeds<extra></extra>"
        )
        traces.append(trace)
    return traces


def _axes(part: pd.DataFrame, number: str, metric: str, *, several: bool) -> dict[str, Any]:
    """Return the axes of a panel; `several`: rows differ in what they are measured against, and say it."""
    rows = _rows(part)
    text = theme.short_names([remedy for remedy, _ in rows], NAME)
    if several:
        text = [f"{name}<br><i>over {theme.literal(b, NAME)}</i>" for name, (_, b) in zip(text, rows, strict=True)]
    names: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": text}
    names |= {"automargin": True, "showgrid": False, "zeroline": False, "range": [len(rows) - 0.5, -0.5]}
    across = theme.value_axis(f"gain in {theme.literal(metric)}", zero_line=True)
    across |= {"automargin": False, "anchor": f"y{number}", "nticks": 7}
    return {f"xaxis{number}": across, f"yaxis{number}": names | {"anchor": f"x{number}"}}
