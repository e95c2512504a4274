"""EMTL's relative rates along the Pareto set: where they are equal, and whether that depends on the scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures import theme
from mtlviz.figures.equity import EMTL_SAYS, FORMS, needed, number, single
from mtlviz.figures.lines import finite

HEIGHT = 420  # pixels
WIDEST, NARROWEST = 12.0, 2.0  # pixels: lines that coincide are seen one inside the other
COLOURS = tuple(theme.COLOURS[index] for index in (4, 3, 5, 0, 6))
PLACE = "place on the Pareto set: 0 loss 1's minimum, 1 loss 2's"
ASIDE = 0.03  # of the width, between panels


def rate_balance(frame: pd.DataFrame) -> go.Figure:
    """Draw whom EMTL's p favours along the Pareto set, a panel per form of rate, a line per scale of loss 1.

    Args:
        frame: as `pareto.rate_balance` returns it.

    Returns:
        Per panel the balance of the two rates over the place on the set, a line per scale; the smallest scale's line is
        the widest and lies below, so that lines that coincide are all seen.

    Raises:
        FrameError: a column is missing, or two rows have the same place.
    """
    question = "Where on the front are the rates equal?"
    says = "(r₁ − r₂) / (|r₁| + |r₂|). Above 0, p leads to the left,"
    says = f"{says}<br>below to the right; it rests where a line rises<br>through 0. EMTL is a reconstruction"
    needed(frame, ("rate", "scale", "place", "balance", "gap"), "rate_balance", "rate_balance")
    single(frame, ("rate", "scale", "place"), "rate_balance")
    if not np.isfinite(finite(frame["balance"])).any():
        return theme.noted(question, EMTL_SAYS, "No rates.")
    rates, scales = list(frame["rate"].unique()), sorted(frame["scale"].unique())
    widths = np.geomspace(WIDEST, NARROWEST, len(scales)) if len(scales) > 1 else [NARROWEST]
    data, layout = [], theme.layout(question, says, height=HEIGHT) | {"hovermode": "closest", "annotations": []}
    for panel, rate in enumerate(rates):
        for order, scale in enumerate(scales):
            chosen = ((frame["rate"] == rate) & (frame["scale"] == scale)).to_numpy()
            pen = {"color": COLOURS[order % len(COLOURS)], "width": float(widths[order])}
            data.append(_line(frame[chosen], scale, panel, pen))
        _panel(layout, panel, len(rates), FORMS.get(rate, theme.literal(rate)))
    below = {"x": 0.5, "xref": "paper", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -24, "showarrow": False}
    layout["annotations"].append(below | {"text": PLACE, "font": {"size": 12}})
    return theme.figure(data, layout)


def _line(part: pd.DataFrame, scale: float, panel: int, pen: dict[str, Any]) -> dict[str, Any]:
    """Return the line of one scale in one panel."""
    name = f"loss 1 × {number(scale)}"
    axes = {} if panel == 0 else {"xaxis": f"x{panel + 1}", "yaxis": f"y{panel + 1}"}
    return axes | {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": name,
        "showlegend": panel == 0,
        "x": part["place"].to_numpy(np.float64),
        "y": part["balance"].to_numpy(np.float64),
        "customdata": part["gap"].to_numpy(np.float64),
        "line": pen | {"simplify": False},  # else the wide lines come out as polygons
        "hovertemplate": f"{name}<br>place %{{x:.3f}}, balance %{{y:.3f}}"
        "<br>mean loss %{customdata:.3g} above the best<extra></extra>",
    }


def _panel(layout: dict[str, Any], panel: int, panels: int, title: str) -> None:
    """Add the axes of one panel, and its name above it."""
    suffix = "" if panel == 0 else str(panel + 1)
    wide = (1 - ASIDE * (panels - 1)) / panels
    left = panel * (wide + ASIDE)
    x = {"tickvals": [0, 0.5, 1], "ticktext": ["0", "½", "1"], "range": [-0.03, 1.03], "zeroline": False}
    y = theme.value_axis("balance" if panel == 0 else "", zero_line=True) | {"range": [-1.1, 1.1]}
    y |= {"showticklabels": panel == 0}
    layout[f"xaxis{suffix}"] = x | {"domain": [left, min(1.0, left + wide)], "anchor": f"y{suffix}"}
    layout[f"yaxis{suffix}"] = y | {"domain": [0, 0.93], "anchor": f"x{suffix}"}
    place = {"x": 0, "xref": f"x{suffix} domain", "y": 1, "yref": f"y{suffix} domain", "xanchor": "left"}
    look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
    layout["annotations"].append(place | look | {"text": f"<b>{title}</b>"})
