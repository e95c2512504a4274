"""What remedies change: a panel per metric, a row per remedy, and in it a dot with its interval for each task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

NAME = 24  # characters of a remedy beside its row
HEAD = 150  # pixels of heading and legend
BETWEEN = 76  # pixels from one panel to the next: an axis, its title and a heading
DOT, LEAST = 15, 30  # pixels of a task in a row, and of a row at least
COLUMNS = ("remedy", "versus", "task", "metric", "seeds", "before", "after", "gain", "low", "high", "verdict")


def remedy_changes(frame: pd.DataFrame) -> go.Figure:
    """Draw what each remedy changes in each task, and whether the interval tells it from nothing.

    Args:
        frame: as `analysis.remedy_changes` returns it.

    Returns:
        A panel per metric with the gain across, in the metric's own unit, to the right better; a row per remedy and in
        it a dot per task in the task's colour with its interval. A dot is filled where the interval lies on one side
        of 0.

    Raises:
        FrameError: a column is missing.
    """
    question, says = (
        "Does the remedy help?",
        "gain over before, right is better, with its interval · filled: told from 0",
    )
    needed(frame, COLUMNS, "remedy_changes")
    if not np.isfinite(finite(frame["gain"])).any():
        return theme.noted(question, says, "No seed has both runs, so there is no change to show.")
    tasks = theme.names(frame["task"])
    parts = [(str(name), part) for name, part in frame.groupby("metric", sort=False, observed=True)]
    tall = [max(LEAST, DOT * part["task"].nunique() + 6) * len(_rows(part)) for _, part in parts]
    plot = sum(tall) + BETWEEN * (len(parts) - 1)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": []}
    top = plot
    shown: set[object] = set()
    for index, ((metric, part), height) in enumerate(zip(parts, tall, strict=True)):
        number = str(index + 1) if index else ""
        data += _dots(part, tasks, number, shown)
        domain = [max(0.0, (top - height) / plot), top / plot]
        layout |= _axes(part, number, domain, metric)
        top -= height + BETWEEN
    shared = theme.layout(question, says, height=HEAD + plot)
    return theme.figure(data, shared | layout | {"hovermode": "closest"})


def _rows(part: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the rows of a panel from the top: each remedy, and what it is measured against."""
    return [(str(a), str(b)) for a, b in part[["remedy", "versus"]].drop_duplicates().itertuples(index=False)]


def _dots(part: pd.DataFrame, tasks: list[object], number: str, shown: set[object]) -> list[dict[str, Any]]:
    """Return a trace per task of a panel; a task stands in the legend once."""
    places = {row: float(index) for index, row in enumerate(_rows(part))}
    own_tasks = [task for task in tasks if (part["task"] == task).any()]
    short = theme.short_names(tasks)
    traces = []
    for beside, task in enumerate(own_tasks):
        own, place = part[(part["task"] == task).to_numpy()], tasks.index(task)
        gain, low, high = (finite(own[name]) for name in ("gain", "low", "high"))
        offset = (beside - (len(own_tasks) - 1) / 2) * 0.7 / len(own_tasks)
        bar = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": theme.colour(place)}
        bar |= {"array": np.nan_to_num(high - gain), "arrayminus": np.nan_to_num(gain - low)}
        decided = own["verdict"].isin(["positive", "negative"]).to_numpy(bool)
        mark = {"color": theme.colour(place), "size": 9, "line": {"width": 2, "color": theme.colour(place)}}
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "name": short[place]}
        trace |= {
            "x": gain,
            "y": [
                places[row] + offset for row in zip(own["remedy"].astype(str), own["versus"].astype(str), strict=True)
            ],
        }
        trace |= {"error_x": bar, "marker": mark | {"symbol": np.where(decided, "circle", "circle-open")}}
        trace |= {"xaxis": f"x{number}", "yaxis": f"y{number}", "legendgroup": short[place]}
        trace |= {"legendrank": 1000 + place, "showlegend": task not in shown}
        trace["text"] = [
            f"{theme.literal(r)}<br>over {theme.literal(v)}" for r, v in zip(own["remedy"], own["versus"], strict=True)
        ]
        trace["customdata"] = np.stack(
            [finite(own[name]) for name in ("before", "after", "low", "high", "seeds")], axis=-1
        )
        trace["hovertemplate"] = (
            f"{short[place]}: %{{x:+.3~g}} (%{{customdata[2]:.3~g}} to %{{customdata[3]:.3~g}})<br>%{{text}}<br>"
            "%{customdata[0]:.4~g} → %{customdata[1]:.4~g}, %{customdata[4]} seeds<extra></extra>"
        )
        shown.add(task)
        traces.append(trace)
    return traces


def _axes(part: pd.DataFrame, number: str, domain: list[float], metric: str) -> dict[str, Any]:
    rows = _rows(part)
    several = len({versus for _, versus in rows}) > 1
    remedies = theme.short_names([remedy for remedy, _ in rows], NAME)
    versus = theme.short_names([versus for _, versus in rows], NAME) if several else []
    text = (
        [f"{a}<br><i>over {b}</i>" for a, b in zip(remedies, [theme.literal(v, NAME) for _, v in rows], strict=True)]
        if versus
        else remedies
    )
    names: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": text}
    names |= {"automargin": True, "showgrid": False, "zeroline": False, "range": [len(rows) - 0.5, -0.5]}
    across = theme.value_axis(f"gain in {theme.literal(metric)}", zero_line=True)
    across |= {"automargin": False, "anchor": f"y{number}", "nticks": 7}
    return {f"xaxis{number}": across, f"yaxis{number}": names | {"anchor": f"x{number}", "domain": domain}}
