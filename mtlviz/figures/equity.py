"""The equity experiment: who reaches the front and the best average at which scale, and what that depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.figures import theme

REACHED = theme.DIVERGING[2:]
"""From neutral, no run, to blue, all of them."""

EMTL_SAYS = "EMTL is a reconstruction: its paper's equations are not at hand"
OUTCOMES = {"on_the_front": "on the front", "best": "at the best average"}
COUNTS = ("runs", *OUTCOMES)
VARIED = ("rate", "merge", "eta", "scale")  # of which `equity_map` draws a panel each
FORMS = {"loss_over_norm": "r = L / ‖g‖", "norm_over_loss": "r = ‖g‖ / |L|", "weighted": "r = α L / ‖g‖"}
MERGES = {"product": "product", "sum": "sum"}
METHOD_NAME = 24  # characters of a method's name
COLUMNS = 2  # panels side by side, also in a narrow cell
HEAD, ABOVE, ROW, BELOW = 78, 24, 26, 58  # pixels: the heading, a panel's name, a row of its cells, its axis
ASIDE = 0.05  # of the width, between panels


def equity(frame: pd.DataFrame) -> go.Figure:
    """Draw how many runs of each method end on the front, and how many at the best average, at each scale of loss 1.

    Args:
        frame: as `pareto.reached` counts the runs of `pareto.equity`, by method and scale.

    Returns:
        Two heat maps beside each other, a row per method and a column per scale; a cell says how many runs.

    Raises:
        FrameError: a column is missing, or two rows count the same runs.
    """
    question = "Who gets there, whatever the scale of a loss?"
    needed(frame, ("method", "scale", *COUNTS), "equity", "reached")
    single(frame, ("method", "scale"), "equity")
    if frame.empty:
        return theme.noted(question, EMTL_SAYS, "No run yet.")
    methods, scales = theme.names(frame["method"]), sorted(frame["scale"].unique())
    at = theme.places(frame["method"]), np.searchsorted(scales, frame["scale"])
    ticks = [number(scale) for scale in scales], theme.short_names(methods, METHOD_NAME)
    data = [
        _heat(_cells(frame, at, outcome), panel, *ticks, "%{y}, loss 1 × %{x}")
        for panel, outcome in enumerate(OUTCOMES)
    ]
    says = f"runs that end there, of {_of(frame)} each<br>{EMTL_SAYS}"
    axes = _grid(list(OUTCOMES.values()), ("scale of loss 1", ""), ticks)
    return theme.figure(data, theme.layout(question, says, legend=False) | axes)


def equity_map(frame: pd.DataFrame, *, outcome: str = "best") -> go.Figure:
    """Draw how EMTL's verdict moves with its merge coefficient β and its radius ρ, and with what else the frame varies.

    Args:
        frame: as `pareto.reached` counts the runs of `pareto.robustness`, by beta and rho, and by whichever of rate,
            merge, eta and scale shall have panels of their own.
        outcome: "best", or "on_the_front".

    Returns:
        A heat map over β and ρ per panel; a cell says how many runs end at the best average, or on the front.

    Raises:
        FrameError: a column is missing, two rows count the same runs, or an unknown outcome.
    """
    if outcome not in OUTCOMES:
        choices = " or ".join(f"outcome={name!r}" for name in OUTCOMES)
        raise FrameError(f"figures.equity_map needs {choices}, but outcome is {outcome!r}.")
    needed(frame, ("beta", "rho", *COUNTS), "equity_map", "reached")
    varied = [name for name in VARIED if name in frame.columns]
    formed = {"rate", "merge"} & set(varied)
    question = f"Does the verdict depend on EMTL's {'form' if formed else 'constants'}?"
    single(frame, ("beta", "rho", *varied), "equity_map")
    if frame.empty:
        return theme.noted(question, EMTL_SAYS, "No run yet.")
    betas, rhos = sorted(frame["beta"].unique()), sorted(frame["rho"].unique())
    ticks = [number(rho) for rho in rhos], [number(beta) for beta in betas]
    parts = [*frame.groupby(varied, sort=False)] if varied else [((), frame)]
    data, titles = [], []
    for panel, (key, part) in enumerate(parts):
        at = np.searchsorted(betas, part["beta"]), np.searchsorted(rhos, part["rho"])
        data.append(_heat(_cells(part, at, outcome, len(betas), len(rhos)), panel, *ticks, "β = %{y}, ρ = %{x}"))
        titles.append(", ".join(_said(name, value) for name, value in zip(varied, key, strict=True)))
    mgda = "; β = 1 is MGDA" if 1.0 in betas else ""
    says = f"runs {OUTCOMES[outcome]}, of {_of(frame)} each{mgda}<br>{EMTL_SAYS}"
    axes = _grid(titles, ("radius ρ", "merge β"), ticks)
    return theme.figure(data, theme.layout(question, says, legend=False) | axes)


def needed(frame: Any, columns: Sequence[str], figure: str, source: str) -> None:
    """Check that a figure gets a frame of `mtlviz.pareto`. Raises: FrameError, what it needed and what came."""
    needs = f"figures.{figure} needs the frame that pareto.{source} returns"
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"{needs}, but got {type(frame).__name__}.")
    if missing := [column for column in columns if column not in frame.columns]:
        got = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(f"{needs}; missing: {', '.join(missing)}; got: {got}.")


def single(frame: pd.DataFrame, keys: Sequence[str], figure: str) -> None:
    """Check that no two rows would share a cell. Raises: FrameError, with what the frame has to be counted by."""
    if frame.duplicated(list(keys)).any():
        raise FrameError(f"figures.{figure} needs a row per {', '.join(keys)}: count with pareto.reached by these.")


def number(value: float) -> str:
    """Return a scale or a constant as it is written: 0.01, 1, 100."""
    return f"{value:g}".replace("-", "−")


def _said(name: str, value: Any) -> str:
    """Return what a panel's constant is, in words."""
    if name == "scale":
        return f"loss 1 × {number(value)}"
    return f"η = {number(value)}" if name == "eta" else (FORMS | MERGES).get(value, theme.literal(value))


