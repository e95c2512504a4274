"""Figures: what is drawn is what the frame says, in the task's colour, under its literal name."""

from __future__ import annotations

import html
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.lines import joined, outline
from mtlviz.runlog import RunLog
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.strategies import streams

CURVES = {
    "losses": "loss",
    "gradient_norms": "grad_norm",
    "relative_rates": "relative_rate",
    "shares": "share",
    "weights": "normalised",
}
ALL = (*CURVES, "validations", "rate_variance", "conflict_matrix", "conflict_rate", "layer_conflict")
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a<b",
    "<b>bold</b>",
    "&lt;",
    "$x^2$ and $y$",
    "%{y}",
    "</script><script>alert(2)</script>",
]


def drawn(name: str, log: RunLog) -> go.Figure:
    return getattr(figures, name)(getattr(analysis, name)(log))


def lines(figure: go.Figure) -> dict[str, go.Scatter]:
    """The traces that the legend shows, by name."""
    shown = [trace for trace in figure.data if trace.type == "scatter" and trace.showlegend is not False]
    assert len({trace.name for trace in shown}) == len(shown)
    return {trace.name: trace for trace in shown}


@pytest.mark.parametrize("name", CURVES)
def test_a_line_is_the_frames_column(name: str) -> None:
    log = long_run(150, tasks=3)
    frame = getattr(analysis, name)(log)
    shown = lines(getattr(figures, name)(frame))
    assert list(shown) == ["task 0", "task 1", "task 2"]
    for task, trace in shown.items():
        rows = frame[(frame["task"] == task) & ~frame["discarded"] & np.isfinite(frame[CURVES[name]])]
        kept = np.isfinite(trace.y)
        np.testing.assert_array_equal(trace.y[kept], rows[CURVES[name]])
        np.testing.assert_array_equal(trace.x[kept], rows["step"])
        assert isinstance(trace.y, np.ndarray)
        assert trace.y.dtype == np.float64


def test_discarded_stretches_are_faint_and_everything_else_is_not() -> None:
    frame = analysis.losses(rewound())
    figure = figures.losses(frame)
    faint = [trace for trace in figure.data if trace.opacity == 0.25]
    assert [trace.name for trace in faint] == ["a", "b", "c"]
    for trace in faint:
        np.testing.assert_array_equal(trace.x, [3.0, 4.0])
        np.testing.assert_array_equal(trace.y, [3.0, 4.0])
        assert trace.showlegend is False
    for trace in lines(figure).values():
        np.testing.assert_array_equal(trace.x, [1.0, 2.0, 2.0, 5.0])
        np.testing.assert_array_equal(trace.y, [1.0, 2.0, np.nan, 5.0])  # the line does not bridge what was thrown away


def test_a_band_spans_minimum_to_maximum() -> None:
    frame = analysis.losses(hand(), n=2)  # steps 1 and 2, step 3
    band = figures.losses(frame).data[0]
    assert (band.fill, band.name, band.hoverinfo) == ("toself", "a", "skip")
    np.testing.assert_array_equal(band.x, [1.5, 3.0, 3.0, 1.5])
    np.testing.assert_array_equal(band.y, [4.0, 2.0, 2.0, 10.0])


def test_number_and_order_of_traces_do_not_change_while_a_run_goes_on() -> None:
    for name in ALL:
        short, longer = (drawn(name, long_run(count, tasks=3)) for count in (30, 90))
        kinds = [[(trace.type, trace.name, trace.legendgroup) for trace in figure.data] for figure in (short, longer)]
        assert kinds[0] == kinds[1], name


def test_colours_and_dashes_belong_to_the_task_in_every_figure_and_subset() -> None:
    log = long_run(60, tasks=12)
    looks: dict[str, set[tuple[str, str]]] = {}
    frames = {name: getattr(analysis, name)(log) for name in (*CURVES, "validations", "conflict_rate")}
    for name, frame in frames.items():
        key = "task_a" if name == "conflict_rate" else "task"
        for part in (frame, frame[frame[key].isin(["task 3", "task 11"])]):
            for task, trace in lines(getattr(figures, name)(part)).items():
                if task != "all pairs":
                    looks.setdefault(task, set()).add((trace.line.color, trace.line.dash))
    assert len(looks) == 12
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == 12  # and no two tasks look the same


