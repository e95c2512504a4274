"""Task covariances: how alike those of two tasks are, over how many directions each spreads, and how these lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import CROWDED, FEW, finite, needed

WRITTEN = 12  # tasks up to which a cell has room for its number
ROOMY = 6  # tasks up to which it has room for three decimals: tasks on the same inputs differ there only
AXIS_NAME = 16  # characters of a name beside a heat map
NUMBERED = 12  # cells of a whole side up to which a cell of the alignment has room for its number
SIDE = 380  # pixels of a narrow cell's width that blocks of the alignment share
AGREEMENT = [[2 * stop - 1, colour] for stop, colour in theme.DIVERGING[2:]]
"""From nothing in common, neutral, to all, blue."""

SAYS = {
    "score": "covariance similarity score, 0 to 1 (eq. 5)<br>a task's score with itself is 1 only for rank 1",
    "cosine": "cosine between task covariances, 0 to 1<br>an extension of the paper's score; 1 with itself",
}


def covariance_scores(frame: pd.DataFrame, *, value: str = "score") -> go.Figure:
    """Draw how alike the inputs of all pairs of tasks are, as an annotated heat map.

    Args:
        frame: as `analysis.covariance_scores` returns it.
        value: "score" (equation 5), whose diagonal is a task's score with itself, the most that its row can be
            compared to; or "cosine", the variant that is 1 there.

    Raises:
        FrameError: a column is missing, or value is neither.
    """
    question = "Whose inputs are alike?"
    if value not in SAYS:
        raise FrameError(f"figures.covariance_scores needs value='score' or value='cosine', but value is {value!r}.")
    needed(frame, ("task_a", "task_b", "score", "cosine"), "covariance_scores")
    if not np.isfinite(finite(frame[value])).any():
        return theme.noted(question, SAYS[value], "No task's covariance yet.")
    tasks = theme.names(frame["task_a"])
    T = len(tasks)
    at = theme.places(frame["task_a"]), theme.places(frame["task_b"])
    cells = {name: np.full((T, T), np.nan) for name in ("score", "cosine")}
    for name, table in cells.items():
        table[at] = finite(frame[name])
    full = [theme.literal(name) for name in tasks]
    heat = _heat(cells[value]) | {
        "customdata": np.stack([cells["score"], cells["cosine"]], axis=-1),
        "text": [[f"{a} × {b}" for b in full] for a in full],
        "hovertemplate": "%{text}<br>score %{customdata[0]:.3f}<br>cosine %{customdata[1]:.3f}<extra></extra>",
        "texttemplate": f"%{{z:.{3 if T <= ROOMY else 2}f}}" if T <= WRITTEN else "",
        "xgap": 2,
        "ygap": 2,
    }
    heat |= {} if T <= WRITTEN else _scale_bar(value)
    ticks = _ticks(np.arange(T), theme.short_names(tasks, AXIS_NAME)) | {"automargin": True}
    shared = theme.layout(question, SAYS[value], legend=False, height=max(theme.HEIGHT, 120 + 16 * T))
    axes = {"xaxis": ticks | {"autotickangles": [0, -45, -90]}, "yaxis": ticks | {"autorange": "reversed"}}
    return theme.figure([heat], _roomy(shared) | axes | {"hovermode": "closest"})


def covariance_spectra(frame: pd.DataFrame) -> go.Figure:
    """Draw how many directions hold a task's inputs: the share of its covariance in its first directions.

    Args:
        frame: as `analysis.covariance_spectra` returns it.

    Returns:
        A line per task over the number of directions, a logarithmic axis, and a diamond at the rank that the score
        keeps.

    Raises:
        FrameError: a column is missing.
    """
    question, says = "How many directions hold a task's inputs?", "share of the covariance's trace · ◇ rank kept"
    needed(frame, ("task", "index", "value", "share", "cumulative", "kept"), "covariance_spectra")
    if not np.isfinite(finite(frame["cumulative"])).any():
        return theme.noted(question, says, "No task's covariance yet.")
    tasks, places = theme.names(frame["task"]), theme.places(frame["task"])
    data: list[dict[str, Any]] = []
    present = np.unique(places[places >= 0])
    for place, name in zip(present, np.array(theme.short_names(tasks), dtype=object)[present], strict=True):
        own = frame[places == place].sort_values("index")
        data += _spectrum(own, str(name), int(place), crowded=len(present) > CROWDED)
    most = float(frame["index"].max())
    decades = len(str(int(most)))
    across = {"title": {"text": "directions, by eigenvalue", "standoff": 8}, "type": "log", "zeroline": False}
    across |= {"tickmode": "array", "tickvals": [k * 10**e for e in range(decades) for k in (1, 2, 5)]}
    across |= {"range": [-0.02 - 0.02 * decades, np.log10(max(most, 2)) + 0.02 * decades]}
    across |= {"unifiedhovertitle": {"text": "first %{x:,} directions"}}
    up = theme.value_axis("share of the trace") | {"tickformat": ".0%", "range": [0, 1.06]}
    hover = {"hovermode": "closest" if len(present) > CROWDED else "x unified"}
    return theme.figure(data, theme.layout(question, says) | hover | {"xaxis": across, "yaxis": up})


def _spectrum(own: pd.DataFrame, name: str, place: int, *, crowded: bool) -> list[dict[str, Any]]:
    """Return the line of a task, and the diamond at its kept rank."""
    index, share = own["index"].to_numpy(np.int64), finite(own["cumulative"])
    rank = int(own["kept"].to_numpy(bool).sum())
    shared = {"type": "scatter", "name": name, "legendgroup": name}
    line = shared | {
        "x": index,
        "y": share,
        "mode": "lines+markers" if len(index) <= FEW else "lines",
        "line": {"color": theme.colour(place), "dash": theme.dash(place), "width": 2},
        "marker": {"color": theme.colour(place), "size": 4},
        "customdata": finite(own["share"]),
        "hovertemplate": ("first %{x:,}<br>" if crowded else "") + "%{y:.2%}, the last of them %{customdata:.2~%}",
    }
    if not rank:
        return [line]
    diamond = {"symbol": "diamond-open", "size": 12, "color": theme.colour(place), "line": {"width": 2}}
    mark = {"x": index[rank - 1 : rank], "y": share[rank - 1 : rank], "mode": "markers", "marker": diamond}
    mark |= {"showlegend": False, "hoverinfo": "skip", "cliponaxis": False}
    return [line, shared | mark]


def covariance_alignment(frame: pd.DataFrame) -> go.Figure:
    """Draw how the leading directions of the tasks' covariances lie to each other: a block of cells per pair of tasks.

    Args:
        frame: as `analysis.covariance_alignment` returns it.

    Returns:
        One heat map of the sizes of the cosines, with a row of blocks for each task but the first and a column of
        blocks for each but the last. Tasks with the same directions show a bright diagonal from the top left.

    Raises:
        FrameError: a column is missing.
    """
    question = "Do tasks lie along the same directions?"
    says = "|cosine| of leading directions, 0 to 1<br>a blue diagonal: the same ones, in the same order"
    needed(frame, ("task_a", "task_b", "direction_a", "direction_b", "cosine"), "covariance_alignment")
    if not np.isfinite(finite(frame["cosine"])).any():
        return theme.noted(question, says, "Directions are compared between two tasks.")
    tasks = theme.names(frame["task_a"])
    blocks, k = len(tasks) - 1, int(max(frame["direction_a"].max(), frame["direction_b"].max()))
    z, hover = _blocks(frame, tasks, k)
    side = blocks * (k + 1) - 1  # cells; an empty one between blocks
    heat = _heat(z) | {"text": hover, "hovertemplate": "%{text}<br>|cosine| %{z:.3f}<extra></extra>"}
    heat |= {"xgap": 1, "ygap": 1} | ({"texttemplate": "%{z:.2f}"} if side <= NUMBERED else _scale_bar("|cosine|"))
    short = theme.short_names(tasks, max(4, min(AXIS_NAME, SIDE // blocks // 9)))
    long = theme.short_names(tasks, AXIS_NAME)
    places, middle = [b * (k + 1) + i for b in range(blocks) for i in range(k)], (k - 1) // 2
    across = [f"{i + 1}<br><b>{short[b]}</b>" if i == middle else str(i + 1) for b in range(blocks) for i in range(k)]
    down = [f"<b>{long[b]}</b>  {i + 1}" if i == middle else str(i + 1) for b in range(1, blocks + 1) for i in range(k)]
    small = {"automargin": True, "tickfont": {"size": 11 if side <= 20 else 9}}
    x, y = (_ticks(np.array(places), text) | small for text in (across, down))
    shared = theme.layout(question, says, legend=False, height=150 + min(34, max(14, 420 // side)) * side)
    return theme.figure(
        [heat],
        _roomy(shared)
        | {"hovermode": "closest", "xaxis": x | {"tickangle": 0}, "yaxis": y | {"autorange": "reversed"}},
    )


def _blocks(frame: pd.DataFrame, tasks: list[object], k: int) -> tuple[NDArray[np.float64], list[list[str]]]:
    """Return the cells of all blocks, a row per direction of the later task of a pair, and what they are in words."""
    side = (len(tasks) - 1) * (k + 1) - 1
    names = [theme.literal(name) for name in tasks]
    a, b = theme.places(frame["task_a"]), theme.places(frame["task_b"])
    i, j = frame["direction_a"].to_numpy(np.int64) - 1, frame["direction_b"].to_numpy(np.int64) - 1
    row, column = (b - 1) * (k + 1) + j, a * (k + 1) + i
    z, words = np.full((side, side), np.nan), [[""] * side for _ in range(side)]
    z[row, column] = finite(frame["cosine"])
    for r, c, one, other, first, second in zip(row, column, a, b, i, j, strict=True):
        words[r][c] = f"direction {first + 1} of {names[one]}<br>direction {second + 1} of {names[other]}"
    return z, words


def _heat(z: NDArray[np.float64]) -> dict[str, Any]:
    shared = {"type": "heatmap", "z": z, "zmin": 0, "zmax": 1, "colorscale": AGREEMENT}
    return shared | {"showscale": False, "hoverongaps": False}


def _scale_bar(unit: str) -> dict[str, Any]:
    bar = {"title": {"text": unit, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return {"showscale": True, "colorbar": bar}


def _ticks(values: NDArray[np.int64], text: list[str]) -> dict[str, Any]:
    return {"tickmode": "array", "tickvals": values, "ticktext": text, "showgrid": False, "zeroline": False}


def _roomy(layout: dict[str, Any]) -> dict[str, Any]:
    """The layout with room for a heading of three lines."""
    return layout | {"margin": layout["margin"] | {"t": 92}}
