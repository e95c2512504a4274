"""The figure of remedies: what stands where, which dots are filled, and what is told where nothing can be drawn."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from tests.analysis.test_remedies import frame


def test_a_panel_per_metric_and_a_dot_per_task_filled_where_it_is_told_from_0() -> None:
    changes = analysis.remedy_changes(frame())
    figure = figures.remedy_changes(changes)
    go.Figure(figure.to_dict())  # plotly's own check
    legend, dots = [t for t in figure.data if t.showlegend is None], [t for t in figure.data if t.showlegend is False]
    assert [t.name for t in legend] == ["a", "b"]
    assert [(t.name, t.xaxis, t.marker.color) for t in dots] == [
        ("a", "x", theme.colour(0)),
        ("b", "x2", theme.colour(1)),
    ]
    of_a = changes[changes["task"] == "a"]
    np.testing.assert_allclose(dots[0].x, of_a["gain"])
    np.testing.assert_allclose(dots[0].x + dots[0].error_x.array, of_a["high"])
    np.testing.assert_allclose(dots[0].x - dots[0].error_x.arrayminus, of_a["low"])
    decided = (of_a["verdict"] != "undecided").tolist()
    assert [symbol == "circle" for symbol in dots[0].marker.symbol] == decided
    assert sorted(decided) == [False, True]
    assert list(figure.layout.yaxis.ticktext) == list(of_a["remedy"])
    assert figure.layout.xaxis2.title.text == "gain in RMSE"
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0]
    assert "gain over “as it is”" in figure.layout.meta["quantity"]


def test_rows_say_what_they_are_measured_against_where_that_differs() -> None:
    figure = figures.remedy_changes(analysis.remedy_changes(frame(), {"better": "as it is", "worse": "better"}))
    assert list(figure.layout.yaxis.ticktext) == ["better<br><i>over as it is</i>", "worse<br><i>over better</i>"]
    assert "gain over before" in figure.layout.meta["quantity"]


def test_names_are_shown_as_they_are_and_nothing_to_draw_is_said() -> None:
    changes = analysis.remedy_changes(frame())
    odd = changes.assign(task="<b>$x$</b>", metric="<i>", remedy=changes["remedy"] + " <&>", versus="$y$")
    figure = figures.remedy_changes(odd)
    assert figure.data[0].name == "&lt;b&gt;&#36;x&#36;&lt;/b&gt;"
    assert figure.layout.xaxis.title.text == "gain in &lt;i&gt;"
    assert "No seed has both runs" in figures.remedy_changes(changes.assign(gain=np.nan)).layout.annotations[0].text
    assert "No seed" in figures.remedy_changes(changes[:0]).layout.annotations[0].text
    with pytest.raises(FrameError, match=r"analysis\.remedy_changes returns; missing: verdict"):
        figures.remedy_changes(changes.drop(columns="verdict"))
