"""A study of asynchronous convergence: the curves of each method in a panel of its own, and the table as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.branches import branches
from mtlviz.figures.lines import Pen, finite, rows

COLUMNS = 2  # panels side by side, also in a narrow cell
METHOD_NAME = 24  # characters of a method's name
PANEL, ABOVE, HEAD = 132, 26, 170  # pixels: a panel, the name above it; heading, legend and step axis together
DOT = 15  # pixels of height per task and method
_LINE = ("step", "position", "discarded", "value", "phase", "decided")


def convergence_curves(
    frame: pd.DataFrame, *, show: Literal["values", "behind"] = "values", columns: int = COLUMNS
) -> go.Figure:
    """Draw each task's validations over the work done, a panel per method; all panels share their axes.

    Args:
        frame: as `mv.experiments.convergence_curves` returns it.
        show: "values", in the metric's own unit; or "behind", how far below the run's best each validation is, where
            losses of a point can be seen whatever the metric's height. Beyond the worst end the axis is cut off.
        columns: panels side by side; more where there is room.

    Returns:
        Per panel and task: faint what a rewind threw away, a line, thin where the task was distilled, dotted where it
        waited, and a diamond at the validation that was kept when it converged. Metrics that are better when smaller
        have units of their own, and so blocks of panels of their own below.

    Raises:
        FrameError: a column is missing, or `show` or `columns` is out of range.
    """
    _needed(frame, ("method", "task", "metric", "direction", "behind", *_LINE), "convergence_curves")
    if show not in ("values", "behind"):
        raise FrameError(f"convergence_curves shows 'values' or 'behind', not {show!r}.")
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise FrameError(f"convergence_curves needs columns, a whole number from 1; got {columns!r}.")
    question = "Which method keeps what its tasks have learned?"
    says = "validation of each task" if show == "values" else "how far each task is below its best validation"
    says += "<br>◇ kept at convergence; thin: soft labels;<br>dotted: waits; faint: thrown away"
    quantity = "value" if show == "values" else "behind"
    known = np.isfinite(finite(frame[quantity]))
    if not known.any():
        return theme.noted(question, says, "No validation yet.")
    frame = frame[known].assign(value=frame.loc[known, quantity])
    frame = frame.assign(decided=frame["decided"].astype("Float64").to_numpy(np.float64, na_value=np.nan))
    cells = _cells(frame, columns)
    data: list[dict[str, Any]] = []
    for cell in cells:
        data += _panel(frame, cell, shown={trace["name"] for trace in data if trace["showlegend"]})
    height = HEAD + (PANEL + ABOVE) * (cells[-1].row + 1)
    shared = theme.layout(question, says, height=height)
    return theme.figure(data, shared | _panels(frame, cells, height, show))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A panel: what its rows are, and where it stands; `number` is that of its axes."""

    unit: str
    method: object
    row: int
    column: int
    number: str


