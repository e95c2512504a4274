"""Who helps whom: measured gains of every task by every other as a matrix, with what the intervals decide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

NAME = 16  # characters of a name beside the matrix
WRITTEN = 12  # targets up to which a cell has room for its number
ROW, ABOVE, BELOW = 40, 108, 84  # pixels: a row of two lines, the heading, the names below
UNDECIDED, GREY = "rgba(128,128,128,0.13)", "#7c7c7c"
_COLUMNS = ("source", "target", "metric", "direction", "seeds", "gain", "low", "high", "verdict")

Numbers = NDArray[np.float64]


def transfer_gains(frame: pd.DataFrame) -> go.Figure:
    """Draw what each task gains by each other as a matrix: sources are rows, targets are columns.

    Args:
        frame: as `analysis.transfer_gains` returns it.

    Returns:
        Two heat maps: cells whose interval decides, blue where the target gains and red where it loses, and grey ones
        whose interval does not. A cell says the gain ± half its interval, up to 12 targets. Where all tasks have one
        score, all share one scale of colours, symmetric about 0; else each column has its own, since gains in
        different units cannot be compared. The last row, of all tasks together, stands apart.

    Raises:
        FrameError: a column is missing.
    """
    needed(frame, _COLUMNS, "transfer_gains")
    question = "Which task helps which?"
    gain = finite(frame["gain"])
    if not np.isfinite(gain).any():
        return theme.noted(question, "gain of each task by each other", "No gain was measured.")
    targets = theme.names(frame["target"])
    sources = [*(name for name in targets if (frame["source"] == name).any()), *_others(frame, targets)]
    at = pd.Index(sources).get_indexer(pd.Index(frame["source"].astype(object))), theme.places(frame["target"])
    cells = _cells(frame, at, (len(sources), len(targets)))
    one = frame["metric"].nunique() == 1 and bool((frame["direction"] == "max").all())
    decided = _decided(cells)
    largest = np.where(decided, np.abs(cells["gain"]), 0.0).max(axis=None if one else 0)
    scale = np.where(largest > 0, largest, 1.0)
    texts = _texts(cells, one=one)
    hovers = _hovers(frame, at, decided.shape)
    shown = {"type": "heatmap", "xgap": 2, "ygap": 2, "hoverongaps": False, "showscale": False, "zmin": -1, "zmax": 1}
    shown |= {"hovertemplate": "%{customdata}<extra></extra>", "customdata": hovers}
    size = 12 if len(targets) <= 5 else 10 if len(targets) <= 8 else 9
    shown |= {"texttemplate": "%{text}" if len(targets) <= WRITTEN else ""}
    data = [
        shown
        | {"z": np.where(decided, cells["gain"] / scale, np.nan), "text": np.where(decided, texts, "")}
        | {"colorscale": [list(stop) for stop in theme.DIVERGING], "textfont": {"size": size}},
        shown
        | {"z": np.where(~decided & (cells["seeds"] >= 0), 0.0, np.nan), "text": np.where(decided, "", texts)}
        | {"colorscale": [[0, UNDECIDED], [1, UNDECIDED]], "textfont": {"size": size, "color": GREY}},
    ]
    unit = str(frame["metric"].iloc[0]) if frame["metric"].nunique() == 1 else "the metric of the column"
    if one and decided.any():
        bar = {"title": {"text": f"gain in {unit}", "side": "right"}, "thickness": 12, "outlinewidth": 0}
        ends = [_number(x * float(largest), _decimals(float(largest), 2)) for x in (-1.0, 1.0)]
        ticks = {"tickvals": [-1, 0, 1], "ticktext": [ends[0], "0", ends[1]]}
        data[0] |= {"showscale": True, "colorbar": bar | ticks}
    says = f"gain of the column's task beside the row's, in {theme.literal(unit, 28)}<br>"
    says += "blue: helped; red: hurt; grey: undecided. ± half the interval"
    says += ", *: failed runs" if cells["failed"].any() else ""
    says += "" if one else "<br>colours compare within a column only"
    shared = theme.layout(question, says, legend=False, height=ABOVE + BELOW + ROW * max(len(sources), 3))
    shared["margin"] |= {"t": ABOVE - 14}
    return theme.figure(data, shared | _axes(frame, sources, targets))


def _others(frame: pd.DataFrame, targets: list[object]) -> list[object]:
    return [name for name in frame["source"].astype(object).unique() if name not in targets]


def _cells(frame: pd.DataFrame, at: Any, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the columns of the frame as matrices; `seeds` is -1 where there is no cell."""
    cells: dict[str, Any] = {name: np.full(shape, np.nan) for name in ("gain", "low", "high")}
    for name, table in cells.items():
        table[at] = finite(frame[name])
    cells["seeds"] = np.full(shape, -1)
    cells["seeds"][at] = frame["seeds"].to_numpy(np.int64)
    cells["verdict"] = np.full(shape, "", dtype=object)
    cells["verdict"][at] = frame["verdict"].astype(object)
    cells["failed"] = np.zeros(shape)
    if "failed" in frame.columns:
        cells["failed"][at] = finite(frame["failed"])
    return cells


