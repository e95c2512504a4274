"""Figures of runs with a schedule: the timeline, branches of the validation curves, and the counterfactual."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.runlog import RunLog
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.analysis.scheduled import scheduled_run
from tests.figures.test_figures import HOSTILE, lines
from tests.strategies import scheduled_streams, streams

NAMES = ("timeline", "convergence", "validations")


def drawn(name: str, log: RunLog) -> go.Figure:
    more = {"patience": [1, 3]} if name == "convergence" else {}
    return getattr(figures, name)(getattr(analysis, name)(log, **more))


def bars(figure: go.Figure) -> pd.DataFrame:
    """The bars as a frame: task, phase, first and last step, faint."""
    rows = []
    for trace in figure.data:
        if trace.type == "bar":
            faint = trace.marker.opacity == theme.FAINT
            for base, x, y, pen in zip(trace.base, trace.x, trace.y, trace.marker.color, strict=True):
                rows.append((int(y), trace.name, int(base) + 1, int(base + x), faint, trace.width, pen))
    return pd.DataFrame(rows, columns=["task", "phase", "first", "last", "faint", "width", "pen"])


@given(stream=scheduled_streams())
@settings(max_examples=30, deadline=None)
def test_every_update_lies_in_one_bar_of_each_task(stream: tuple) -> None:
    log = filled(*stream)
    figure = figures.timeline(analysis.timeline(log))
    if not len(log):
        assert figure.layout.annotations[0].text == "No step recorded yet."
        return
    shown = bars(figure)
    for place, name in enumerate(log.names):
        own = shown[shown["task"] == place]
        steps = log.steps[log.steps["task"] == name]
        for column, truth in (("phase", "phase"), ("faint", "discarded")):
            spread = {step: row[column] for _, row in own.iterrows() for step in range(row["first"], row["last"] + 1)}
            assert sum(own["last"] - own["first"] + 1) == len(spread)  # no step twice
            assert spread == steps.set_index("step")[truth].to_dict()


def test_bars_have_the_tasks_colours_and_are_thick_where_true_labels_count() -> None:
    shown = bars(figures.timeline(analysis.timeline(scheduled_run(order=("kind", "size", "place")))))
    learning = shown[shown["phase"] != "waiting"]
    assert learning["pen"].tolist() == [theme.colour(place) for place in learning["task"]]
    assert set(shown[shown["phase"] == "waiting"]["pen"]) == {theme.NEUTRAL}
    width = shown.groupby("phase")["width"].first()
    assert width["supervised"] > 2 * width["distilled"] > 2 * width["waiting"]


def test_the_way_back_leads_from_the_decision_to_what_was_kept() -> None:
    log = scheduled_run()
    figure = figures.timeline(analysis.timeline(log))
    (way,) = [trace for trace in figure.data if trace.name == "converged"]
    assert np.asarray(way.x).reshape(3, 3)[:, :2].tolist() == [[300, 150], [550, 400], [800, 650]]
    assert list(way.marker.symbol[:2]) == ["diamond", "triangle-left"]
    above = np.asarray(way.y).reshape(3, 3)[:, :2]
    assert ((above < np.arange(3)[:, None]) & (above > np.arange(3)[:, None] - 0.5)).all()
    assert "kind: converged at step 550<br>best validation 81.47 at step 400" in way.text
    (down,) = [trace for trace in figure.data if trace.name == "rewind"]
    assert sorted(set(down.x)) == [300, 550, 800]
    assert list(lines(figure)) == ["true labels", "soft labels", "waits", "thrown away"]


def test_a_branch_begins_where_it_leaves_and_the_line_goes_on_from_the_checkpoint() -> None:
    log = scheduled_run(("a", "b"), patience=2, every=10)
    frame = analysis.validations(log)
    figure = figures.validations(frame)
    gone, line, soft, waits, kept, star = figure.data[:6]
    assert (gone.opacity, soft.line.width, waits.line.dash, star.marker.symbol) == (theme.FAINT, 1.0, "dot", "star")
    a = frame[frame["task"] == "a"].set_index("step")["value"]
    checkpoint, decided = 30, 50
    np.testing.assert_array_equal(line.x, [0, 10, 20, 30])
    np.testing.assert_array_equal(gone.x[:3], [30, 40, 50])
    np.testing.assert_array_equal(gone.y[:3], a[[30, 40, 50]])
    assert (soft.x[0], soft.y[0]) == (decided, a[checkpoint])  # the model is the checkpoint again
    assert soft.x[1] == 60
    np.testing.assert_array_equal(kept.x[:2], [decided, checkpoint])
    np.testing.assert_array_equal(kept.y[:2], [a[decided], a[checkpoint]])
    assert list(kept.marker.size[:2]) == [0, 13]
    assert not np.isfinite(waits.y).any()
    b = figure.data[7]
    assert b.x[np.isnan(b.x).argmax() + 1] == decided  # it learns on from there, and a rewind cuts its line
    assert list(lines(figure)) == ["a", "b"]


def test_over_positions_the_surviving_curve_is_one() -> None:
    log = scheduled_run(("a", "b"), patience=2, every=10)
    frame = analysis.validations(log)
    figure = figures.validations(frame, over="position")
    gone, line, soft = figure.data[:3]
    survives = frame[(frame["task"] == "a") & ~frame["discarded"]]
    joined = np.concatenate([line.x, soft.x[1:]])
    np.testing.assert_array_equal(joined, survives["position"])
    assert (np.diff(joined) == 10).all()
    starts = np.append(0, np.flatnonzero(np.isnan(gone.x)) + 1)
    assert set(gone.x[starts]) <= set(survives["position"])  # each branch leaves the curve at a point of it
    assert figure.layout.xaxis.title.text == "position"
    plain = figures.validations(analysis.validations(long_run(60)), over="position")
    assert plain.layout.xaxis.title.text == "position"
    with pytest.raises(FrameError, match="over='step' or over='position'; it came as 'epoch'"):
        figures.validations(frame, over="epoch")


@given(stream=scheduled_streams())
@settings(max_examples=40, deadline=None)
def test_every_validation_is_marked_once_and_time_never_goes_back_on_a_line(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.validations(log)
    for over in ("step", "position"):
        figure = figures.validations(frame, over=over)
        marked: list[tuple[str, float, float, bool]] = []
        for trace in figure.data:
            if trace.marker.symbol is None:
                size = np.asarray(trace.marker.size)
                assert len(size) == len(trace.x)
                faint = trace.opacity == theme.FAINT
                marked += [(trace.name, trace.x[i], trace.y[i], faint) for i in np.flatnonzero(size > 0)]
                x = np.asarray(trace.x, float)
                parts = np.split(x, np.flatnonzero(np.isnan(x)))
                assert all((np.diff(part[np.isfinite(part)]) >= 0).all() for part in parts)
        known = frame[np.isfinite(frame["value"])]
        expected = zip(known["task"], known[over], known["value"], known["discarded"], strict=True)
        assert sorted(marked) == sorted(expected)


def test_a_run_without_a_schedule_looks_as_it_did() -> None:
    for log in (hand(), rewound(), long_run(60, tasks=3)):
        figure = figures.validations(analysis.validations(log))
        assert len(figure.data) % 3 == 0  # faint, line, star
        assert "converge" not in json.dumps(figure.to_plotly_json()["layout"], default=str)


def test_the_counterfactual_draws_a_line_a_patience() -> None:
    frame = analysis.convergence(scheduled_run(), patience=[1, 2, 5])
    figure = figures.convergence(frame)
    assert "counterfactual" in figure.layout.meta["quantity"]
    for place, (stopped, not_stopped) in enumerate(zip(figure.data[::2], figure.data[1::2], strict=True)):
        own = frame[frame["task"] == stopped.name]
        for trace, rows, end in (
            (stopped, own[own["converged"]], "step"),
            (not_stopped, own[~own["converged"]], "final_step"),
        ):
            ends = np.asarray(trace.x, float).reshape(-1, 3)[:, :2]
            assert ends.tolist() == rows[["best_step", end]].astype(float).to_numpy().tolist()
            assert [int(text) for text in trace.text[1::3]] == rows["patience"].tolist()
            assert trace.line.color == theme.colour(place)
            assert trace.line.dash == ("solid" if end == "step" else "dot")
    heights = [set(np.asarray(trace.y, float)[np.isfinite(trace.y)]) for trace in figure.data]
    assert sum(map(len, heights)) == len(set.union(*heights)) == len(frame)  # no two lines lie on each other


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tasks", [1, 3, 14, 40])
def test_figures_are_valid_and_say_what_they_ask(name: str, tasks: int) -> None:
    log = scheduled_run([f"task {i}" for i in range(tasks)], every=5, most=400)
    figure = drawn(name, log)
    whole = figure.to_plotly_json()
    assert json.loads(go.Figure(whole).to_json()) == json.loads(figure.to_json())
    heading = figure.layout.legend.title.text or figure.layout.title.text
    assert figure.layout.meta["question"] in heading
    assert not {"paper_bgcolor", "plot_bgcolor", "font"} & set(json.loads(figure.to_json())["layout"])


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_shown_literally(name: str) -> None:
    figure = drawn(name, scheduled_run(HOSTILE))
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    for hostile in HOSTILE[:3]:
        assert hostile not in text
    if name != "validations":
        shown = [html.unescape(tick) for tick in figure.layout.yaxis.ticktext]
        assert shown[1] == "a<b"


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_read_back_from_a_file_looks_the_same(name: str, tmp_path: Path) -> None:
    """A file keeps no categories: the order of the tasks is then that of their first rows."""
    log = scheduled_run(("kind", "size", "place"), order=("size", "place", "kind"))
    frame = getattr(analysis, name)(log, **({"patience": [1, 9]} if name == "convergence" else {}))
    frame.to_csv(tmp_path / "frame.csv", index=False)
    again = getattr(figures, name)(pd.read_csv(tmp_path / "frame.csv"))
    assert json.loads(again.to_json()) == json.loads(getattr(figures, name)(frame).to_json())


@pytest.mark.parametrize("name", ["timeline", "convergence"])
def test_a_wrong_or_empty_frame_is_named(name: str) -> None:
    with pytest.raises(FrameError, match=rf"figures\.{name} needs the frame that analysis\.{name} returns; missing: "):
        getattr(figures, name)(pd.DataFrame({"x": [1]}))
    with pytest.raises(FrameError, match="but got RunLog"):
        getattr(figures, name)(hand())
    assert not drawn(name, filled(hand().info, [])).data


@given(stream=streams(tasks=(1, 5)))
@settings(max_examples=20, deadline=None)
def test_every_run_can_be_drawn(stream: tuple) -> None:
    log = filled(*stream)
    assert figures.timeline(analysis.timeline(log)).layout.meta["question"].endswith("?")
    figures.validations(analysis.validations(log), over="position")


def test_a_loss_that_vanishes_for_a_moment_does_not_squeeze_the_others() -> None:
    frame = analysis.losses(long_run(200))
    before = frame["loss"].min()
    frame.loc[3, ["loss", "loss_min"]] = 1e-16  # as right after a task was distilled
    least = figures.losses(frame).layout.yaxis.autorangeoptions.clipmin
    assert before / 100 < least < before
