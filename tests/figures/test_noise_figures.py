"""Figures of noise and of what the optimizer made of the gradients, on frames made by hand."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import pytest

import mtlviz as mv
from mtlviz.errors import FrameError

TASKS = pd.CategoricalDtype(["seg", "depth", "normals"], ordered=True)


def pairs() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "task_a": pd.Series(["seg", "seg", "depth"], dtype=TASKS),
            "task_b": pd.Series(["depth", "normals", "normals"], dtype=TASKS),
            "relative": [-0.2, 0.3, 0.01],
            "same_batch": [-0.5, 0.1, 0.4],
            "count": [50, 50, 50],
            "verdict": ["conflict", "agreement", "undecided"],
            "step_first": [1, 1, 1],
            "step_last": [50, 50, 50],
        }
    )
    return frame.assign(relative_low=frame["relative"] - 0.05, relative_high=frame["relative"] + 0.1)


def test_a_point_a_pair_by_its_verdict_and_the_biased_product_beside_it() -> None:
    drawn = mv.figures.conflict_test(pairs())
    go.Figure(drawn.to_dict())  # validates
    by_name = {trace.name: trace for trace in drawn.data}
    assert list(by_name) == ["conflict", "agreement", "undecided", "same batch, biased"]
    assert list(by_name["agreement"].x) == [0.3]
    assert list(by_name["agreement"].y) == [1]
    assert list(by_name["agreement"].error_x.array) == pytest.approx([0.1])
    assert list(by_name["same batch, biased"].x) == [-0.5, 0.1, 0.4]
    assert list(drawn.layout.yaxis.ticktext) == ["seg × depth", "seg × normals", "depth × normals"]


def test_the_floor_has_a_point_a_task_in_its_colour() -> None:
    frame = pd.DataFrame(
        {"task": pd.Series(["seg", "depth", "normals"], dtype=TASKS), "norm": 2.0, "signal": 1.0, "noise": 0.75}
    ).assign(low=0.5, high=1.0, count=9, step_first=1, step_last=9)
    drawn = mv.figures.noise_floor(frame)
    go.Figure(drawn.to_dict())
    assert [trace.x[0] for trace in drawn.data] == [0.75] * 3
    assert [trace.marker.color for trace in drawn.data] == [mv.figures.theme.colour(t) for t in range(3)]


def test_nothing_to_show_is_said_and_another_frame_refused() -> None:
    empty = pairs().assign(relative=float("nan"))
    assert not mv.figures.conflict_test(empty).data
    for figure in (mv.figures.conflict_test, mv.figures.noise_floor, mv.figures.effective_change):
        with pytest.raises(FrameError, match="missing"):
            figure(pd.DataFrame({"task": []}))
