"""Cheap signals against measured transfer, a panel per signal: which of them would have told?"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

QUESTION = "Which cheap signal would have told you?"
AXES = {"covariance": "covariance score", "cosine": "mean gradient cosine", "affinity": "affinity, % of the loss"}
SAYS = (
    "gain of each target with each source, over the signal<br>"
    "ρ: rank correlation, with its interval; also within each target<br>"
    "filled: the gain's interval leaves out 0"
)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")
UNDECIDED = 0.65  # opacity of a point whose gain is not told from 0
ABOVE = 0.24  # of the plot, for the panels' headings
ASIDE = 0.05  # of the width, between panels
HEIGHT = 530  # pixels
FEW = 30  # pairs up to which points are large and bars dark

Numbers = NDArray[np.float64]


def transfer_prediction(
    prediction: pd.DataFrame, correlations: pd.DataFrame, *, value: Literal["relative", "gain"] = "relative"
) -> go.Figure:
    """Draw for every signal what it said of each ordered pair of tasks, and the gain that was measured.

    Args:
        prediction: as `analysis.transfer_prediction` returns it.
        correlations: as `analysis.rank_correlations` returns it of the same frame and value.
        value: which gain: "relative", in % of what the target reached alone, or "gain", in its metric's unit.

    Returns:
        A panel per signal, all with one vertical axis: a point per ordered pair in its target's colour, with the gain's
        interval; hollow and faint where the interval holds 0 or is not known. Longer intervals than the gains lie apart
        are cut off. Above each panel stand Spearman's ρ over all pairs, its interval, and ρ within targets.

    Raises:
        FrameError: a column is missing, or `value` is neither.
    """
    if value not in ("relative", "gain"):
        raise FrameError(f"transfer_prediction draws value='relative' or value='gain', but value is {value!r}.")
    low, high = ("relative_low", "relative_high") if value == "relative" else ("low", "high")
    columns = ("signal", "source", "target", "predicted", "verdict", "metric", value, low, high)
    needed(prediction, columns, "transfer_prediction")
    needed(
        correlations,
        ("signal", "correlation", "low", "high", "pairs", "within"),
        "transfer_prediction",
        "rank_correlations",
    )
    signals = theme.names(prediction["signal"])
    frame = pd.DataFrame(
        {
            "signal": theme.places(prediction["signal"]),
            "target": theme.places(prediction["target"]),
            "x": finite(prediction["predicted"]) * np.where(prediction["signal"] == "affinity", 100.0, 1.0),
            "y": finite(prediction[value]),
            "low": finite(prediction[low]),
            "high": finite(prediction[high]),
            "decided": prediction["verdict"].isin(["positive", "negative"]).to_numpy(bool),
            "pair": _pairs(prediction),
        }
    )
    frame = frame[np.isfinite(frame["x"]) & np.isfinite(frame["y"])]
    if frame.empty:
        return theme.noted(QUESTION, SAYS, "No pair has both a signal and a measured gain.")
    data = _points(frame, theme.short_names(theme.names(prediction["target"])))
    shared = theme.layout(QUESTION, SAYS, height=HEIGHT) | {"hovermode": "closest"}
    title = _title(prediction, value)
    return theme.figure(data, shared | _panels([str(name) for name in signals], frame, correlations, title))


def _pairs(prediction: pd.DataFrame) -> list[str]:
    both = (prediction[column].map(theme.literal).astype(str) for column in ("source", "target"))
    return [f"{source} → {target}" for source, target in zip(*both, strict=True)]


def _title(prediction: pd.DataFrame, value: str) -> str:
    if value == "relative":
        return "measured gain, % of alone"
    metrics = prediction["metric"].unique()
    return f"measured gain, {theme.literal(metrics[0])}" if len(metrics) == 1 else "measured gain, metric's unit"


def _points(frame: pd.DataFrame, targets: list[str]) -> list[dict[str, Any]]:
    """Return the legend's traces, then two a panel and target: the undecided gains, and on top the decided ones."""
    few = frame.groupby("signal").size().max() <= FEW
    traces = [_legend(int(target), targets[target]) for target in np.unique(frame["target"])]
    for decided in (False, True):
        some = frame[frame["decided"] == decided]
        for signal, target in some[["signal", "target"]].drop_duplicates().to_numpy(int):
            part = some[(some["signal"] == signal) & (some["target"] == target)]
            name, colour, number = targets[target], theme.colour(target), "" if signal == 0 else str(signal + 1)
            y = part["y"].to_numpy()
            above, below = (np.nan_to_num(part["high"].to_numpy() - y), np.nan_to_num(y - part["low"].to_numpy()))
            bar = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 0}
            mark = {"color": colour, "size": 9 if few else 6, "symbol": _symbol(target) + ("" if decided else "-open")}
            trace = {"type": "scatter", "mode": "markers", "name": name, "legendgroup": name, "showlegend": False}
            trace |= {"x": part["x"].to_numpy(), "y": y, "xaxis": f"x{number}", "yaxis": f"y{number}"}
            trace |= {"error_y": bar | {"color": theme.translucent(colour, 0.5 if few else 0.25)}}
            trace |= {
                "marker": mark | {"line": {"width": 1.5, "color": colour}},
                "opacity": 1.0 if decided else UNDECIDED,
            }
            trace |= {"text": part["pair"].to_numpy(object), "customdata": part[["low", "high"]].to_numpy()}
            trace["hovertemplate"] = (
                "%{text}<br>signal %{x:.3~g}<br>gain %{y:.3~g} (%{customdata[0]:.3~g} to %{customdata[1]:.3~g})"
                "<extra></extra>"
            )
            traces.append(trace)
    return traces