def _cells(frame: pd.DataFrame, columns: int) -> list[_Cell]:
    """Return the panels, a block of them per unit, from left to right and top to bottom."""
    units, method = _units(frame), frame["method"].astype(object).to_numpy()
    cells: list[_Cell] = []
    row = 0
    for unit in dict.fromkeys(units):
        some = [name for name in theme.names(frame["method"]) if ((method == name) & (units == unit)).any()]
        wide = min(columns, len(some))
        for index, name in enumerate(some):
            number = str(len(cells) + 1) if cells else ""
            cells.append(_Cell(str(unit), name, row + index // wide, index % wide, number))
        row += -(-len(some) // wide)
    return cells


def _units(frame: pd.DataFrame) -> np.ndarray:
    """What the vertical axis of each row measures: one for all scores, and one for each error."""
    return np.where(frame["direction"] == "max", "validation", frame["metric"].astype(str))


def _panel(frame: pd.DataFrame, cell: _Cell, *, shown: set[str]) -> list[dict[str, Any]]:
    """Return the traces of a panel; a task stands in the legend once."""
    names = theme.short_names(theme.names(frame["task"]))
    places = theme.places(frame["task"])
    chosen = (_units(frame) == cell.unit) & (frame["method"] == cell.method).to_numpy()
    axes = {"xaxis": f"x{cell.number}", "yaxis": f"y{cell.number}"}
    traces: list[dict[str, Any]] = []
    for index in np.unique(places[chosen]):
        pen = Pen(names[index], theme.colour(index), theme.dash(index), 1.6)
        group = branches(rows(frame, _LINE, chosen & (places == index)), pen, over="step", crowded=True)
        drawn = [trace for trace in group if len(trace["x"])]
        for trace in drawn:
            if "text" not in trace and len(trace["x"]) > 1:
                trace["mode"] = "lines"
            trace |= {"showlegend": False, "legendrank": 1000 + int(index)}
            trace["hovertemplate"] = f"{pen.name}<br>{trace['hovertemplate']}<extra></extra>"
        if drawn and pen.name not in shown:
            widest = max(drawn, key=lambda trace: (trace.get("opacity", 1.0), trace["line"]["width"]))
            widest["showlegend"] = True
        traces += [trace | axes for trace in drawn]
    return traces


def _panels(frame: pd.DataFrame, cells: Sequence[_Cell], height: int, show: str) -> dict[str, Any]:
    """Return the axes of the panels, and the methods' names above them."""
    columns, down = max(cell.column for cell in cells) + 1, cells[-1].row + 1
    between, aside = ABOVE / (height - HEAD), 0.05  # parts of the plot
    tall, wide = (1 - between * down) / down, (1 - aside * (columns - 1)) / columns
    lowest = {cell.column: cell for cell in cells}
    layout: dict[str, Any] = {"hovermode": "closest", "annotations": []}
    first: dict[str, str] = {}
    for cell in cells:
        left, bottom = cell.column * (wide + aside), 1 - (cell.row + 1) * (tall + between)
        x = theme.step_axis(frame["step"]) | {"domain": [left, left + wide], "anchor": f"y{cell.number}"}
        y = theme.value_axis(cell.unit if show == "values" else f"{cell.unit}: below best")
        y |= {"domain": [max(0.0, bottom), bottom + tall], "anchor": f"x{cell.number}", "nticks": 5}
        y["title"]["font"] = {"size": 11}
        if cell.number:
            x["matches"] = "x"
        if cell.unit in first:
            y["matches"] = f"y{first[cell.unit]}"
        elif show == "behind":
            y["range"] = _behind_range(frame[_units(frame) == cell.unit])
        first.setdefault(cell.unit, cell.number)
        if lowest[cell.column] is not cell:
            x |= {"showticklabels": False, "title": {"text": ""}}
        if cell.column:
            y |= {"showticklabels": False, "title": {"text": ""}}
        layout |= {f"xaxis{cell.number}": x, f"yaxis{cell.number}": y}
        place = {"x": 0, "xref": f"x{cell.number} domain", "y": 1, "yref": f"y{cell.number} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        layout["annotations"].append(place | look | {"text": f"<b>{theme.literal(cell.method, METHOD_NAME)}</b>"})
    return layout


def _behind_range(rows: pd.DataFrame) -> list[float]:
    """Return an axis that shows where each curve ends, and a little more; a curve begins far below."""
    kept = rows[~rows["discarded"].to_numpy(bool)].sort_values("step", kind="stable")
    ends = kept.groupby(["method", "task"], observed=True)["behind"].last().to_numpy(np.float64)
    worst = min(-1e-6, float(np.nanmin(ends)) if len(ends) else -1.0)
    return [1.6 * worst, -0.15 * worst]


def convergence_changes(frame: pd.DataFrame) -> go.Figure:
    """Draw the table of a study: each method's change over the baseline in each task, and the average.

    Args:
        frame: `.frame` of `mv.experiments.convergence_table`.

    Returns:
        Per task a dot for each method with ± its standard deviation over seeds; last the average, a bar.

    Raises:
        FrameError: a column is missing.
    """
    _needed(frame, ("method", "task", "metric", "change", "std", "seeds"), "convergence_changes")
    question, says = (
        "What does each method gain?",
        "change over the baseline, in the metric's unit; ± deviation over seeds",
    )
    if not np.isfinite(finite(frame["change"])).any():
        return theme.noted(question, says, "No change to show.")
    methods = [str(name) for name in frame["method"].drop_duplicates()]
    average = ((frame["task"] == "average") & (frame["metric"] == "average")).to_numpy()
    tasks = [str(name) for name in frame.loc[~average, "task"].drop_duplicates()]
    places = {name: float(index) for index, name in enumerate(methods)}
    mean = frame[average]
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "average",
            "x": finite(mean["change"]),
            "y": [places[str(name)] for name in mean["method"]],
            "width": 0.8,
            "marker": {"color": theme.translucent(theme.NEUTRAL, 0.35), "line": {"width": 0}},
            "hovertemplate": "average: %{x:+.2f}<extra></extra>",
        }
    ]
    for index, (task, name) in enumerate(zip(tasks, theme.short_names(tasks), strict=True)):
        own = frame[(frame["task"] == task).to_numpy() & ~average]
        offset = (index - (len(tasks) - 1) / 2) * 0.7 / max(len(tasks), 1)
        std = finite(own["std"])
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": finite(own["change"]),
                "y": [places[str(method)] + offset for method in own["method"]],
                "error_x": {"type": "data", "array": np.nan_to_num(std), "thickness": 1, "width": 0},
                "marker": {"color": theme.colour(index), "size": 7},
                "hovertemplate": f"{name}: %{{x:+.2f}}<extra></extra>",
            }
        )
    names: dict[str, Any] = {"tickmode": "array", "tickvals": list(places.values())}
    names |= {"ticktext": theme.short_names(methods, METHOD_NAME), "automargin": True, "showgrid": False}
    names |= {"range": [len(methods) - 0.5, -0.5], "zeroline": False}
    across = theme.value_axis("change", zero_line=True) | {"automargin": False}
    shared = theme.layout(question, says, height=HEAD + max(26, DOT * len(tasks)) * len(methods))
    return theme.figure(data, shared | {"xaxis": across, "yaxis": names, "hovermode": "closest"})


def _needed(frame: Any, columns: Sequence[str], figure: str) -> None:
    source = "experiments.convergence_curves" if figure == "convergence_curves" else "the table of a convergence study"
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"figures.{figure} needs the frame of {source}, but got {type(frame).__name__}.")
    if missing := [column for column in columns if column not in frame.columns]:
        raise FrameError(f"figures.{figure} needs the frame of {source}; missing: {', '.join(missing)}.")
