"""Figures of transfer and capacity: what is drawn is what the frame says, and what nothing decides has no colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from tests.analysis.test_capacity import HELD
from tests.analysis.test_capacity import _runs as capacity_runs
from tests.analysis.test_transfer_gains import _runs as transfer_runs

NUMBERS: dict[tuple[str, str], list[float]] = {
    **{("", task): [0.0, 0.0, 0.0] for task in "abc"},
    **{("b", "a"): [2.0, 2.1, 1.9], ("c", "a"): [-1.0, -1.1, -0.9], ("all", "a"): [9.0, -9.0, 1.0]},
    **{("a", "b"): [4.0, 4.1, 3.9], ("c", "b"): [0.0, 0.0, 0.0], ("all", "b"): [1.0, 1.0, 1.1]},
    **{("a", "c"): [np.nan] * 3, ("b", "c"): [1.0, 1.2, np.nan], ("all", "c"): [0.1, 0.2, 0.3]},
}


def _gains(**changes: Any) -> pd.DataFrame:
    return analysis.transfer_gains(transfer_runs(NUMBERS)).assign(**changes)


def _drawn(frame: pd.DataFrame) -> tuple[go.Heatmap, go.Heatmap]:
    decided, undecided = figures.transfer_gains(frame).data
    go.Figure([decided, undecided])  # plotly finds the properties valid
    return decided, undecided


def test_cells_that_the_interval_decides_have_colours_and_the_others_are_grey() -> None:
    frame = _gains()
    decided, undecided = _drawn(frame)
    wide = analysis.transfer_matrix(frame).loc[["a", "b", "c", "all"], ["a", "b", "c"]].to_numpy()
    clear = np.isin(
        analysis.transfer_matrix(frame, value="verdict").loc[["a", "b", "c", "all"]], ("positive", "negative")
    )
    np.testing.assert_allclose(decided.z, np.where(clear, wide / 4.0, np.nan))  # 4: the largest that is decided
    diagonal = np.eye(4, 3, dtype=bool)
    np.testing.assert_array_equal(undecided.z, np.where(~clear & ~diagonal, 0.0, np.nan))
    assert (decided.zmin, decided.zmax) == (-1, 1)
    assert [stop[1] for stop in decided.colorscale] == [stop[1] for stop in theme.DIVERGING]
    assert len({stop[1] for stop in undecided.colorscale}) == 1
    assert decided.text[1][0] == "+2.00<br>± 0.25"  # t(0.975; 2) · 0.1 / √3
    assert decided.text[2][0].startswith("−1.00<br>")
    assert undecided.text[0][2] == "failed"
    assert undecided.text[1][2].startswith("+1.10*<br>± ")
    assert decided.text[1][2] == undecided.text[1][0] == ""


def test_one_scale_for_one_score_and_one_for_each_column_otherwise() -> None:
    one, _ = _drawn(_gains())
    assert one.colorbar.ticktext == ("−4.0", "0", "+4.0")
    assert one.colorbar.title.text == "gain in accuracy"
    frame = _gains()
    frame["metric"] = np.where(frame["target"] == "a", "RMSE", "accuracy")
    by_column, _ = _drawn(frame)
    assert not by_column.showscale
    assert np.nan_to_num(by_column.z).max(axis=0).tolist()[:2] == [1.0, 1.0]
    figure = figures.transfer_gains(frame)
    assert "colours compare within a column only" in figure.layout.title.text
    assert figure.layout.xaxis.ticktext == ("a<br>RMSE", "b<br>accuracy", "c<br>accuracy")
    errors, _ = _drawn(_gains(metric="RMSE", direction="min"))
    assert not errors.showscale  # of errors of one name nobody knows that they have one unit


def test_many_targets_leave_the_numbers_to_the_hover() -> None:
    names = [f"task {number}" for number in range(14)]
    numbers = {(source, task): [1.0, 2.0] for task in names for source in ("", *names) if source != task}
    decided, _ = _drawn(analysis.transfer_gains(transfer_runs(numbers)))
    assert decided.texttemplate == ""
    assert decided.customdata[0][1].startswith("task 0 → task 1<br>accuracy: 1.5 alone")


def test_names_are_shown_literally_and_a_frame_without_gains_says_so() -> None:
    numbers = {(source, task): [1.0, 2.0] for task in ("<b>", "$x$") for source in ("", "<b>", "$x$") if source != task}
    frame = analysis.transfer_gains(transfer_runs(numbers))
    figure = figures.transfer_gains(frame)
    assert "&lt;b&gt;" in figure.layout.xaxis.ticktext
    assert "<b> →" not in str(figure.data[0].customdata)
    assert "No gain was measured" in figures.transfer_gains(frame.assign(gain=np.nan)).layout.annotations[0].text
    with pytest.raises(FrameError, match="missing: verdict"):
        figures.transfer_gains(frame.drop(columns="verdict"))


def test_a_panel_per_task_with_a_line_alone_and_one_together_and_a_star_at_their_best() -> None:
    runs = capacity_runs(HELD)
    frame = analysis.capacity_curves(runs)
    figure = figures.capacity_curves(frame, analysis.capacity_rule(runs))
    go.Figure(figure.to_dict())
    assert [note.text for note in figure.layout.annotations] == ["<b>a</b>", "<b>b</b>", "<b>mean of tasks</b>"]
    own = [trace for trace in figure.data if trace.xaxis == "x2"]
    alone, alone_best, together, together_best = own
    b = frame[(frame["task"] == "b")].set_index(["kind", "width"])
    for line, star, kind, dash in ((alone, alone_best, "alone", "dot"), (together, together_best, "together", "solid")):
        np.testing.assert_array_equal(line.x, [1, 2, 4, 8])
        np.testing.assert_array_equal(line.y, b.loc[kind, "value"])
        np.testing.assert_allclose(line.y + line.error_y.array, b.loc[kind, "high"])
        np.testing.assert_allclose(line.y - line.error_y.arrayminus, b.loc[kind, "low"])
        assert (line.line.dash, line.line.color) == (dash, theme.colour(1))
        assert star.x.tolist() == b.loc[kind].query("best").index.tolist()
    assert figure.layout.xaxis2.type == "log"
    assert "together 2 &lt; " not in figure.layout.legend.title.text
    assert "together 2 < sum of the best alone 6" in figure.layout.legend.title.text
    assert "the rule of thumb holds (in 2 of 2 seeds)" in figure.layout.legend.title.text


def test_a_rule_that_does_not_hold_or_has_no_answer_is_told() -> None:
    runs = capacity_runs({key: [[1.0, 1, 1, 9]] if key[0] == "together" else [[9.0, 1, 1, 1]] for key in HELD})
    frame = analysis.capacity_curves(runs)
    said = figures.capacity_curves(frame, analysis.capacity_rule(runs)).layout.legend.title.text
    assert "together 8 ≥ sum of the best alone 2" in said
    assert "does not hold (in 0 of 1 seeds it does)" in said
    runs.loc[0, "value"] = np.nan
    said = figures.capacity_curves(frame, analysis.capacity_rule(runs)).layout.legend.title.text
    assert "has no answer: runs are missing" in said


def test_what_capacity_cannot_draw_is_told() -> None:
    frame = analysis.capacity_curves(capacity_runs(HELD))
    assert "No run has a value" in figures.capacity_curves(frame.assign(value=np.nan)).layout.annotations[0].text
    for columns in (0, True, 1.5):
        with pytest.raises(FrameError, match="columns, a whole number from 1"):
            figures.capacity_curves(frame, columns=columns)
    with pytest.raises(FrameError, match="missing: best"):
        figures.capacity_curves(frame.drop(columns="best"))
    with pytest.raises(FrameError, match=r"needs the frame that analysis\.capacity_rule returns"):
        figures.capacity_curves(frame, frame)
