"""Validation curves of a run with a schedule: branches that rewinds threw away, phases, and where a task was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import FEW, Numbers, Pen, finite

KEPT = {"symbol": "diamond-open", "size": 13, "line": 1.8}


def branches(line: Mapping[str, NDArray[Any]], pen: Pen, *, over: str, crowded: bool) -> list[dict[str, Any]]:
    """Return the traces of one task's curve: discarded, line, distilled, waiting, and back to what was kept.

    A point is joined with the one that it was trained from: the one before, or, after a rewind, the last one that lies
    at an earlier position. Then the line starts at the rewind, from the value of the checkpoint.

    Args:
        line: step, position, discarded, value, phase and decided, a value per validation.
        pen: how it looks.
        over: the column of the horizontal axis, "step" or "position".
        crowded: whether a point is hovered alone, and so says its step itself.
    """
    known = np.flatnonzero(np.isfinite(finite(line["value"])))
    known = known[np.argsort(line["step"][known], kind="stable")]
    step, position = line["step"][known].astype(np.float64), line["position"][known].astype(np.int64)
    value, x = line["value"][known].astype(np.float64), line[over][known].astype(np.float64)
    start = _starts(x if over == "position" else step, position, value, over)
    gone = line["discarded"][known].astype(bool)
    phase = line["phase"][known]
    styles: dict[str, tuple[NDArray[np.bool_], dict[str, Any], float, str]] = {
        "discarded": (gone, {"opacity": theme.FAINT, "showlegend": False}, pen.width, pen.dash),
        "supervised": (~gone & (phase != "distilled") & (phase != "waiting"), {}, pen.width, pen.dash),
        "distilled": (~gone & (phase == "distilled"), {"showlegend": False}, 1.0, pen.dash),
        "waiting": (~gone & (phase == "waiting"), {"showlegend": False}, 1.0, "dot"),
    }
    result = []
    for name, (drawn, extra, width, dash) in styles.items():
        xs, ys, size = _runs(x, value, start, drawn)
        said = f" ({name})" if name != "supervised" else ""
        result.append(
            {
                "type": "scatter",
                "name": pen.name,
                "legendgroup": pen.name,
                "x": xs,
                "y": ys,
                "mode": "lines+markers" if len(known) <= FEW or drawn.sum() == 1 else "lines",
                "line": {"color": pen.colour, "dash": dash, "width": width},
                "marker": {"color": pen.colour, "size": size, "opacity": 1.0, "line": {"width": 0}},
                "hovertemplate": (over + " %{x:,.0f}<br>" if crowded else "") + "%{y:.4~g}" + said,
            }
            | extra
        )
    return [*result, _kept(line, known, x, value, pen)]


def _starts(x: Numbers, position: NDArray[np.int64], value: Numbers, over: str) -> NDArray[np.float64]:
    """Return where the line to each point begins, (n, 2); NaN where nothing came before."""
    start = np.full((len(x), 2), np.nan)
    start[1:, 0], start[1:, 1] = x[:-1], value[:-1]
    for row in np.flatnonzero(position[1:] <= position[:-1]) + 1:  # a rewind lies before this row
        earlier = np.flatnonzero(position[:row] < position[row])
        start[row, 1] = value[earlier[-1]] if len(earlier) else np.nan
        if over == "position":
            start[row, 0] = x[earlier[-1]] if len(earlier) else np.nan
    return start


def _runs(
    x: Numbers, value: Numbers, start: NDArray[np.float64], drawn: NDArray[np.bool_]
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the points of the lines to the drawn points, NaN between, and the size of each one's marker.

    A place from which a line only starts has no marker: nothing was measured there, or another line shows it.
    """
    xs: list[float] = []
    ys: list[float] = []
    size: list[float] = []
    for row in np.flatnonzero(drawn):
        goes_on = row > 0 and drawn[row - 1] and start[row, 0] == x[row - 1] and start[row, 1] == value[row - 1]
        if not goes_on:
            gap = [] if not xs else [np.nan]
            begins = [] if np.isnan(start[row]).any() else [row]
            xs += [*gap, *(start[i, 0] for i in begins)]
            ys += [*gap, *(start[i, 1] for i in begins)]
            size += [0.0] * (len(gap) + len(begins))
        xs.append(x[row])
        ys.append(value[row])
        size.append(4.0)
    return np.array(xs, np.float64), np.array(ys, np.float64), np.array(size, np.float64)


def _kept(
    line: Mapping[str, NDArray[Any]], known: NDArray[np.intp], x: Numbers, value: Numbers, pen: Pen
) -> dict[str, Any]:
    """Return a diamond on the validation that was kept, and a dotted line to it from the one that decided."""
    step = line["step"][known].astype(np.float64)
    decided = line["decided"][known]
    xs: list[float] = []
    ys: list[float] = []
    said: list[str] = []
    for row in np.flatnonzero(np.isfinite(decided)):
        end = np.flatnonzero(step == decided[row])
        xs += [x[end[-1]] if len(end) else np.nan, x[row], np.nan]
        ys += [value[end[-1]] if len(end) else np.nan, value[row], np.nan]
        text = f"converged at step {decided[row]:,.0f}: back to {value[row]:.4g} of step {step[row]:,.0f}"
        said += [f"{pen.name} {text}", f"{pen.name} {text}", ""]
    return {
        "type": "scatter",
        "name": pen.name,
        "legendgroup": pen.name,
        "showlegend": False,
        "x": np.array(xs, np.float64),
        "y": np.array(ys, np.float64),
        "mode": "lines+markers",
        "line": {"color": pen.colour, "dash": "dot", "width": 1},
        "marker": {
            "symbol": KEPT["symbol"],
            "size": np.tile([0.0, KEPT["size"], 0.0], len(xs) // 3),
            "color": pen.colour,
            "opacity": 1.0,
            "line": {"width": KEPT["line"], "color": pen.colour},
        },
        "text": said,
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
    }