def _legend(target: int, name: str) -> dict[str, Any]:
    """Return a trace that only the legend shows: a target may have no decided gain, or no undecided one."""
    mark = {"color": theme.colour(target), "size": 9, "symbol": _symbol(target)}
    trace = {"type": "scatter", "mode": "markers", "name": name, "legendgroup": name, "marker": mark}
    return trace | {"x": [None], "y": [None], "legendrank": 1000 + target}


def _symbol(index: int) -> str:
    """Return what tells two tasks of one colour apart."""
    return SYMBOLS[index // len(theme.COLOURS) % len(SYMBOLS)]


def _panels(signals: list[str], frame: pd.DataFrame, correlations: pd.DataFrame, title: str) -> dict[str, Any]:
    """Return the axes of the panels, and what stands above them."""
    wide = (1 - ASIDE * (len(signals) - 1)) / len(signals)
    said = {str(row.signal): row for row in correlations.itertuples()}
    annotations: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": annotations}
    for index, signal in enumerate(signals):
        number, left = "" if index == 0 else str(index + 1), index * (wide + ASIDE)
        x: dict[str, Any] = {"domain": [left, left + wide], "anchor": f"y{number}", "nticks": 5}
        x |= {"zeroline": True, "zerolinewidth": 1, "zerolinecolor": theme.NEUTRAL}
        x["title"] = {"text": AXES.get(signal, theme.literal(signal)), "standoff": 6, "font": {"size": 11}}
        y = theme.value_axis(title if index == 0 else "", zero_line=True) | {"domain": [0, 1 - ABOVE]}
        y |= {"anchor": f"x{number}", "range": _range(frame), "showticklabels": index == 0}
        if index:
            y["matches"] = "y"
        layout |= {f"xaxis{number}": x, f"yaxis{number}": y}
        place = {"x": 0, "xref": f"x{number} domain", "y": 1, "yref": f"y{number} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "align": "left", "showarrow": False, "font": {"size": 11}}
        annotations.append(place | look | {"text": _heading(signal, said.get(signal))})
    return layout


def _heading(signal: str, row: Any) -> str:
    """Return a panel's signal, its rank correlation and the interval, short enough for a third of a narrow cell."""
    name = f"<b>{theme.literal(signal)}</b>"
    if row is None:
        return name
    interval = f"{_number(row.low)} to {_number(row.high)}" if np.isfinite([row.low, row.high]).all() else "no interval"
    found = f"ρ = {_number(row.correlation)}<br>{interval}" if np.isfinite(row.correlation) else "ρ undefined"
    within = _number(row.within) if np.isfinite(row.within) else "undefined"
    return f"{name}, {row.pairs} pairs<br>{found}<br>within targets {within}"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _range(frame: pd.DataFrame) -> list[float]:
    """Return an axis that holds all points and 0, and of each interval what lies near them."""
    low, high = min(0.0, frame["y"].min()), max(0.0, frame["y"].max())
    span = (high - low) or 1.0
    ends = [frame["low"].min(), frame["high"].max()]
    bottom, top = (end if np.isfinite(end) else 0.0 for end in ends)
    margin = 0.05 * span
    return [float(max(min(low, bottom), low - span) - margin), float(min(max(high, top), high + span) + margin)]
