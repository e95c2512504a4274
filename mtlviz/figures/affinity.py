"""Inter-task affinity as a matrix: whose step lowers whose loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.conflict import AXIS_NAME, WRITTEN
from mtlviz.figures.lines import needed

QUESTION = "Whose step helps whom?"
SAYS = "fall of the column's loss after a step along the row's gradient, %"


def affinity(frame: pd.DataFrame) -> go.Figure:
    """Draw the T×T matrix of inter-task affinities as an annotated heat map.

    Args:
        frame: as `analysis.affinity` returns it.

    Returns:
        One heat map, in percent of the loss: a row per source, whose gradient is followed, a column per target, whose
        loss changes. Blue is a loss that falls, red one that rises. The colours end at the largest change that a task
        makes in another: what it does for itself, on the diagonal, may lie beyond.

    Raises:
        FrameError: a column is missing.
    """
    needed(frame, ("source", "target", "affinity", "steps"), "affinity")
    tasks = theme.names(frame["source"])
    cells = _cells(frame, tasks)
    if not np.isfinite(cells["affinity"]).any():
        return theme.noted(QUESTION, SAYS, "No affinity was measured (affinity_every).")
    first, last = (int(end(frame["steps"])) for end in (np.min, np.max))
    of = f"mean of {last:,}" if first == last else f"mean of up to {last:,}"
    says = f"{SAYS}<br>{of} measured step{'' if last == 1 else 's'}; blue: it falls"
    T = len(tasks)
    ticks: dict[str, Any] = {
        "tickmode": "array",
        "tickvals": np.arange(T),
        "ticktext": theme.short_names(tasks, AXIS_NAME),
    }
    ticks |= {"showgrid": False, "zeroline": False, "automargin": True}
    shared = theme.layout(QUESTION, says, legend=False, height=max(theme.HEIGHT, 120 + 16 * T))
    axes = {"xaxis": ticks | {"autotickangles": [0, -45, -90]}, "yaxis": ticks | {"autorange": "reversed"}}
    return theme.figure([_heat(cells, tasks)], shared | axes | {"hovermode": "closest"})


def _cells(frame: pd.DataFrame, tasks: list[object]) -> dict[str, NDArray[np.float64]]:
    """Return percent and steps (T, T), NaN where the frame has no row."""
    at = theme.places(frame["source"]), theme.places(frame["target"])
    cells = {name: np.full((len(tasks), len(tasks)), np.nan) for name in ("affinity", "steps")}
    cells["affinity"][at] = 100 * frame["affinity"].to_numpy(np.float64)
    cells["steps"][at] = frame["steps"].to_numpy(np.float64)
    return cells


def _heat(cells: dict[str, NDArray[np.float64]], tasks: list[object]) -> dict[str, Any]:
    percent, T = cells["affinity"], len(tasks)
    end = _largest(np.where(np.eye(T, dtype=bool), np.nan, percent)) or _largest(percent) or 1.0
    full = [theme.literal(name) for name in tasks]
    heat: dict[str, Any] = {
        "type": "heatmap",
        "z": percent,
        "zmin": -end,
        "zmax": end,
        "zmid": 0,
        "colorscale": [list(stop) for stop in theme.DIVERGING],
        "showscale": T > WRITTEN,
        "hoverongaps": False,
        "customdata": np.stack([percent, cells["steps"]], axis=-1),
        "hovertext": [[f"{a} → {b}" for b in full] for a in full],
        "hovertemplate": "%{hovertext}<br>loss falls by %{customdata[0]:.3~g} %"
        "<br>mean of %{customdata[1]:,} steps<extra></extra>",
        "xgap": 2,
        "ygap": 2,
    }
    if T > WRITTEN:
        bar = {"title": {"text": "loss falls by, %", "side": "right"}, "thickness": 12, "outlinewidth": 0}
        return heat | {"colorbar": bar}
    return heat | {"text": _written(percent, end), "texttemplate": "%{text}"}


def _largest(values: NDArray[np.float64]) -> float:
    found = values[np.isfinite(values)]
    return float(np.abs(found).max()) if len(found) else 0.0


def _written(percent: NDArray[np.float64], end: float) -> list[list[str]]:
    """Return the cells' numbers, all with as many places as the largest needs for two digits."""
    places = int(np.clip(1 - np.floor(np.log10(end)), 0, 8))
    texts = np.full(percent.shape, "", dtype=object)
    for at in np.argwhere(np.isfinite(percent)):
        text = f"{percent[tuple(at)]:.{places}f}"
        texts[tuple(at)] = (text if float(text) else text.lstrip("-")).replace("-", "−")
    return [list(row) for row in texts]