def test_forty_tasks_look_different_and_are_readable_on_white_and_on_near_black() -> None:
    looks = {(theme.colour(i), theme.dash(i)) for i in range(40)}
    assert len(looks) == 40

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colour in (*theme.COLOURS, theme.NEUTRAL):
        assert 1.05 / (luminance(colour) + 0.05) >= 3, colour  # WCAG 2.1, 1.4.11: graphical objects
        assert (luminance(colour) + 0.05) / (luminance("#111111") + 0.05) >= 3, colour


@pytest.mark.parametrize("name", ALL)
def test_hostile_names_are_shown_literally(name: str) -> None:
    log = long_run(40, names=HOSTILE)
    figure = drawn(name, log)
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    for hostile in HOSTILE[:3]:
        assert hostile not in text
    names = [trace.name for trace in figure.data if trace.name] + list(figure.layout.xaxis.ticktext or ())
    for shown in names:
        assert "<" not in shown
        assert "$" not in shown
    if name in CURVES:
        assert [html.unescape(shown) for shown in lines(figure)][:6] == HOSTILE[:6]


def test_names_are_cut_before_they_are_escaped_and_stay_apart() -> None:
    assert html.unescape(theme.literal("<" * 50, 11)) == "<<<<<<<…<<<"
    cut = theme.short_names([f"{'x' * 40}{i}{'y' * 40}" for i in range(3)], 12)
    assert len(set(cut)) == 3
    assert theme.literal("two\nlines\tand tab") == "two lines and tab"


def test_the_matrix_holds_the_frames_numbers_and_an_empty_diagonal() -> None:
    frame = analysis.conflict_matrix(hand())
    (heat,) = figures.conflict_matrix(frame).data
    expected = frame["cosine"].to_numpy(copy=True).reshape(3, 3)
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_array_equal(heat.z, expected)
    assert (heat.zmin, heat.zmax, heat.zmid) == (-1, 1, 0)
    assert heat.texttemplate == "%{z:.2f}"
    (rates,) = figures.conflict_matrix(frame, value="conflict_rate").data
    assert rates.z[0][1] == pytest.approx(2 / 3)
    (many,) = drawn("conflict_matrix", long_run(5, tasks=20)).data
    assert not many.texttemplate  # numbers would not fit the cells
    assert many.showscale


def test_conflict_rates_by_task_by_pair_and_of_two_tasks() -> None:
    frame = analysis.conflict_rate(hand(), n=1)
    assert {name: list(trace.y) for name, trace in lines(figures.conflict_rate(frame)).items()} == {
        "a": [0.4],
        "b": [0.4],
        "c": [0.0],
        "all pairs": [2 / 7],
    }
    pairs = lines(figures.conflict_rate(frame, by="pair"))
    assert list(pairs) == ["a × b", "a × c", "b × c", "all pairs"]
    assert list(drawn("conflict_rate", long_run(30, tasks=2)).data[-1].name) == list("task 0 × task 1")


def test_layers_by_step() -> None:
    log = long_run(100)
    frame = analysis.layer_conflict(log)
    gone, kept = figures.layer_conflict(frame).data
    assert gone.opacity == 0.25
    for heat, rows in ((gone, frame[frame["discarded"]]), (kept, frame[~frame["discarded"]])):
        values = pd.Series(np.asarray(heat.z).ravel()).dropna()
        assert sorted(values) == sorted(rows["cosine"].dropna())
    assert list(figures.layer_conflict(frame).layout.yaxis.ticktext) == ["conv", "fc"]


