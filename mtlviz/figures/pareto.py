"""The trajectories of a descent on two objectives, over the landscape and against the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import Flags
from mtlviz.figures.pareto_lines import Path, bands, ends, pens, verdict_entries
from mtlviz.figures.pareto_planes import (
    CONTOURS,
    loss_plane,
    loss_ranges,
    parameter_plane,
    parameter_ranges,
)

if TYPE_CHECKING:
    from mtlviz.pareto import Descent, Landscape

PLANES = ("both", "parameters", "losses")
HEIGHT = 560  # pixels
HEADING = 88  # pixels above the planes where no legend holds the heading: its three lines
QUESTION = "Which methods reach the Pareto front, and where on it?"
ASIDE = 0.12  # of the width, between two planes: room for the second one's numbers


def pareto_trajectories(
    descent: Descent,
    *,
    plane: str = "both",
    contours: str = "average",
    step: float | None = None,
    landscape: Landscape | None = None,
    kept: Flags | None = None,
    colours: Mapping[str, int] | None = None,
    height: int = HEIGHT,
    legend: bool = True,
    fading: bool = True,
) -> go.Figure:
    """Draw every trajectory of a descent, time as fading colour, early faint and late strong.

    In the plane of parameters over the landscape, with the Pareto set; in the plane of the own losses (before scale and
    offset) with the front and the weighted-sum line, on which s₁L₁ + s₂L₂ has its least value on the front, and which
    touches it where that sum is least: where equal weights go, unless they end in a local minimum. The mark at a
    trajectory's end is its verdict.

    Args:
        descent: as `mtlviz.pareto.descend` returns it.
        plane: "parameters", "losses", or "both" side by side.
        contours: whose landscape, "loss 1", "loss 2" or the "average" of both, in own units. Between neighbouring
            contours lies the same share of the plane, since the losses of steep walls would take all of an even scale.
        step: show the trajectories as they stand at this step, a dot each; what comes after is faint. None: the end.
        landscape: `descent.problem.landscape()`, kept by who draws often; None computes it.
        kept: the points (M, N, K) that are drawn; None: those that a screen can show apart.
        colours: the place of each method in the house's colours, so that a method keeps its colour when others are
            left out; None: its place in the descent. A method that the mapping lacks comes after all that it has.
        height: of the figure, in pixels.
        legend: False leaves it to the page and to pictures: the Pareto lab has one for both planes, since plotly's is
            slow to redraw. Downloads and kept pictures of a `FigureView` have it in any case.
        fading: whether time fades the colours; without it a redraw is quicker, while a start is dragged.

    Returns:
        The figure; it has the same traces, in the same order, for every descent of so many methods.

    Raises:
        FrameError: not a descent, an unknown plane or contours, a step that is no number, or a mask of another shape.
    """
    _check(descent, plane, contours, step, kept)
    path = Path.of(descent, step, descent.shown if kept is None else kept, fading=fading)
    named = pens(descent.methods, colours)
    equal = descent.equal_weights
    data: list[dict[str, Any]] = []
    layout = _layout(_quantity(descent, step), height, legend) | {"hovermode": "closest"}
    if plane != "losses":
        drawn = parameter_plane(descent, landscape or descent.problem.landscape(), contours, equal)
        data += drawn.below + bands(path, descent.x, named) + drawn.above + ends(path, descent.x, descent.starts, named)
        first, second = parameter_ranges(descent)
        layout |= {"xaxis": _axis("x₁", first), "yaxis": _axis("x₂", second)}
    if plane != "parameters":
        ranges = loss_ranges(descent)
        drawn = loss_plane(descent, ranges, equal)
        starts = descent.problem.own_losses(descent.starts)
        own = drawn.below + bands(path, descent.losses, named) + drawn.above + ends(path, descent.losses, starts, named)
        axes = {"xaxis": _axis("loss 1", ranges[0]), "yaxis": _axis("loss 2", ranges[1])}
        if plane == "both":
            own = [_beside(trace) for trace in own]
            axes = _side_by_side(layout, axes)
        data += own
        layout |= axes
    return theme.figure(data + verdict_entries(path), layout)


def _check(descent: Any, plane: str, contours: str, step: Any, kept: Any) -> None:
    if not {"x", "ends", "problem", "methods"} <= getattr(descent, "__dict__", {}).keys():
        got = type(descent).__name__
        raise FrameError(f"figures.pareto_trajectories needs what mtlviz.pareto.descend returns, but got {got}.")
    for name, value, choices in (("plane", plane, PLANES), ("contours", contours, CONTOURS)):
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise FrameError(f"figures.pareto_trajectories needs {name} to be one of {listed}, but it is {value!r}.")
    if step is not None and not (isinstance(step, (int, float, np.number)) and np.isfinite(step)):
        raise FrameError(f"figures.pareto_trajectories needs step to be a number or None, but it is {step!r}.")
    if kept is not None and np.shape(kept) != descent.x.shape[:3]:
        raise FrameError(
            f"figures.pareto_trajectories needs kept for each point, {descent.x.shape[:3]}, but its shape is"
            f" {np.shape(kept)}."
        )


def _layout(quantity: str, height: int, legend: bool) -> dict[str, Any]:
    whole = theme.layout(QUESTION, quantity, height=height)
    if legend:
        return whole
    bare = theme.layout(QUESTION, quantity, height=height, legend=False) | {"showlegend": False}
    bare["margin"] |= {"t": HEADING}
    pictured = {key: whole[key] for key in ("legend", "showlegend", "margin")} | {"title": {"text": ""}}
    return bare | {"meta": bare["meta"] | {"pictured": pictured}}


def _quantity(descent: Descent, step: float | None) -> str:
    scale = " and ".join(f"{factor:.3g}" for factor in descent.problem.scale)
    offset = f", offset {descent.problem.offset:.3g}" if descent.problem.offset else ""
    run = f"{descent.optimizer}, lr {descent.lr:.3g}, {descent.steps:,} steps"
    now = "" if step is None else f", at step {step:,.0f}"
    note = "" if np.isfinite(descent.x).any() else "<br>No method has weights at any start: nothing moves."
    return f"{theme.literal(descent.problem.title)}<br>losses scaled by {scale}{offset}; {run}{now}{note}"


def _axis(title: str, limits: tuple[float, float]) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 6}, "range": list(limits), "zeroline": False}
    return axis | {"showgrid": False, "nticks": 8, "ticks": ""}


def _beside(trace: dict[str, Any]) -> dict[str, Any]:
    """The trace on the second pair of axes; what both planes show has its entry in the legend from the first."""
    once = {} if trace.get("meta") == "losses only" else {"showlegend": False}
    return trace | once | {"xaxis": "x2", "yaxis": "y2"}


def _side_by_side(layout: dict[str, Any], axes: dict[str, Any]) -> dict[str, Any]:
    half = (1 - ASIDE) / 2
    layout["xaxis"] |= {"domain": [0, half]}
    x = axes["xaxis"] | {"domain": [1 - half, 1], "anchor": "y2"}
    return {"xaxis2": x, "yaxis2": axes["yaxis"] | {"anchor": "x2"}}
