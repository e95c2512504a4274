"""What other weightings would have done: how often they help every task, what they do to each, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import FEW, Flags, Pen, finite, joined, needed, rows

HOLDS = "holds at each step of the trajectory that was taken,<br>not for a training run of its own"
"""What every figure of a replay says below its heading."""

REPLAYED = "#5f7f3f"
"""Methods are told apart by name: this is none of the tasks' colours."""

PARTLY = 0.45  # opacity of what only does no harm
METHOD_NAME = 24  # characters of a method's name
COLUMNS = 2  # panels side by side, also in a narrow cell
PANEL, BAR = 116, 26  # pixels of height per row of panels, and per bar
CHANGES = ("step", "method", "task", "change", "relative", "count")
"""Columns of what methods do to tasks."""

ABOVE, HEAD = 26, 170  # pixels: the name above a panel; heading, legend and step axis together


def improvement_share(frame: pd.DataFrame) -> go.Figure:
    """Draw in which share of the steps each method's update improves every task, the best first.

    Args:
        frame: as `analysis.improvement_share` returns it.

    Returns:
        Bars: the share at which no task gets worse (light), and on it the share at which every task improves; first
        of the replayed methods, then of what was taken.

    Raises:
        FrameError: a column is missing.
    """
    question, says = "Who would help every task?", f"share of steps, to first order<br>{HOLDS}"
    needed(frame, ("method", "all_improve", "none_worsens", "steps"), "improvement_share")
    shown = frame[frame["steps"] > 0].reset_index(drop=True)
    if shown.empty:
        return theme.noted(question, says, "No step recorded yet.")
    methods = [str(name) for name in shown["method"]]
    own = np.array([name == "taken" for name in methods])
    data = []
    for column, name, opacity in (
        ("none_worsens", "no task gets worse", PARTLY),
        ("all_improve", "every task improves", 1.0),
    ):
        for chosen, colour in ((~own, REPLAYED), (own, theme.NEUTRAL)):
            line = rows(shown, ("all_improve", "none_worsens", "steps"), chosen)
            data.append(_bars(line, np.flatnonzero(chosen), column, name, theme.translucent(colour, opacity)))
            data[-1]["showlegend"] = bool(colour == (REPLAYED if (~own).any() else theme.NEUTRAL))
    names = [
        f"<b>{name}</b>" if mine else name
        for name, mine in zip(theme.short_names(methods, METHOD_NAME), own, strict=True)
    ]
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": np.arange(len(names)), "ticktext": names}
    vertical: dict[str, Any] = ticks | {
        "automargin": True,
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
        "zeroline": False,
    }
    horizontal: dict[str, Any] = {"title": {"text": "share of steps", "standoff": 8}, "tickformat": ".0%"}
    horizontal |= {"range": [0, 1.3], "tickvals": [0, 0.25, 0.5, 0.75, 1], "zeroline": False}
    shared = theme.layout(question, says, height=max(260, HEAD + BAR * len(names)))
    shared["legend"]["traceorder"] = "reversed"  # what lies on top comes first
    shared |= {"barmode": "overlay", "bargap": 0.25, "hovermode": "closest"}
    return theme.figure(data, shared | {"xaxis": horizontal, "yaxis": vertical})


def predicted_changes(frame: pd.DataFrame, *, own_unit: bool = False) -> go.Figure:
    """Draw what each method's update would do to each task's loss over the steps, a panel per method.

    Args:
        frame: as `analysis.predicted_changes` returns it.
        own_unit: draw the change in the unit of each task's own loss; else divided by ‖g_t‖, which compares tasks:
            −1 is straight down a task's own gradient, above 0 its loss grows.

    Returns:
        Per panel a line per task; the first panel is what was taken. All panels share both axes.

    Raises:
        FrameError: a column is missing.
    """
    said = "predicted change of each loss" + (", per unit of update" if own_unit else " ÷ its gradient norm")
    says = f"{said} (below 0: improves)<br>{HOLDS}"
    needed(frame, CHANGES, "predicted_changes")
    quantity, unit = ("change", "change") if own_unit else ("relative", "change / ‖g‖")
    return changes_by_method(frame, quantity, unit, "What would they do to each task?", says)