def test_each_metric_has_a_panel_and_each_task_one_labelled_star() -> None:
    log = long_run(200, tasks=3)
    frame = analysis.validations(log)
    figure = figures.validations(frame)
    titles = [figure.layout[axis].title.text for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert titles == ["accuracy (%)", "(1 − RMSE) × 100", "PR-AUC × 100"]
    stars = [trace for trace in figure.data if trace.marker.symbol == "star"]
    best = frame[frame["best"]].set_index("task")
    for star, task, axis in zip(stars, log.names, ("y", "y2", "y3"), strict=True):
        assert (list(star.x), list(star.y)) == ([best.loc[task, "step"]], [best.loc[task, "value"]])
        assert star.mode == "markers+text"
        assert star.text == (f"{best.loc[task, 'value']:.4g}",)
        assert star.yaxis == axis
    bottoms = [figure.layout[axis].domain[0] for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert bottoms == sorted(bottoms, reverse=True)


def test_labels_that_would_cover_one_another_are_left_out() -> None:
    frame = analysis.validations(long_run(30, tasks=1))
    same = pd.concat([frame.assign(task=f"t{i}") for i in range(9)], ignore_index=True)
    stars = [trace for trace in figures.validations(same).data if trace.marker.symbol == "star"]
    assert len(stars) == 9
    assert sum(trace.mode == "markers+text" for trace in stars) == 2  # one above the star, one below


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("tasks", [1, 2])
def test_empty_and_one_row_frames_give_a_figure(name: str, steps: int, tasks: int) -> None:
    figure = drawn(name, long_run(steps, tasks=tasks) if steps else filled(long_run(1, tasks=tasks).info, []))
    assert figure.layout.meta["question"].endswith("?")
    if steps == 0:
        assert len(figure.data) == 0
        assert figure.layout.annotations[0].text


@pytest.mark.parametrize("name", ALL)
def test_figures_set_no_colours_of_the_page_and_name_their_axes(name: str) -> None:
    figure = drawn(name, long_run(60))
    layout = json.loads(figure.to_json())["layout"]
    assert not {"paper_bgcolor", "plot_bgcolor", "font"} & (set(layout) | set(layout["template"]["layout"]))
    for axis in ("xaxis", "yaxis"):
        assert "gridcolor" not in layout[axis]
        assert name == "conflict_matrix" or "title" in layout[axis] or (name, axis) == ("layer_conflict", "yaxis")
    heading = layout["legend"]["title"] if "legend" in layout else layout["title"]
    assert figure.layout.meta["question"] in heading["text"]


@given(stream=streams(tasks=(1, 5)))
@settings(max_examples=25, deadline=None)
def test_every_run_can_be_drawn(stream: tuple) -> None:
    log = filled(*stream)
    for name in ALL:
        figure = drawn(name, log)
        assert not any("<" in (trace.name or "") for trace in figure.data)
        shown = [np.asarray(trace.y, float) for trace in figure.data if trace.type == "scatter" and trace.fill is None]
        frame = getattr(analysis, name)(log)
        if name in ("shares", "weights") and len(frame):  # linear axes: every bucket's mean is drawn, once
            assert sum(np.isfinite(y).sum() for y in shown) == np.isfinite(frame[CURVES[name]]).sum()


@pytest.mark.parametrize("name", ALL)
def test_figures_are_valid(name: str) -> None:
    """They are built without plotly's validation, for speed; with it they are the same."""
    for log in (long_run(60), long_run(30, tasks=14), long_run(1, tasks=2), filled(hand().info, [])):
        figure = drawn(name, log)
        whole = figure.to_plotly_json()
        assert json.loads(go.Figure(whole).to_json()) == json.loads(figure.to_json())


def test_a_wrong_frame_is_named() -> None:
    for name in ALL:
        with pytest.raises(
            FrameError, match=rf"figures\.{name} needs the frame that analysis\.{name} returns; missing: "
        ):
            getattr(figures, name)(pd.DataFrame({"x": [1]}))
        with pytest.raises(FrameError, match="but got RunLog"):
            getattr(figures, name)(hand())
    with pytest.raises(FrameError, match="by='task' or by='pair'"):
        figures.conflict_rate(analysis.conflict_rate(hand()), by="layer")
    with pytest.raises(FrameError, match="value='cosine' or value='conflict_rate'"):
        figures.conflict_matrix(analysis.conflict_matrix(hand()), value="dot")


def test_a_line_breaks_at_long_gaps_only() -> None:
    step, value = np.arange(100.0), np.arange(100.0)
    value[10:12] = np.nan  # now and then: bridged
    value[40:60] = np.nan  # for long: a gap
    x, y = joined(step, value, np.ones(100, bool))
    assert np.isnan(y).sum() == 1
    assert x[np.isnan(y)].tolist() == [39.0]
    assert np.isfinite(y).sum() == 78
    everything = outline(step, value, value + 1, np.ones(100, bool))
    assert np.isnan(everything[1]).sum() == 1


def test_the_legend_lets_a_label_through_that_reaches_up_to_it() -> None:
    assert theme.layout("Question?", "quantity")["legend"]["bgcolor"] == "rgba(0,0,0,0)"
