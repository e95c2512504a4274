"""One look for every figure: a task's colour and dash, the heading, the axes, and names that are shown literally."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

COLOURS = ("#1b7fc0", "#d55e00", "#009e73", "#c46f9e", "#a87b2d", "#8256e4", "#2a7773", "#7c7c7c")
"""After Okabe and Ito, darkened or moved where a colour had less than 3:1 contrast to white or to near-black."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
NEUTRAL = "#808080"  # zero lines and notes, readable on white and on near-black
FAINT = 0.25  # opacity of what was discarded by a rewind
BAND = 0.14  # opacity of the area between a bucket's minimum and maximum
HEIGHT = 380  # pixels
MARGIN = {"l": 62, "r": 18, "t": 12, "b": 46}  # pixels
NAME_LENGTH = 28  # characters of a name that a legend shows

DIVERGING = ((0.0, "#c8471c"), (0.25, "#eda583"), (0.5, "#ebebeb"), (0.75, "#84b7d9"), (1.0, "#0f6cab"))
"""From conflict (vermillion) over neutral to agreement (blue)."""

SEQUENTIAL = ((0.0, "#ebebeb"), (0.5, "#eda583"), (1.0, "#b53a10"))
"""From no conflict to conflict at every step."""

TEMPLATE = go.layout.Template(
    layout={
        "colorway": list(COLOURS),
        "hovermode": "x unified",
        "hoverlabel": {"namelength": -1},
    }
)
"""Has no background, font or grid colour: the page that shows a figure sets these, light or dark."""


def colour(index: int) -> str:
    """Return the colour of the task at `index` in the log's order."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> str:
    """Return the dash of the task at `index`; with the colour it tells 40 tasks apart."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def translucent(hex_colour: str, opacity: float) -> str:
    """Return `#rrggbb` as an `rgba()` of that opacity."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def literal(name: object, length: int | None = None) -> str:
    """Return `name` so that plotly shows it as it is, cut in the middle to `length` characters.

    plotly reads `<b>`, `&lt;` and, where MathJax is loaded, `$…$` in every text. Cutting comes before escaping, so that
    no entity is cut in two; the end of a name stays, since long names often differ only there.
    """
    text = " ".join(str(name).split())
    if length is not None and len(text) > length:
        tail = (length - 1) // 3
        text = f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"
    return html.escape(text, quote=False).replace("$", "&#36;")


def names(column: pd.Series) -> list[object]:
    """Return the names that a task column knows, in the order that carries their colours."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return list(column.dropna().unique())


def places(column: pd.Series) -> NDArray[np.intp]:
    """Return each row's place in `names(column)`, -1 where it has none."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.intp)
    return pd.Index(names(column)).get_indexer(pd.Index(column))


def heading(question: str, quantity: str) -> str:
    """Return a figure's heading: the question that it answers, and below it the quantity."""
    return f'<b>{question}</b><br><span style="font-size:12px">{quantity}</span>'


def layout(question: str, quantity: str, *, height: int = HEIGHT, legend: bool = True) -> dict[str, Any]:
    """Return the layout that all figures share.

    With a legend the heading is the legend's title: plotly then stacks heading, legend and plot exactly, at any width
    and with any number of rows, where a layout title and a wrapped legend would overlap.
    """
    title = {"text": heading(question, quantity), "font": {"size": 15}}
    shared: dict[str, Any] = {
        "template": TEMPLATE,
        "height": height,
        "margin": dict(MARGIN),
        "meta": {"question": question, "quantity": quantity},
    }
    if legend:
        box = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        box |= {"maxheight": 0.4, "tracegroupgap": 2, "bgcolor": "rgba(0,0,0,0)"}  # a label may reach below it
        shared["legend"] = box | {"title": title | {"side": "top"}, "titleclick": False}
        shared["showlegend"] = True
    else:
        place = {"x": 0, "xanchor": "left", "xref": "container", "y": 1, "yanchor": "top", "yref": "container"}
        shared["title"] = title | place | {"pad": {"l": MARGIN["l"], "t": 24}}
        shared["margin"] |= {"t": 76}
    return shared


def step_axis(steps: pd.Series) -> dict[str, Any]:
    """Return the horizontal axis that all curves share: updates done, from 0."""
    axis: dict[str, Any] = {"title": {"text": "step", "standoff": 8}, "rangemode": "tozero", "zeroline": False}
    axis |= {"hoverformat": ",.0f", "unifiedhovertitle": {"text": "step %{x}"}}
    if len(steps) and steps.max() <= 10:
        axis["dtick"] = 1  # there is no half step
    return axis


def value_axis(title: str, *, log: bool = False, zero_line: bool = False) -> dict[str, Any]:
    """Return a vertical axis; a logarithmic one labels powers of ten as 10⁻² rather than 10m."""
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 6}, "automargin": True, "zeroline": zero_line}
    if zero_line:
        axis |= {"zerolinecolor": NEUTRAL, "zerolinewidth": 1, "rangemode": "tozero"}
    if log:
        axis |= {"type": "log", "exponentformat": "power", "nticks": 6}  # more would print 6, 7, 8 and 9
    return axis


def figure(data: Sequence[dict[str, Any]], layout: dict[str, Any]) -> go.Figure:
    """Return the figure of these traces.

    Unvalidated: checking properties takes plotly five times as long as all else, in the interpreter that trains the
    model. The tests check that each figure is valid.
    """
    return go.Figure({"data": list(data), "layout": layout}, _validate=False)


def noted(question: str, quantity: str, note: str) -> go.Figure:
    """Return a figure without data that says why it has none."""
    blank = {"visible": False}
    shared = layout(question, quantity, legend=False)
    text = {"text": literal(note), "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    extra = {"xaxis": blank, "yaxis": blank, "annotations": [text | {"font": {"size": 13, "color": NEUTRAL}}]}
    return figure([], shared | extra)


def short_names(full: Sequence[object], length: int = NAME_LENGTH) -> list[str]:
    """Return the names cut and made literal, told apart by a number where cutting made two equal."""
    cut = [literal(name, length) for name in full]
    seen: dict[str, int] = {}
    for index, name in enumerate(cut):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            cut[index] = f"{name} ({seen[name]})"
    return cut