def changes_by_method(frame: pd.DataFrame, quantity: str, unit: str, question: str, says: str) -> go.Figure:
    """Draw one quantity of a frame with the columns `CHANGES` over the steps, a panel per method."""
    known = np.isfinite(finite(frame[quantity]))
    places = theme.places(frame["method"])
    drawn = np.unique(places[known])
    if not len(drawn):
        return theme.noted(question, says, "No step recorded yet.")
    methods = [str(theme.names(frame["method"])[place]) for place in drawn]
    columns = min(COLUMNS, len(methods))
    data, pens = [], _pens(frame)
    for panel, place in enumerate(drawn):
        data += _panel(frame, places == place, quantity, panel, pens)
    height = max(theme.HEIGHT, HEAD + PANEL * -(-len(methods) // columns))
    shared = theme.layout(question, says, height=height)
    return theme.figure(data, shared | _panels(frame, methods, unit, columns, height))


def weights_side_by_side(frame: pd.DataFrame, a: str, b: str) -> go.Figure:
    """Draw the weights of two methods side by side, each normalised, since methods have scales of their own.

    Args:
        frame: as `analysis.replayed_weights` returns it.
        a: the method on the left. b: the one on the right.

    Returns:
        Two panels of w / Σ|w| with a line per task, on the same axes.

    Raises:
        FrameError: a column is missing, or one of the methods; the message lists them.
    """
    question, says = "Whom would they favour?", f"weights w / Σ|w|, since scales differ between methods<br>{HOLDS}"
    needed(frame, ("step", "method", "task", "normalised"), "weights_side_by_side", "replayed_weights")
    known = [str(name) for name in theme.names(frame["method"])]
    for name in (a, b):
        if name not in known:
            raise FrameError(
                f"figures.weights_side_by_side needs methods of its frame, {', '.join(known)}; not {name}."
            )
    places = theme.places(frame["method"])
    chosen = [places == known.index(name) for name in (a, b)]
    if not any(np.isfinite(finite(frame["normalised"])[rows]).any() for rows in chosen):
        return theme.noted(question, says, "No step recorded yet.")
    pens = _pens(frame)
    data = [trace for panel, some in enumerate(chosen) for trace in _panel(frame, some, "normalised", panel, pens)]
    shared = theme.layout(question, says)
    return theme.figure(data, shared | _panels(frame, [a, b], "weight w / Σ|w|", 2, theme.HEIGHT))


def _bars(line: dict[str, Any], at: np.ndarray, column: str, name: str, colour: str) -> dict[str, Any]:
    """Return the bars of one share; the longer, light ones carry the numbers of both."""
    some, all_ = line["none_worsens"].astype(np.float64), line["all_improve"].astype(np.float64)
    ends = [(_percent(a), _percent(n)) for a, n in zip(all_, some, strict=True)]
    texts = [a if a == n else f"{a} … {n}" for a, n in ends]
    written = {"text": texts, "textposition": "outside", "cliponaxis": False} if column == "none_worsens" else {}
    return written | {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "legendgroup": column,
        "x": line[column].astype(np.float64),
        "y": at,
        "marker": {"color": colour, "line": {"width": 0}},
        "customdata": np.stack([all_, some, line["steps"].astype(np.float64)], axis=-1),
        "hovertemplate": "every task improves at %{customdata[0]:.1%}<br>no task gets worse at %{customdata[1]:.1%}"
        "<br>of %{customdata[2]:,} steps<extra></extra>",
    }


def _percent(share: float) -> str:
    """Return a share in percent; one that is not quite all, or not quite none, is not written as that."""
    return "&gt;99%" if 0.995 <= share < 1 else "&lt;1%" if 0 < share < 0.005 else f"{share:.0%}"


def _panel(frame: pd.DataFrame, chosen: Flags, quantity: str, panel: int, pens: Sequence[Pen]) -> list[dict[str, Any]]:
    """Return a line per task on the axes of a panel; the first panel's lines are those of the legend."""
    line = rows(frame, ("step", quantity), chosen)
    step, value, at = line["step"].astype(np.float64), finite(line[quantity]), theme.places(frame["task"])[chosen]
    axes = {} if panel == 0 else {"xaxis": f"x{panel + 1}", "yaxis": f"y{panel + 1}"}
    data = []
    for index in np.unique(at):
        own, pen = at == index, pens[index]
        x, y = joined(step[own], value[own], np.ones(int(own.sum()), dtype=bool))
        few = {"mode": "lines+markers", "marker": {"color": pen.colour, "size": 4}}
        trace = {"type": "scatter", "name": pen.name, "legendgroup": pen.name, "showlegend": panel == 0, "x": x, "y": y}
        trace |= few if len(x) <= FEW else {"mode": "lines"}
        stroke = {"color": pen.colour, "dash": pen.dash, "width": pen.width}
        hover = f"{pen.name}<br>step %{{x:,.0f}}<br>%{{y:.4~g}}<extra></extra>"
        data.append(trace | axes | {"line": stroke, "hovertemplate": hover})
    return data


def _pens(frame: pd.DataFrame) -> list[Pen]:
    names = theme.short_names(theme.names(frame["task"]))
    return [Pen(name, theme.colour(index), theme.dash(index), 1.6) for index, name in enumerate(names)]


def _panels(frame: pd.DataFrame, methods: Sequence[str], unit: str, columns: int, height: int) -> dict[str, Any]:
    """Return the axes of the panels, from left to right and top to bottom, and the methods' names above them."""
    down = -(-len(methods) // columns)
    between, aside = ABOVE / (height - HEAD), 0.05  # parts of the plot
    tall, wide = (1 - between * down) / down, (1 - aside * (columns - 1)) / columns
    layout: dict[str, Any] = {"hovermode": "closest", "annotations": []}
    for index, name in enumerate(theme.literal(name, METHOD_NAME) for name in methods):
        row, column = divmod(index, columns)
        number = "" if index == 0 else str(index + 1)
        left, bottom = column * (wide + aside), 1 - (row + 1) * (tall + between)
        x = theme.step_axis(frame["step"]) | {"domain": [left, left + wide], "anchor": f"y{number}"}
        y = theme.value_axis(unit, zero_line=True)
        y |= {"domain": [max(0.0, bottom), bottom + tall], "anchor": f"x{number}", "nticks": 5}
        y["title"]["font"] = {"size": 11}
        if index:
            x["matches"], y["matches"] = "x", "y"
        if index + columns < len(methods):
            x |= {"showticklabels": False, "title": {"text": ""}}
        if column:
            y |= {"showticklabels": False, "title": {"text": ""}}
        layout |= {f"xaxis{number}": x, f"yaxis{number}": y}
        place = {"x": 0, "xref": f"x{number} domain", "y": 1, "yref": f"y{number} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        layout["annotations"].append(place | look | {"text": f"<b>{name}</b>"})
    return layout
