"""What training together does to one task of the three-task picture: its accuracy, and where its boundary goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import finite
from mtlviz.figures.three_task import COLOURS, Range, needed

SAYS = {"positive": "helps", "negative": "hurts", "undecided": "undecided"}
HEIGHT, HEAD = 320, 92  # pixels
SPREAD, GOLDEN = 0.6, 0.618034  # of a row: how far its dots are spread, so that they do not cover each other

_ACCURACY = ("trained", "task", "accuracy", "low", "high", "gain", "gain_low", "gain_high", "verdict", "seeds")


def three_task_accuracy(
    frame: pd.DataFrame, *, task: str = "task 1", limits: Range | None = None, height: int = HEIGHT
) -> go.Figure:
    """Draw how well one task does alone, with each of the others and with all.

    Args:
        frame: as `ThreeTask.accuracy` returns it.
        task: whose accuracy is drawn.
        limits: of the axis, in percent; None: what there is to see.
        height: of the figure, in pixels.

    Returns:
        A dot with its interval for each group; beside its name the gain over training alone, with the interval that
        decides whether the others help or hurt.

    Raises:
        FrameError: a column is missing, or the task.
    """
    needed(frame, _ACCURACY, "three_task_accuracy", "accuracy")
    own = frame[frame["task"] == task]
    if own.empty:
        known = ", ".join(map(str, theme.names(frame["task"]))) or "none"
        raise FrameError(f"figures.three_task_accuracy knows no task {task!r}; there are {known}.")
    question = f"Who helps {theme.literal(task)}, and who hurts it?"
    seeds = int(own["seeds"].max())
    says = f"accuracy in %, mean of {_samples(seeds)}<br>gain over alone in points, paired by sample, with its interval"
    mean, low, high = (100 * finite(own[name]) for name in ("accuracy", "low", "high"))
    places = np.arange(len(own), dtype=np.float64)
    colours = [theme.colour(COLOURS.get(str(name), len(COLOURS))) for name in own["trained"]]
    gains = [_gain(*row) for row in own[["gain", "gain_low", "gain_high", "verdict"]].itertuples(index=False)]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": mean[place : place + 1],
            "y": places[place : place + 1],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - mean)[place : place + 1],
                "arrayminus": np.nan_to_num(mean - low)[place : place + 1],
                "thickness": 2,
                "width": 5,
            },
            "marker": {"color": colour, "size": 11},
            "name": str(name),
            "showlegend": False,
            "hovertemplate": f"{name}: %{{x:.2f}} %<br>{says_of or 'the baseline'}<extra></extra>",
        }
        for place, (name, colour, says_of) in enumerate(zip(own["trained"], colours, gains, strict=True))
    ]
    names = [
        f"<b>{name}</b>" + (f"<br>{gain}" if gain else "") for name, gain in zip(own["trained"], gains, strict=True)
    ]
    layout = theme.layout(question, says, height=height, legend=False) | {"hovermode": "closest"}
    layout["margin"] |= {"t": HEAD}
    layout["yaxis"] = _rows(names)
    layout["xaxis"] = {"title": {"text": "accuracy, %", "standoff": 8}, "zeroline": False, "nticks": 7}
    if limits is not None:
        layout["xaxis"]["range"] = list(limits)
    alone = np.flatnonzero(own["trained"] == "alone")
    if len(alone) and np.isfinite(mean[alone[0]]):
        layout["shapes"] = [_upright(float(mean[alone[0]]), "dot")]
    return theme.figure(data, layout)


def three_task_turns(
    frame: pd.DataFrame,
    *,
    task: str = "task 1",
    other: float | None = None,
    limits: Range | None = None,
    height: int = HEIGHT,
) -> go.Figure:
    """Draw by how much the boundary that one task learns is turned from its true one, sample by sample.

    Args:
        frame: as `ThreeTask.turns` returns it.
        task: whose boundary.
        other: by how many degrees the boundary of the other tasks is turned; marked.
        limits: of the axis, in degrees; None: what there is to see.
        height: of the figure, in pixels.

    Returns:
        A dot per training sample, in a row per group that the task trained in: alone they scatter, and the more the
        others pull, the closer they lie to the boundary of the others.

    Raises:
        FrameError: a column is missing.
    """
    needed(frame, ("trained", "task", "seed", "turn"), "three_task_turns", "turns")
    question = f"Does {theme.literal(task)} scatter, or is it pulled aside?"
    says = "degrees between its learned and its true boundary, a dot per training sample"
    if other is not None:
        says += f"<br>dotted: its own boundary, 0°; dashed: that of the others, {other:.0f}°".replace("-", "−")
    own = frame[frame["task"] == task]
    groups = [name for name in COLOURS if (own["trained"] == name).any()]
    if not groups:
        return theme.noted(question, says, "No boundary was learned: each sample holds one class only.")
    data: list[dict[str, Any]] = []
    for place, name in enumerate(groups):
        turn = finite(own.loc[own["trained"] == name, "turn"])
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": turn,
                "y": place + SPREAD * (np.arange(len(turn)) * GOLDEN % 1 - 0.5),
                "marker": {"color": theme.colour(COLOURS[name]), "size": 6, "opacity": 0.45},
                "name": name,
                "showlegend": False,
                "hovertemplate": f"{name}: %{{x:.1f}}°<extra></extra>",
            }
        )
    layout = theme.layout(question, says, height=height, legend=False) | {"hovermode": "closest"}
    layout["margin"] |= {"t": HEAD}
    names = [f"<b>{name}</b>" for name in groups]
    layout["yaxis"] = _rows(names)
    layout["xaxis"] = {"title": {"text": "turned by, degrees", "standoff": 8}, "zeroline": False, "nticks": 9}
    layout["xaxis"] |= {"ticksuffix": "°"} | ({} if limits is None else {"range": list(limits)})
    layout["shapes"] = [_upright(0.0, "dot")] + ([] if other is None else [_upright(other, "dash")])
    return theme.figure(data, layout)


def _rows(names: Sequence[str]) -> dict[str, Any]:
    """The vertical axis of a row per name, from the top."""
    axis: dict[str, Any] = {"tickmode": "array", "tickvals": np.arange(len(names)), "ticktext": list(names)}
    axis |= {"range": [len(names) - 0.5, -0.5], "automargin": True, "showgrid": False, "zeroline": False}
    return axis | {"ticklabelstandoff": 6}


def _upright(at: float, dash: str) -> dict[str, Any]:
    line = {"color": theme.NEUTRAL, "width": 1.5, "dash": dash}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line, "layer": "below"}


def _gain(gain: float, low: float, high: float, verdict: str) -> str:
    """What a gain says, in percentage points; nothing for the baseline."""
    if not np.isfinite(gain):
        return ""
    span = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if np.isfinite(low) else ""
    return f"{SAYS.get(verdict, theme.literal(verdict))} {100 * gain:+.1f}{span}".replace("-", "−")


def _samples(seeds: int) -> str:
    return f"{seeds} training sample" + ("" if seeds == 1 else "s")
