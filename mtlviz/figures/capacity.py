"""How wide a trunk the tasks need: what each reaches alone and together over the width, a panel per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

COLUMNS = 3  # panels side by side, also in a narrow cell
NAME = 18  # characters of a task's name
LABELS = 5  # widths that an axis writes
PANEL, ABOVE, HEAD = 130, 48, 160  # pixels: a panel, the name above it; heading, legend and axis together
LINES = {"alone": ("dot", "circle-open"), "together": ("solid", "circle")}
_COLUMNS = ("kind", "task", "metric", "width", "seeds", "value", "low", "high", "best")


def capacity_curves(frame: pd.DataFrame, rule: pd.DataFrame | None = None, *, columns: int = COLUMNS) -> go.Figure:
    """Draw what each task reached over the width of the trunk, alone and together, a panel per task.

    Args:
        frame: as `analysis.capacity_curves` returns it.
        rule: as `analysis.capacity_rule` returns it of the same runs; its first row then stands in the heading.
        columns: panels side by side.

    Returns:
        Per panel a dotted line of the runs alone and a whole one of those together, with their intervals over seeds;
        a star marks the best width of each. Panels have vertical axes of their own.

    Raises:
        FrameError: a column is missing, or `columns` is no whole number from 1.
    """
    needed(frame, _COLUMNS, "capacity_curves")
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise FrameError(f"capacity_curves needs columns, a whole number from 1; got {columns!r}.")
    question = "How wide must the shared trunk be?"
    says = "validation over the width of the trunk<br>bars: interval over seeds; star: best width"
    if rule is not None:
        says += f"<br>{_said(rule)}"
    if not np.isfinite(finite(frame["value"])).any():
        return theme.noted(question, says, "No run has a value.")
    tasks = theme.names(frame["task"])
    colours = {name: theme.colour(place) for place, name in enumerate(n for n in tasks if n != "mean of tasks")}
    data: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines+markers", "x": [None], "y": [None], "name": kind, "hoverinfo": "skip"}
        | {"line": {"color": theme.NEUTRAL, "dash": dash, "width": 2}, "marker": {"symbol": symbol, "size": 7}}
        for kind, (dash, symbol) in LINES.items()
    ]
    for place, task in enumerate(tasks):
        own = frame[(frame["task"] == task).to_numpy()]
        axes = {"xaxis": f"x{place + 1 if place else ''}", "yaxis": f"y{place + 1 if place else ''}"}
        for kind in LINES:
            line = own[(own["kind"] == kind).to_numpy()]
            data += [trace | axes for trace in _line(line, kind, colours.get(task, theme.NEUTRAL))]
    down = -(-len(tasks) // columns)
    height = HEAD + (PANEL + ABOVE) * down
    shared = theme.layout(question, says, height=height)
    return theme.figure(data, shared | _panels(frame, tasks, min(columns, len(tasks)), height))


def _line(line: pd.DataFrame, kind: str, colour: str) -> list[dict[str, Any]]:
    """Return a line with its intervals, and the star at its best width."""
    dash, symbol = LINES[kind]
    value, low, high = (finite(line[name]) for name in ("value", "low", "high"))
    bars = {"type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": colour}
    bars |= {"array": np.nan_to_num(high - value), "arrayminus": np.nan_to_num(value - low)}
    shown: dict[str, Any] = {
        "type": "scatter",
        "x": line["width"].to_numpy(np.float64),
        "y": value,
        "showlegend": False,
        "name": kind,
    }
    shown["customdata"] = np.stack([low, high, line["seeds"].to_numpy(np.float64)], axis=-1)
    shown["hovertemplate"] = (
        f"{kind}, width %{{x}}: %{{y:.4g}}<br>from %{{customdata[0]:.4g}} to %{{customdata[1]:.4g}}, "
        "%{customdata[2]} seeds<extra></extra>"
    )
    best = line["best"].to_numpy(bool)
    star: dict[str, Any] = {"symbol": "star" if kind == "together" else "star-open", "size": 11, "color": colour}
    star |= {"line": {"color": colour, "width": 1.5}}
    return [
        shown
        | {"mode": "lines+markers", "error_y": bars, "line": {"color": colour, "dash": dash, "width": 2}}
        | {"marker": {"symbol": symbol, "size": 6, "color": colour}},
        {"type": "scatter", "mode": "markers", "x": shown["x"][best], "y": value[best], "marker": star}
        | {"showlegend": False, "hoverinfo": "skip"},
    ]


def _said(rule: pd.DataFrame) -> str:
    """Return what the first row of a rule says."""
    needed(rule, ("together", "alone", "holds", "settled", "seeds", "share"), "capacity_curves", "capacity_rule")
    first = rule.iloc[0]
    if pd.isna(first["holds"]):
        return "the rule of thumb has no answer: runs are missing"
    sign, verdict = ("<", "holds") if first["holds"] else ("≥", "does not hold")
    count = int(first["seeds"])
    agree = f"in {round(float(first['share']) * count)} of {count} seeds{'' if first['holds'] else ' it does'}"
    open_end = "" if first["settled"] else "; widths too few to be sure"
    return (
        f"together {first['together']} {sign} sum of the best alone {first['alone']}:<br>"
        f"the rule of thumb {verdict} ({agree}{open_end})"
    )


def _panels(frame: pd.DataFrame, tasks: Sequence[object], columns: int, height: int) -> dict[str, Any]:
    """Return the axes of the panels, and the tasks' names above them."""
    down = -(-len(tasks) // columns)
    between, aside = ABOVE / (height - HEAD), 0.13 if columns > 1 else 0.0  # parts of the plot
    tall, wide = (1 - between * down) / down, (1 - aside * (columns - 1)) / columns
    widths = np.unique(frame["width"].to_numpy(np.float64))
    written = widths[:: -(-len(widths) // LABELS)]
    edge = [np.log10(widths[0]) - 0.08, np.log10(widths[-1]) + 0.08]
    layout: dict[str, Any] = {"hovermode": "closest", "annotations": []}
    metric = dict(zip(frame["task"].astype(object), frame["metric"].astype(object), strict=True))
    for place, task in enumerate(tasks):
        number = str(place + 1) if place else ""
        row, column = divmod(place, columns)
        left, bottom = column * (wide + aside), 1 - (row + 1) * (tall + between)
        x = {"type": "log", "domain": [left, left + wide], "anchor": f"y{number}", "range": edge, "zeroline": False}
        x |= {"tickmode": "array", "tickvals": written, "ticktext": [f"{width:g}" for width in written]}
        if place + columns >= len(tasks):
            x["title"] = {"text": "width", "standoff": 4, "font": {"size": 12}}
        y = theme.value_axis(theme.literal(metric[task], NAME)) | {"anchor": f"x{number}", "nticks": 5}
        y |= {"domain": [max(0.0, bottom), bottom + tall], "automargin": column == 0}
        y["title"] |= {"font": {"size": 11}}
        layout |= {f"xaxis{number}": x, f"yaxis{number}": y}
        at = {"x": 0, "xref": f"x{number} domain", "y": 1, "yref": f"y{number} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        layout["annotations"].append(at | look | {"text": f"<b>{theme.literal(task, NAME)}</b>"})
    return layout
