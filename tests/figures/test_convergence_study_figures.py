"""The figures of a convergence study: panels, what stands in them, and what is told where something is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import figures
from mtlviz.errors import FrameError
from mtlviz.experiments import convergence_table
from mtlviz.figures import theme
from tests.figures.pareto_checks import assert_valid
from tests.lu2022 import BASELINE, TABLE_3, lu2022


def curves(methods: list[str], tasks: dict[str, str], *, seed: int = 0) -> pd.DataFrame:
    """Ten validations a method and task, as `mv.experiments.convergence_curves` returns them.

    The fifth is kept by the first task, and the two after it are thrown away.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for method in methods:
        for number, (task, way) in enumerate(tasks.items()):
            value = rng.uniform(50, 90, 10)
            step = np.arange(10) * 20
            position = np.where(step > 120, step - 40, step)
            gone = (step == 100) | (step == 120)
            decided = np.full(10, np.nan)
            phase = np.where(step > 120, "distilled", "supervised")
            if number == 0:
                decided[4] = 120
            metric = "accuracy" if way == "max" else f"error of {task}"
            parts.append(
                pd.DataFrame(
                    {
                        "method": method, "seed": 0, "task": task, "step": step, "position": position,
                        "discarded": gone, "metric": metric, "value": value, "direction": way, "best": False,
                        "phase": phase if number == 0 else "supervised", "decided": decided,
                        "behind": value - value.max() if way == "max" else value.min() - value,
                    }
                )
            )  # fmt: skip
    frame = pd.concat(parts, ignore_index=True)
    for column, order in (("method", methods), ("task", list(tasks))):
        frame[column] = pd.Categorical(frame[column], categories=order, ordered=True)
    return frame


FIVE = {f"task {number}": "max" for number in range(5)}
TEN = [f"method {number}" for number in range(10)]


def valid(figure: go.Figure) -> go.Figure:
    """The figure, each property of it checked by plotly."""
    assert_valid(figure)
    return figure


def test_a_panel_per_method_and_a_curve_per_task() -> None:
    frame = curves(TEN, FIVE)
    figure = valid(figures.convergence_curves(frame))
    assert [note.text for note in figure.layout.annotations] == [f"<b>{name}</b>" for name in TEN]
    for number in range(10):
        axis = f"y{number + 1}" if number else "y"
        own = [trace for trace in figure.data if trace.yaxis == axis]
        assert {trace.name for trace in own} == set(FIVE)
        for trace in own:
            assert trace.line.color == theme.colour(list(FIVE).index(trace.name))
        layout = figure.layout[f"yaxis{number + 1}" if number else "yaxis"]
        assert layout.matches == (None if number == 0 else "y")
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == sorted(FIVE)
    assert figure.layout.meta["question"] == "Which method keeps what its tasks have learned?"


def test_a_curve_is_the_frame_s_and_discarded_stretches_are_faint() -> None:
    frame = curves(["joint"], FIVE)
    figure = valid(figures.convergence_curves(frame))
    for task in FIVE:
        rows = frame[frame["task"] == task].set_index("step")["value"]
        own = [trace for trace in figure.data if trace.name == task and trace.text is None]
        for trace in own:
            faint = trace.opacity == theme.FAINT
            points = {(x, y) for x, y in zip(trace.x, trace.y, strict=True) if np.isfinite(y)}
            measured = {point for point in points if rows.get(point[0]) == point[1]}
            ends = {point[0] for point in measured}
            assert len(measured) >= 2
            assert ({100.0, 120.0} & ends) == ({100.0, 120.0} if faint else set()), (task, faint)
        assert {trace.opacity for trace in own} == {None, theme.FAINT}


def test_convergence_is_marked_at_what_was_kept() -> None:
    frame = curves(["joint"], FIVE)
    (kept,) = [trace for trace in figures.convergence_curves(frame).data if trace.text is not None]
    value = frame[(frame["task"] == "task 0") & (frame["step"] == 80)]["value"].item()
    assert kept["name"] == "task 0"
    drawn = np.asarray(kept["marker"]["size"]) > 0
    np.testing.assert_array_equal(np.asarray(kept["x"])[drawn], [80.0])
    np.testing.assert_array_equal(np.asarray(kept["y"])[drawn], [value])


def test_panels_do_not_overlap_at_any_number_of_columns() -> None:
    frame = curves(TEN, FIVE | {"length": "min"})
    for columns in (1, 2, 3, 10):
        layout = valid(figures.convergence_curves(frame, columns=columns)).layout
        names = [name for name in layout.to_plotly_json() if name.startswith("yaxis")]
        assert len(names) == 20  # errors have a block of their own
        boxes = [(*layout[name.replace("y", "x", 1)].domain, *layout[name].domain) for name in names]
        for index, (left, right, low, high) in enumerate(boxes):
            assert 0 <= left < right <= 1 + 1e-9
            assert 0 <= low < high <= 1 + 1e-9
            for other in boxes[:index]:
                apart = left >= other[1] or other[0] >= right or low >= other[3] or other[2] >= high
                assert apart or (left, right, low, high) == other
        pixels = (boxes[0][3] - boxes[0][2]) * layout.height
        assert pixels > 90


def test_errors_have_an_axis_of_their_own() -> None:
    frame = curves(["a", "b"], {"x": "max", "y": "min"})
    layout = valid(figures.convergence_curves(frame)).layout
    titles = [layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert titles == ["validation", "", "error of y", ""]
    assert [layout[name].matches for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")] == [None, "y", None, "y3"]


def test_behind_shows_where_the_curves_end() -> None:
    frame = curves(["a", "b"], FIVE)
    figure = valid(figures.convergence_curves(frame, show="behind"))
    low, high = figure.layout.yaxis.range
    ends = frame[frame["step"] == 180]["behind"]
    assert low < ends.min()
    assert low > 2 * ends.min()
    assert high > 0


def test_a_method_without_a_task_has_no_empty_panel() -> None:
    frame = curves(["a", "b"], {"x": "max", "y": "min"})
    frame = frame[(frame["method"] == "a") | (frame["task"] == "x")]
    assert len(figures.convergence_curves(frame).layout.annotations) == 3


def test_changes_are_the_table_s() -> None:
    table = convergence_table(lu2022(3), baseline=BASELINE)
    figure = valid(figures.convergence_changes(table.frame))
    bar, *dots = figure.data
    assert list(bar.x) == pytest.approx([row.average for row in TABLE_3.values()])
    assert [dot.name for dot in dots] == ["Dedup", "PD-I", "PD-II", "Var", "UoMI"]
    for index, dot in enumerate(dots):
        assert list(dot.x) == pytest.approx([row.changes[index] for row in TABLE_3.values()])
        assert all(abs(y - round(y)) < 0.5 for y in dot.y)
    assert list(figure.layout.yaxis.ticktext) == [theme.literal(name, 24) for name in TABLE_3]


def test_what_is_missing_is_told() -> None:
    frame = curves(["a"], FIVE)
    with pytest.raises(FrameError, match="missing: decided"):
        figures.convergence_curves(frame.drop(columns="decided"))
    with pytest.raises(FrameError, match="'values' or 'behind', not 'value'"):
        figures.convergence_curves(frame, show="value")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="columns, a whole number from 1; got 0"):
        figures.convergence_curves(frame, columns=0)
    with pytest.raises(FrameError, match="missing: change"):
        figures.convergence_changes(frame.assign(std=0.0, seeds=1))
    empty = figures.convergence_curves(frame.assign(value=np.nan))
    assert empty.layout.annotations[0]["text"] == "No validation yet."
