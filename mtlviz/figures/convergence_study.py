"""A study of asynchronous convergence: the curves of each method in a panel of its own, and the table as a picture."""

from __future__ import annotations

from collections.abc import Sequence
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
PANEL, ABOVE, HEAD = 132, 26, 150  # pixels: a panel, the name above it; heading, legend and step axis together
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
    says += "; ◇ kept at convergence, thin: soft labels,<br>dotted: waits, faint: thrown away"
    quantity = "value" if show == "values" else "behind"
    known = np.isfinite(finite(frame[quantity]))
    if not known.any():
        return theme.noted(question, says, "No validation yet.")
    frame = frame[known].assign(value=frame.loc[known, quantity])
    frame = frame.assign(decided=frame["decided"].astype("Float64").to_numpy(np.float64, na_value=np.nan))
    methods = [name for name in theme.names(frame["method"]) if (frame["method"] == name).any()]
    units = _units(frame)
    blocks = list(dict.fromkeys(units))
    columns = min(columns, len(methods))
    data: list[dict[str, Any]] = []
    cells: list[_Cell] = []
    for block in blocks:
        for method in methods:
            chosen = (units == block) & (frame["method"] == method).to_numpy()
            number = str(len(cells) + 1) if cells else ""
            data += _panel(frame, chosen, number, shown={trace["name"] for trace in data})
            cells.append((block, str(method), number))
    height = HEAD + (PANEL + ABOVE) * -(-len(methods) // columns) * len(blocks)
    shared = theme.layout(question, says, height=height)
    return theme.figure(data, shared | _panels(frame, cells, columns, height, show, len(methods)))


_Cell = tuple[str, str, str]  # unit, method, number of its axes


def _units(frame: pd.DataFrame) -> np.ndarray:
    """What the vertical axis of each row measures: one for all scores, and one for each error."""
    return np.where(frame["direction"] == "max", "validation", frame["metric"].astype(str))


def _panel(frame: pd.DataFrame, chosen: np.ndarray, number: str, *, shown: set[str]) -> list[dict[str, Any]]:
    """Return the traces of a panel; a task stands in the legend once."""
    names = theme.short_names(theme.names(frame["task"]))
    places = theme.places(frame["task"])
    traces: list[dict[str, Any]] = []
    for index in np.unique(places[chosen]):
        pen = Pen(names[index], theme.colour(index), theme.dash(index), 1.6)
        group = branches(rows(frame, _LINE, chosen & (places == index)), pen, over="step", crowded=True)
        drawn = [trace for trace in group if len(trace["x"])]
        for trace in drawn:
            trace["showlegend"] = False
            trace["mode"] = trace["mode"] if len(trace["x"]) == 1 or "text" in trace else "lines"
            trace["hovertemplate"] = f"{pen.name}<br>{trace['hovertemplate']}<extra></extra>"
        if drawn and pen.name not in shown:
            max(drawn, key=lambda trace: trace.get("opacity", 1.0))["showlegend"] = True  # the first that is not faint
        traces += [trace | {"xaxis": f"x{number}", "yaxis": f"y{number}"} for trace in drawn]
    return traces


def _panels(
    frame: pd.DataFrame, cells: Sequence[_Cell], columns: int, height: int, show: str, methods: int
) -> dict[str, Any]:
    """Return the axes of the panels, from left to right and top to bottom, and the methods' names above them."""
    per_block = -(-methods // columns)
    down = per_block * (len(cells) // methods)
    between, aside = ABOVE / (height - HEAD), 0.05  # parts of the plot
    tall, wide = (1 - between * down) / down, (1 - aside * (columns - 1)) / columns
    layout: dict[str, Any] = {"hovermode": "closest", "annotations": []}
    first: dict[str, str] = {}
    for index, (unit, method, number) in enumerate(cells):
        row, column = divmod(index % methods, columns)
        row += index // methods * per_block
        left, bottom = column * (wide + aside), 1 - (row + 1) * (tall + between)
        x = theme.step_axis(frame["step"]) | {"domain": [left, left + wide], "anchor": f"y{number}"}
        y = theme.value_axis(unit if show == "values" else f"{unit}: below best")
        y |= {"domain": [max(0.0, bottom), bottom + tall], "anchor": f"x{number}", "nticks": 5}
        y["title"]["font"] = {"size": 11}
        if index:
            x["matches"] = "x"
        if unit in first:
            y["matches"] = f"y{first[unit]}"
        elif show == "behind":
            y["range"] = _behind_range(frame[_units(frame) == unit])
        first.setdefault(unit, number)
        if index % methods + columns < methods or index + methods < len(cells):
            x |= {"showticklabels": False, "title": {"text": ""}}
        if column:
            y |= {"showticklabels": False, "title": {"text": ""}}
        layout |= {f"xaxis{number}": x, f"yaxis{number}": y}
        place = {"x": 0, "xref": f"x{number} domain", "y": 1, "yref": f"y{number} domain", "xanchor": "left"}
        look = {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        layout["annotations"].append(place | look | {"text": f"<b>{theme.literal(method, METHOD_NAME)}</b>"})
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
