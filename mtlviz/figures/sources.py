"""What sources do to a target, over the number of their samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import finite, outline

TALL, HEAD, FOOT = 170, 110, 50  # pixels: a panel, what is above all panels and below them
BETWEEN, NAME = 52, 18  # pixels: below a panel, and above the first ones for their names
COLUMNS = 2
ASIDE = 0.13  # of the width, between panels
ERRORS = {"regression": "Δ squared error", "classification": "Δ share of wrong signs"}
_COLUMNS = ("setting", "kind", "source", "source_samples", "difference", "low", "high")


def source_differences(frame: pd.DataFrame) -> go.Figure:
    """Draw the target's error with each source less its error alone, over the source's samples; a panel per setting.

    Args:
        frame: as `transfer.source_differences` returns it.

    Returns:
        Per panel a line and the area of its interval for each source, over a logarithmic axis.

    Raises:
        FrameError: a column is missing.
    """
    question = "Which source helps the target?"
    says = "error with a source − error alone: below 0 it helps.<br>Areas: intervals over seeds"
    if not isinstance(frame, pd.DataFrame) or any(column not in frame.columns for column in _COLUMNS):
        came = ", ".join(map(str, frame.columns)) if isinstance(frame, pd.DataFrame) else type(frame).__name__
        raise FrameError(f"figures.source_differences needs the frame of transfer.source_differences; got {came}")
    if not np.isfinite(finite(frame["difference"])).any():
        return theme.noted(question, "error with a source − error alone", "No differences.")
    settings, sources = theme.names(frame["setting"]), theme.names(frame["source"])
    layout = theme.layout(question, says, height=HEAD + _plot(len(settings)) + FOOT)
    layout |= {"hovermode": "closest", "annotations": []}
    data: list[dict[str, Any]] = []
    for panel, setting in enumerate(settings):
        own = frame[(frame["setting"] == setting).to_numpy()]
        _panel(layout, panel, len(settings), setting, own)
        for place, (source, name) in enumerate(zip(sources, theme.short_names(sources), strict=True)):
            data += _line(own[(own["source"] == source).to_numpy()], name, theme.colour(place), panel)
    return theme.figure(data, layout)


def _line(part: pd.DataFrame, name: str, colour: str, panel: int) -> list[dict[str, Any]]:
    """Return the area of the intervals and the line of one source in one panel."""
    if part.empty:
        return []
    part = part.sort_values("source_samples", kind="stable")
    sizes, middle, low, high = (finite(part[key]) for key in ("source_samples", "difference", "low", "high"))
    axes = {} if panel == 0 else {"xaxis": f"x{panel + 1}", "yaxis": f"y{panel + 1}"}
    shared = axes | {"type": "scatter", "name": name, "legendgroup": name}
    x, y = outline(sizes, low, high, np.ones(len(sizes), np.bool_))
    area = {"x": x, "y": y, "mode": "lines", "line": {"width": 0}, "fill": "toself", "hoverinfo": "skip"}
    area |= {"fillcolor": theme.translucent(colour, theme.BAND), "showlegend": False}
    hover = f"{name}<br>%{{x:,}} samples: %{{y:+.3~g}}<br>from %{{customdata[0]:+.3~g}} to %{{customdata[1]:+.3~g}}"
    line = {"x": sizes, "y": middle, "mode": "lines+markers", "showlegend": panel == 0}
    line |= {"line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 5}}
    line |= {"customdata": np.stack([low, high], axis=1), "hovertemplate": hover + "<extra></extra>"}
    return [shared | area, shared | line]


def _plot(panels: int) -> int:
    """Return the height in pixels of all panels, two beside each other."""
    return NAME + -(-panels // COLUMNS) * (TALL + BETWEEN) - BETWEEN


def _panel(layout: dict[str, Any], panel: int, panels: int, setting: object, own: pd.DataFrame) -> None:
    """Add the axes of one panel, and its name above it."""
    suffix = "" if panel == 0 else str(panel + 1)
    columns, whole = min(COLUMNS, panels), _plot(panels)
    across, row = panel % columns, panel // columns
    wide = (1 - ASIDE * (columns - 1)) / columns
    top = 1 - (NAME + row * (TALL + BETWEEN)) / whole
    left = across * (wide + ASIDE)
    sizes = np.unique(own["source_samples"].to_numpy())
    x = {"type": "log", "tickvals": sizes, "ticktext": [_short(size) for size in sizes], "zeroline": False}
    x |= {"domain": [left, min(1.0, left + wide)], "anchor": f"y{suffix}", "tickangle": 0}
    if panel + columns >= panels:
        x["title"] = {"text": "samples of the source", "standoff": 6, "font": {"size": 12}}
    y = theme.value_axis(ERRORS.get(str(own["kind"].iloc[0]), "Δ error"), zero_line=True)
    y |= {"domain": [max(0.0, top - TALL / whole), top], "anchor": f"x{suffix}", "nticks": 5, "automargin": False}
    y["title"]["font"] = {"size": 11}
    layout |= {f"xaxis{suffix}": x, f"yaxis{suffix}": y}
    place = {"x": 0, "xref": f"x{suffix} domain", "y": 1, "yref": f"y{suffix} domain", "xanchor": "left"}
    look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
    layout["annotations"].append(place | look | {"text": f"<b>{theme.literal(setting, theme.NAME_LENGTH)}</b>"})


def _short(size: float) -> str:
    """Return a number of samples as a tick says it: 300, 3k."""
    return f"{size / 1000:g}k" if size >= 1000 else f"{size:g}"
