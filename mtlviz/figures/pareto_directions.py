"""Which way each method goes at one point, among the two task gradients and the cone between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import Numbers
from mtlviz.figures.pareto_lines import NOWHERE, pens

if TYPE_CHECKING:
    from mtlviz.pareto import Moment

QUESTION = "Which way does each method go here?"
HEIGHT = 500  # pixels
REACH = 1.2  # of either axis; every arrow is 1 long
SECTOR = 1.12  # radius of the cone
VANISHING = 1e-9  # of Σ |w_t| ‖g_t‖: an update so short is what rounding left of none
WIDEST, THINNEST = 7.0, 2.0  # pixels: of two methods that agree both are seen


def update_directions(
    moment: Moment, *, at: str = "", colours: Mapping[str, int] | None = None, height: int = HEIGHT
) -> go.Figure:
    """Draw the two negative task gradients, the cone of the directions that lower both losses, and every update.

    All arrows have length 1, since methods have scales of their own; lengths and weights are in the hover, and the
    weights stand in the legend, of loss 1 and of loss 2. Updates are −Σ w_t g_t, before the optimizer. Within the cone
    both losses fall to first order; it is empty where the gradients are opposite, or one of them is 0.

    Args:
        moment: as `mtlviz.pareto.probe` returns it.
        at: which point this is, for the heading, such as "start 2, step 12,000".
        colours: as `pareto_trajectories` takes it.
        height: of the figure, in pixels.

    Returns:
        The figure: the cone, an arrow a method in the order of `moment.methods`, an arrow a task.

    Raises:
        FrameError: not a moment.
    """
    if not {"x", "gradients", "weights", "methods"} <= getattr(moment, "__dict__", {}).keys():
        got = type(moment).__name__
        raise FrameError(f"figures.update_directions needs what mtlviz.pareto.probe returns, but got {got}.")
    down, lengths = _unit(-np.asarray(moment.gradients))
    data = [_cone(down)]
    ways, sizes = _unit(np.asarray(moment.directions))
    sizes = np.where(sizes <= VANISHING * (np.abs(moment.weights) @ lengths), 0.0, sizes)
    named = pens(moment.methods, colours)
    widths = np.linspace(WIDEST, THINNEST, len(named))
    for m, (name, place) in enumerate(named):
        data.append(_update(name, place, ways[m], float(sizes[m]), moment.weights[m], float(widths[m])))
    data += [_task(t, down[t], float(lengths[t])) for t in range(2)]  # last: thin, and seen on an update along it
    where = f"({moment.x[0]:.3g}, {moment.x[1]:.3g})" + (f", {theme.literal(at)}" if at else "")
    says = f"at {where}<br>updates −Σ w g, all of one length; beside a name its weights"
    layout = theme.layout(QUESTION, says, height=height) | {"hovermode": "closest"}
    hidden: dict[str, Any] = {"range": [-REACH, REACH], "showticklabels": False, "showgrid": False, "zeroline": True}
    axes = {"xaxis": hidden | {"constrain": "domain"}, "yaxis": hidden | {"scaleanchor": "x", "scaleratio": 1}}
    ends = [_axis_name("x₁", REACH, 0.0), _axis_name("x₂", 0.0, REACH)]
    return theme.figure(data, layout | axes | {"annotations": ends})


def _axis_name(text: str, x: float, y: float) -> dict[str, Any]:
    """At the axis's end, away from the arrows."""
    beside = (
        {"xanchor": "right", "yanchor": "bottom", "yshift": 14}
        if y == 0
        else {"xanchor": "left", "yanchor": "top", "xshift": 4}
    )
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": {"color": theme.NEUTRAL}} | beside


def _unit(vectors: Numbers) -> tuple[Numbers, Numbers]:
    """The vectors (n, 2) with length 1, NaN where they have none, and their lengths (n,)."""
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((lengths > 0)[:, None], vectors / lengths[:, None], np.nan), lengths


def _cone(down: Numbers) -> dict[str, Any]:
    """The sector within a right angle of both unit vectors (2, 2)."""
    name, x, y = "no direction lowers both losses", NOWHERE, NOWHERE
    first = float(np.arctan2(down[0, 1], down[0, 0]))
    turn = float(np.arctan2(down[0, 0] * down[1, 1] - down[0, 1] * down[1, 0], down[0] @ down[1]))
    half = (np.pi - abs(turn)) / 2
    if half > 1e-9:  # NaN where a gradient is 0
        angles = first + turn / 2 + np.linspace(-half, half, 61)
        x, y = (np.concatenate([[0.0], SECTOR * side(angles), [0.0]]) for side in (np.cos, np.sin))
        name = "lowers both losses"
    look = {"fill": "toself", "fillcolor": theme.translucent(theme.NEUTRAL, 0.2), "line": {"width": 0}}
    return (
        {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "legendgroup": "cone", "hoverinfo": "skip"}
        | look
        | {"showlegend": True}
    )


def _task(t: int, down: Numbers, length: float) -> dict[str, Any]:
    label = f"−g{'₁₂'[t]}"
    arrow = _arrow(down, theme.NEUTRAL, 2.0, "dash") | {
        "name": label,
        "showlegend": False,
        "mode": "lines+markers+text",
    }
    side = "middle right" if not down[0] < 0 else "middle left"
    arrow |= {"text": ["", f"<b>{label}</b>"], "textposition": side, "textfont": {"size": 13}, "cliponaxis": False}
    return arrow | {"hovertemplate": f"down loss {t + 1}<br>‖g‖ = {length:.3g}<extra></extra>"}


def _update(name: str, place: int, way: Numbers, length: float, weights: Numbers, width: float) -> dict[str, Any]:
    arrow = _arrow(way, theme.colour(place), width, "solid")
    if np.isfinite(weights).all():
        told = f"{name} {weights[0]:.2g} / {weights[1]:.2g}"
        if length == 0:  # stays where it is
            arrow |= {"x": np.zeros(2), "y": np.zeros(2), "mode": "markers"}
            arrow["marker"] = {"color": theme.colour(place), "size": 9, "symbol": "circle"}
            told += ", no update"
    else:
        told = f"{name}: no weights"
    says = f"{name}<br>weights {weights[0]:.4g} and {weights[1]:.4g}<br>length {length:.3g}<extra></extra>"
    return arrow | {"name": told, "legendgroup": name, "showlegend": True, "hovertemplate": says}


def _arrow(tip: Numbers, colour: str, width: float, dash: str) -> dict[str, Any]:
    head: dict[str, Any] = {"symbol": "arrow", "size": [0, 9 + 1.5 * width], "angleref": "previous", "color": colour}
    head |= {"opacity": 1, "line": {"width": 0}}
    line = {"color": colour, "width": width, "dash": dash}
    ends = {"x": np.array([0.0, tip[0]]), "y": np.array([0.0, tip[1]])}
    return {"type": "scatter", "mode": "lines+markers", "line": line, "marker": head} | ends
