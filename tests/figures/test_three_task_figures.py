"""The figures of the three-task picture: they draw the points, lines, gains and turns that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme

TASKS, TRAINED = ("task 1", "task 2", "task 3"), ("alone", "with 2", "with 3", "all")


def tasks(names: list[str]) -> pd.Categorical:
    return pd.Categorical(names, TASKS)


def points() -> pd.DataFrame:
    names = ["task 1", "task 2", "task 3", "task 1", "task 2"]
    x = {"x_1": [0.0, 1.0, 2.0, -3.0, 5.0], "x_2": [1.0, -1.0, 0.5, 0.0, 4.0]}
    return pd.DataFrame({"task": tasks(names), **x, "label": [1, -1, 1, -1, 1]})


def lines() -> pd.DataFrame:
    rows = [("true", "task 1", 0.0, 0.0, 90.0), ("true", "task 2", 1.0, 0.0, 0.0), ("true", "task 3", 2.0, 0.0, 0.0)]
    rows += [("alone", "task 1", -1.0, 0.5, 90.0), ("with 3", "task 1", 0.0, 1.0, 0.0), ("with 3", "task 3", 0, 0, 0.0)]
    trained, names, x_1, x_2, angle = zip(*rows, strict=True)
    return pd.DataFrame({"trained": trained, "task": tasks(list(names)), "x_1": x_1, "x_2": x_2, "angle": angle})


def accuracy() -> pd.DataFrame:
    rows = [
        ("alone", "task 1", 0.8, 0.7, 0.9, np.nan, np.nan, np.nan, "", 12),
        ("alone", "task 2", 0.95, 0.9, 0.99, np.nan, np.nan, np.nan, "", 12),
        ("with 2", "task 1", 0.85, 0.75, 0.95, 0.05, 0.02, 0.08, "positive", 12),
        ("with 3", "task 1", 0.7, 0.6, 0.8, -0.1, -0.15, -0.05, "negative", 12),
        ("all", "task 1", 0.79, np.nan, np.nan, -0.01, np.nan, np.nan, "undecided", 12),
    ]
    columns = ["trained", "task", "accuracy", "low", "high", "gain", "gain_low", "gain_high", "verdict", "seeds"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(trained=pd.Categorical(frame["trained"], TRAINED), task=tasks(list(frame["task"])))


def turns() -> pd.DataFrame:
    rows = [("alone", "task 1", 0, -40.0), ("alone", "task 1", 1, 12.0), ("with 3", "task 1", 0, -14.0)]
    frame = pd.DataFrame([*rows, ("with 3", "task 3", 0, 1.0)], columns=["trained", "task", "seed", "turn"])
    return frame.assign(task=tasks(list(frame["task"])))


def named(figure: go.Figure, name: str) -> Any:
    found = [trace for trace in figure.data if trace.name == name]
    assert len(found) == 1, f"{len(found)} traces are called {name}"
    return found[0]


@pytest.mark.parametrize(
    "figure",
    [
        figures.three_task(points(), lines()),
        figures.three_task(points().iloc[:0], lines()),
        figures.three_task_accuracy(accuracy(), limits=(50, 100)),
        figures.three_task_turns(turns(), other=-15.0, limits=(-90, 90)),
        figures.three_task_turns(turns().iloc[:0]),
    ],
)
def test_every_figure_is_valid_and_asks_a_question(figure: go.Figure) -> None:
    go.Figure(figure.to_dict())  # plotly's own check
    assert figure.layout.meta["question"].endswith("?")


def test_points_stand_where_they_are_and_their_class_is_a_symbol() -> None:
    figure = figures.three_task(points(), lines())
    second = named(figure, "task 2")
    assert (list(second.x), list(second.y)) == ([1.0, 5.0], [-1.0, 4.0])
    assert list(second.marker.symbol) == ["circle-open", "cross-thin"]
    assert second.marker.color == theme.colour(1)
    assert (figure.layout.yaxis.scaleanchor, figure.layout.xaxis.constrain) == ("x", "domain")
    fixed = figures.three_task(points(), lines(), ranges=((-9, 9), (-5, 6)))
    assert (list(fixed.layout.xaxis.range), list(fixed.layout.yaxis.range)) == ([-9, 9], [-5, 6])


def test_one_boundary_of_two_tasks_is_one_line_and_learned_ones_are_of_the_task() -> None:
    figure = figures.three_task(points(), lines())
    assert len([trace for trace in figure.data if trace.name == "true boundary"]) == 2
    alone, along = named(figure, "alone"), named(figure, "with 3")
    np.testing.assert_allclose(alone.x, -1.0)  # upright through (−1, 0.5)
    assert np.mean(alone.y) == pytest.approx(0.5)
    np.testing.assert_allclose(along.y, 1.0)
    assert [named(figure, name).line.color for name in ("alone", "with 2", "with 3")] == [
        theme.colour(place) for place in range(3)
    ]
    assert len(named(figure, "with 2").x) == 0  # not learned: the trace stays, so that others keep their places


def test_accuracies_are_in_percent_with_their_intervals_and_verdicts_are_words() -> None:
    figure = figures.three_task_accuracy(accuracy())
    shown = named(figure, "with 3")
    assert shown.x[0] == pytest.approx(70)
    assert (shown.error_x.array[0], shown.error_x.arrayminus[0]) == pytest.approx((10, 10))
    assert list(figure.layout.yaxis.ticktext) == [
        "<b>alone</b>",
        "<b>with 2</b><br>helps +5.0 [+2.0, +8.0]",
        "<b>with 3</b><br>hurts −10.0 [−15.0, −5.0]",
        "<b>all</b><br>undecided −1.0",
    ]
    assert figure.layout.shapes[0].x0 == pytest.approx(80)
    assert "12 training samples" in figure.layout.meta["quantity"]
    second = figures.three_task_accuracy(accuracy(), task="task 2")
    assert [trace.x[0] for trace in second.data] == [95]


def test_turns_are_a_dot_each_beside_both_true_boundaries() -> None:
    figure = figures.three_task_turns(turns(), other=-15.0)
    assert list(named(figure, "alone").x) == [-40, 12]
    assert list(named(figure, "with 3").x) == [-14]
    assert [shape.x0 for shape in figure.layout.shapes] == [0, -15]
    assert list(figure.layout.yaxis.ticktext) == ["<b>alone</b>", "<b>with 3</b>"]
    assert np.abs(np.array(named(figure, "alone").y) - 0).max() < 0.5  # within its row


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (
            lambda: figures.three_task(points().drop(columns="label"), lines()),
            "ThreeTask.points returns; missing: label",
        ),
        (lambda: figures.three_task(points(), lines()[["task"]]), "ThreeTask.boundaries returns; missing: trained"),
        (lambda: figures.three_task(points(), lines(), task="task 4"), "knows no task 'task 4'"),
        (lambda: figures.three_task_accuracy([1, 2]), "ThreeTask.accuracy returns, but got list"),
        (
            lambda: figures.three_task_accuracy(accuracy(), task="x"),
            "knows no task 'x'; there are task 1, task 2, task 3",
        ),
        (lambda: figures.three_task_turns(turns()[["turn"]]), "ThreeTask.turns returns; missing: trained, task, seed"),
    ],
)
def test_a_frame_that_lacks_something_is_refused(draw: Any, match: str) -> None:
    with pytest.raises(FrameError, match=match):
        draw()
