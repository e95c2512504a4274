"""Which conflicts are real, and how much of each gradient is noise of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures import theme
from mtlviz.figures.lines import finite, needed

ROW, HEAD = 26, 210  # pixels of height per row, and for heading, legend and axis together
NAME = 14  # characters of a task's name beside the axis

_COLOURS = {"conflict": theme.DIVERGING[0][1], "agreement": theme.DIVERGING[-1][1], "undecided": theme.NEUTRAL}


def conflict_test(frame: pd.DataFrame) -> go.Figure:
    """Draw for each pair of tasks the product of its gradients without shared noise, with its interval.

    Args:
        frame: as `analysis.conflict_test` returns it.

    Returns:
        A point with its interval per pair, coloured by the verdict, and an open mark where the biased product of one
        batch lies.

    Raises:
        FrameError: a column is missing.
    """
    columns = ("task_a", "task_b", "relative", "relative_low", "relative_high", "same_batch", "count", "verdict")
    needed(frame, (*columns, "step_first", "step_last"), "conflict_test")
    question, unit = "Which conflicts are real?", "product of gradients ÷ norms (below 0: conflict)"
    value = finite(frame["relative"])
    if not np.isfinite(value).any():
        one = len(theme.names(frame["task_a"])) == 1
        return theme.noted(question, unit, "A conflict takes two tasks." if one else "No step with two tasks yet.")
    says = f"{unit}<br>{_steps(frame)}, halves of a batch that share no sample"
    names = theme.short_names(theme.names(frame["task_a"]), NAME)
    first, second = (theme.places(frame[key]) for key in ("task_a", "task_b"))
    pairs = [f"{names[a]} × {names[b]}" for a, b in zip(first, second, strict=True)]
    data = []
    for verdict, colour in _COLOURS.items():
        chosen = np.flatnonzero((frame["verdict"] == verdict).to_numpy() & np.isfinite(value))
        if len(chosen):
            data.append(_tested(frame, pairs, chosen, verdict, colour))
    data.append(_biased(frame, pairs))
    zero = {"zeroline": True, "zerolinecolor": theme.NEUTRAL, "zerolinewidth": 1.5}
    shared = theme.layout(question, says, height=HEAD + ROW * len(pairs))
    axes = {"xaxis": {"title": {"text": "product ÷ norms", "standoff": 8}} | zero, "yaxis": _rows(pairs)}
    return theme.figure(data, shared | axes | {"hovermode": "closest"})


def noise_floor(frame: pd.DataFrame) -> go.Figure:
    """Draw which share of each task's squared gradient norm is noise of the batch.

    Args:
        frame: as `analysis.noise_floor` returns it.

    Returns:
        A point with its interval per task, in the task's colour.

    Raises:
        FrameError: a column is missing.
    """
    needed(frame, ("task", "norm", "signal", "noise", "low", "high", "count", "step_first", "step_last"), "noise_floor")
    question, unit = (
        "How much of each gradient is noise?",
        "share of the squared norm that comes from the batch's noise",
    )
    value = finite(frame["noise"])
    if not np.isfinite(value).any():
        return theme.noted(question, unit, "No step recorded yet.")
    tasks = theme.names(frame["task"])
    names = theme.short_names(tasks, 2 * NAME)
    data = []
    for row, place in enumerate(theme.places(frame["task"])):
        data.append(
            _marks([value[row]], [row], theme.colour(place))
            | _interval(frame.iloc[[row]], value[[row]], "low", "high")
            | {"name": names[place], "showlegend": False, "customdata": frame[["norm", "signal", "count"]].iloc[[row]]}
            | {"hovertemplate": f"{names[place]}<br>noise %{{x:.0%}}<br>norm %{{customdata[0]:.3~g}}, of it signal "}
        )
        data[-1]["hovertemplate"] += "%{customdata[1]:.3~g}<br>%{customdata[2]:,} steps<extra></extra>"
        data[-1]["customdata"] = data[-1]["customdata"].to_numpy(np.float64)
    shared = theme.layout(question, f"{unit}<br>{_steps(frame)}", legend=False)
    shared["height"] = max(240, HEAD - 60 + ROW * len(names))
    shared["margin"] |= {"t": 92}
    horizontal: dict[str, Any] = {"title": {"text": "share of noise", "standoff": 8}, "tickformat": ".0%"}
    horizontal |= {"rangemode": "tozero", "zeroline": False}
    return theme.figure(data, shared | {"xaxis": horizontal, "yaxis": _rows(names), "hovermode": "closest"})


def _tested(frame: pd.DataFrame, pairs: list[str], chosen: Any, verdict: str, colour: str) -> dict[str, Any]:
    part = frame.iloc[chosen]
    value = finite(part["relative"])
    return (
        _marks(value, chosen, colour)
        | _interval(part, value, "relative_low", "relative_high")
        | {
            "name": verdict,
            "text": [pairs[row] for row in chosen],
            "customdata": part["count"].to_numpy(np.float64),
            "hovertemplate": f"%{{text}}<br>%{{x:.3f}}: {verdict}<br>%{{customdata:,}} steps<extra></extra>",
        }
    )


def _biased(frame: pd.DataFrame, pairs: list[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "same batch, biased",
        "x": finite(frame["same_batch"]),
        "y": np.arange(len(pairs)),
        "marker": {"symbol": "line-ns-open", "size": 13, "color": theme.NEUTRAL, "line": {"width": 2}},
        "text": pairs,
        "hovertemplate": "%{text}<br>%{x:.3f} of one batch, biased<extra></extra>",
    }


def _marks(x: Any, y: Any, colour: str) -> dict[str, Any]:
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "marker": {"color": colour, "size": 9}}


def _interval(part: pd.DataFrame, value: Any, low: str, high: str) -> dict[str, Any]:
    above, below = finite(part[high]) - value, value - finite(part[low])
    bars = {"type": "data", "symmetric": False, "array": np.nan_to_num(above), "arrayminus": np.nan_to_num(below)}
    return {"error_x": bars | {"thickness": 1.8, "width": 4}}


def _rows(names: list[str]) -> dict[str, Any]:
    """Return a vertical axis with a name per row, the first on top."""
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": np.arange(len(names)), "ticktext": names}
    return ticks | {"range": [len(names) - 0.4, -0.6], "automargin": True, "showgrid": False, "zeroline": False}


def _steps(frame: pd.DataFrame) -> str:
    first, last = int(frame["step_first"].min()), int(frame["step_last"].max())
    return f"steps {first:,} to {last:,}"