def _of(frame: pd.DataFrame) -> str:
    low, high = int(frame["runs"].min()), int(frame["runs"].max())
    return f"{low}" if low == high else f"{low} to {high}"


def _cells(frame: pd.DataFrame, at: tuple[Any, Any], outcome: str, *shape: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return counts and runs at their rows and columns, NaN where there are none."""
    full = shape or tuple(int(np.max(places)) + 1 for places in at)
    counts, runs = np.full(full, np.nan), np.full(full, np.nan)
    counts[at], runs[at] = frame[outcome].to_numpy(np.float64), frame["runs"].to_numpy(np.float64)
    return counts, runs


def _heat(
    cells: tuple[NDArray[Any], NDArray[Any]], panel: int, x: list[str], y: list[str], hover: str
) -> dict[str, Any]:
    """Return the heat map of one panel: coloured by the share of the runs, written as counts."""
    counts, runs = cells
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts / runs
    axes = {} if panel == 0 else {"xaxis": f"x{panel + 1}", "yaxis": f"y{panel + 1}"}
    text = np.where(np.isfinite(counts), np.nan_to_num(counts).astype(int).astype(str), "")
    return axes | {
        "type": "heatmap",
        "z": share,
        "x": np.arange(len(x)),
        "y": np.arange(len(y)),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[2 * stop - 1, colour] for stop, colour in REACHED],
        "showscale": False,
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "text": text,
        "texttemplate": "%{text}",
        "customdata": np.stack([counts, runs], axis=-1),
        "hovertext": [[hover.replace("%{x}", a).replace("%{y}", b) for a in x] for b in y],
        "hovertemplate": "%{hovertext}<br>%{customdata[0]:.0f} of %{customdata[1]:.0f} runs<extra></extra>",
    }


def _grid(titles: Sequence[str], axes: tuple[str, str], ticks: tuple[list[str], list[str]]) -> dict[str, Any]:
    """Return the height, the axes of the panels and the names above them."""
    columns, body = min(COLUMNS, len(titles)), ROW * len(ticks[1])
    deep = -(-len(titles) // columns)
    above = ABOVE if any(titles) else 0
    plot = deep * (above + body) + (deep - 1) * BELOW
    wide = (1 - ASIDE * (columns - 1)) / columns
    written = [{"tickmode": "array", "tickvals": np.arange(len(some)), "ticktext": some} for some in ticks]
    plain: dict[str, Any] = {"showgrid": False, "zeroline": False}
    annotations: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"height": HEAD + plot + BELOW, "hovermode": "closest", "annotations": annotations}
    layout["margin"] = dict(theme.MARGIN) | {"t": HEAD, "b": BELOW}
    for index, title in enumerate(titles):
        row, column = divmod(index, columns)
        suffix = "" if index == 0 else str(index + 1)
        left, top = column * (wide + ASIDE), 1 - (row * (above + body + BELOW) + above) / plot
        x = plain | written[0] | {"domain": [left, left + wide], "anchor": f"y{suffix}", "type": "linear"}
        y = plain | written[1] | {"domain": [max(0.0, top - body / plot), top], "anchor": f"x{suffix}"}
        y |= {"range": [len(ticks[1]) - 0.5, -0.5], "automargin": True, "showticklabels": column == 0}
        if column == 0 and axes[1]:
            y["title"] = {"text": axes[1], "standoff": 6, "font": {"size": 11}}
        layout[f"xaxis{suffix}"] = x | {"title": {"text": axes[0], "standoff": 6, "font": {"size": 11}}}
        layout[f"yaxis{suffix}"] = y
        if not title:
            continue
        place = {"x": 0, "xref": f"x{suffix} domain", "y": 1, "yref": f"y{suffix} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        annotations.append(place | look | {"text": f"<b>{title}</b>"})
    return layout