def _decided(cells: dict[str, Any]) -> NDArray[np.bool_]:
    return np.isin(cells["verdict"], ("positive", "negative"))


def _texts(cells: dict[str, Any], *, one: bool) -> NDArray[np.object_]:
    """Return what the cells say: the gain, and below it half its interval; * where seeds are missing."""
    half = (cells["high"] - cells["low"]) / 2
    texts = np.full(half.shape, "", dtype=object)
    size, axis = np.fmax(np.abs(cells["gain"]), half), None if one else 0
    told = np.fmax.reduce(np.where(_decided(cells), size, 0.0), axis=axis)
    peaks = np.where(told > 0, told, np.nan_to_num(np.fmax.reduce(size, axis=axis)))  # a wide interval hides no digit
    digits = 3 if half.shape[1] <= 8 else 2
    decimals = [_decimals(float(peak), digits) for peak in np.broadcast_to(peaks, half.shape[1])]
    for row, column in zip(*np.nonzero(cells["seeds"] >= 0), strict=True):
        gain, missing = cells["gain"][row, column], "*" if cells["failed"][row, column] else ""
        lines = [f"{_number(gain, decimals[column])}{missing}" if np.isfinite(gain) else "failed"]
        if np.isfinite(half[row, column]):
            lines.append(f"± {half[row, column]:.{decimals[column]}f}")
        texts[row, column] = "<br>".join(lines)
    return texts


def _decimals(peak: float, digits: int) -> int:
    """Return after how many decimals a number as large as the peak has so many digits."""
    return min(max(digits - 1 - math.floor(math.log10(peak)), 0), 5) if peak > 0 else digits


def _hovers(frame: pd.DataFrame, at: Any, shape: tuple[int, int]) -> NDArray[np.object_]:
    hovers = np.full(shape, "", dtype=object)
    for row, column, cell in zip(*at, frame.to_dict("records"), strict=True):
        source, target = theme.literal(cell["source"]), theme.literal(cell["target"])
        metric, count = theme.literal(cell["metric"]), int(cell["seeds"])
        lines = [f"{source} → {target}"]
        if {"alone", "together"} <= cell.keys():
            lines.append(f"{metric}: {cell['alone']:.4g} alone, {cell['together']:.4g} together")
        lines.append(f"gain {cell['gain']:+.4g}, from {cell['low']:+.4g} to {cell['high']:+.4g}: {cell['verdict']}")
        failed = int(cell.get("failed", 0))
        lines.append(f"{count} seed{'s' * (count != 1)}" + (f", {failed} failed" if failed else ""))
        hovers[row, column] = "<br>".join(lines)
    return hovers


def _axes(frame: pd.DataFrame, sources: list[object], targets: list[object]) -> dict[str, Any]:
    columns = theme.short_names(targets, NAME)
    if frame["metric"].nunique() > 1:
        metric = dict(zip(frame["target"].astype(object), frame["metric"].astype(object), strict=True))
        columns = [f"{name}<br>{theme.literal(metric[t], NAME)}" for name, t in zip(columns, targets, strict=True)]
    apart = len(sources) > len(targets) or sources[-1] not in targets
    names = theme.short_names(["all others" if name == "all" else name for name in sources], NAME)
    shared = {"tickmode": "array", "showgrid": False, "zeroline": False, "automargin": True}
    x = shared | {"tickvals": list(range(len(targets))), "ticktext": columns, "autotickangles": [0, -90]}
    y = shared | {"tickvals": list(range(len(sources))), "ticktext": names, "range": [len(sources) - 0.5, -0.5]}
    x |= {"title": {"text": "target", "standoff": 4}, "range": [-0.5, len(targets) - 0.5]}
    y |= {"title": {"text": "trained beside", "standoff": 4}}
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": len(sources) - 1.5, "y1": len(sources) - 1.5}
    line |= {"line": {"color": theme.NEUTRAL, "width": 1.5}}
    return {"xaxis": x, "yaxis": y, "hovermode": "closest", "shapes": [line] if apart and len(sources) > 1 else []}


def _number(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")
