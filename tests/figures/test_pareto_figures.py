"""Figures of a descent: what is drawn is what the trajectories, their verdicts and the problem say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest

from mtlviz import figures, pareto
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.figures.pareto_lines import AHEAD, FADING, MARKS
from mtlviz.widgets import wire
from tests.figures.pareto_checks import METHODS, PROBLEMS, assert_literal, assert_valid, descent, named
from tests.figures.test_figures import HOSTILE

BANDS = len(FADING)


def lines(figure: go.Figure, method: str, axis: str = "x") -> list[go.Scatter]:
    """The bands of a method in one plane, early to late."""
    return [trace for trace in named(figure, method, axis) if trace.mode == "lines"]


def ends(figure: go.Figure, method: str, axis: str = "x") -> go.Scatter:
    (found,) = [trace for trace in named(figure, method, axis) if trace.mode == "markers"]
    return found


def opacity(trace: go.Scatter) -> float:
    return float(trace.line.color.rsplit(",", 1)[1].rstrip(")"))


def stretches(trace: go.Scatter) -> list[np.ndarray]:
    """The points (P, 3) of each start, with their steps."""
    rows = np.stack([trace.x, trace.y, trace.customdata], axis=-1)
    gaps = np.isnan(rows).any(axis=1)
    assert np.isnan(rows[gaps]).all()
    return [part[~np.isnan(part[:, 0])] for part in np.split(rows, np.flatnonzero(gaps)) if (~np.isnan(part)).any()]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_lines_of_both_planes_are_the_trajectories_with_a_gap_between_starts(problem: str) -> None:
    found = descent(problem)
    figure = figures.pareto_trajectories(found, kept=np.ones(found.x.shape[:3], dtype=bool))
    for m, method in enumerate(METHODS):
        for axis, points in (("x", found.x), ("x2", found.losses)):
            parts = [stretches(trace) for trace in lines(figure, method, axis)]
            assert [len(part) for part in parts] == [len(found.starts)] * BANDS
            for n in range(len(found.starts)):
                whole = np.concatenate([part[n][: None if b == BANDS - 1 else -1] for b, part in enumerate(parts)])
                np.testing.assert_array_equal(whole[:, :2], points[m, n])
                np.testing.assert_array_equal(whole[:, 2], found.step)
                for early, late in pairwise(parts):
                    np.testing.assert_array_equal(early[n][-1], late[n][0])  # bands meet


def test_unless_told_otherwise_it_draws_the_points_that_a_screen_can_show() -> None:
    found = descent("toy")
    assert not found.shown.all()
    one, other = (wire.tree(figures.pareto_trajectories(found, **kept)) for kept in ({}, {"kept": found.shown}))
    assert wire.changes(one, other) == []


def test_time_fades_and_a_method_has_one_colour_and_one_entry() -> None:
    figure = figures.pareto_trajectories(descent())
    for m, method in enumerate(METHODS):
        for axis in ("x", "x2"):
            bands = lines(figure, method, axis)
            assert [opacity(trace) for trace in bands] == sorted(FADING)
            solid = theme.translucent(theme.colour(m), 1.0).rsplit(",", 1)[0]
            assert {trace.line.color.rsplit(",", 1)[0] for trace in bands} == {solid}
            assert ends(figure, method, axis).marker.color == theme.colour(m)
    ended = figures.pareto_trajectories(descent("toy", ("equal", "imtl_l"), offset=-100.0))
    assert all(len(trace.x) for trace in ended.data if trace.showlegend)  # else plotly leaves the entry out
    entries = [trace.name for trace in figure.data if trace.showlegend is not False and trace.type == "scatter"]
    assert len(entries) == len(set(entries))
    assert set(METHODS) <= set(entries)
    (entry,) = [t for t in figure.data if t.name == METHODS[0] and t.showlegend]
    assert opacity(entry) == 1.0


@pytest.mark.parametrize("step", [None, 700])
def test_without_fading_a_method_is_one_line_among_the_same_traces(step: float | None) -> None:
    found = descent("toy")
    options = {"step": step, "kept": np.ones(found.x.shape[:3], bool)}
    faded, plain = (figures.pareto_trajectories(found, fading=fading, **options) for fading in (True, False))
    order = [[(trace.type, trace.name) for trace in figure.data] for figure in (faded, plain)]
    assert order[0] == order[1]
    now = len(found.step) if step is None else int(np.searchsorted(found.step, step, "right"))
    for m, method in enumerate(METHODS):
        for axis, points in (("x", found.x), ("x2", found.losses)):
            drawn = [trace for trace in lines(plain, method, axis) if np.isfinite(trace.x).any()]
            assert [opacity(trace) for trace in drawn] == [1.0] + [AHEAD] * (step is not None)
            assert drawn[0].showlegend == (axis == "x")
            for n, part in enumerate(stretches(drawn[0])):
                np.testing.assert_array_equal(part[:, :2], points[m, n, :now])
                np.testing.assert_array_equal(part[:, 2], found.step[:now])


@pytest.mark.parametrize("plane", ["both", "parameters", "losses"])
def test_without_a_legend_the_heading_is_a_title_with_room_for_its_lines(plane: str) -> None:
    with_one, without = (figures.pareto_trajectories(descent(), plane=plane, legend=legend) for legend in (True, False))
    assert (with_one.layout.showlegend, without.layout.showlegend) == (True, False)
    title = without.layout.title
    assert with_one.layout.title.text is None
    assert title.text == with_one.layout.legend.title.text
    assert without.layout.legend.title.text is None
    assert title.text.count("<br>") == 2
    first_line = title.pad.t + 0.7 * title.font.size  # where plotly puts its baseline; each further one 1.3 sizes below
    assert without.layout.margin.t >= first_line + 2 * 1.3 * title.font.size + 0.3 * title.font.size
    assert [trace.name for trace in without.data] == [trace.name for trace in with_one.data]
    pictured = without.layout.meta["pictured"]  # what a download has in any case
    whole = with_one.to_plotly_json()["layout"]
    assert {name: pictured[name] for name in ("legend", "showlegend", "margin")} == {
        name: whole[name] for name in ("legend", "showlegend", "margin")
    }
    assert pictured["title"]["text"] == ""
    assert_valid(without)


def test_a_method_keeps_its_colour_when_others_are_left_out() -> None:
    places = {"mgda": 5, "equal": 12}
    figure = figures.pareto_trajectories(descent(), colours=places)
    for method, place in (*places.items(), ("imtl_g", 15)):  # the mapping lacks it: after all others, at its own place
        assert ends(figure, method).marker.color == theme.colour(place)
        assert lines(figure, method)[0].line.dash == theme.dash(place)


def test_the_mark_at_an_end_is_the_verdict() -> None:
    for problem, options in (
        ("quadratics", {}),
        ("toy", {}),
        ("quadratics", {"optimizer": "sgd", "scale": (900.0, 1.0)}),
    ):
        found = descent(problem, ("equal", "imtl_l", "mgda"), **options)
        figure = figures.pareto_trajectories(found)
        verdicts = found.verdicts.verdict.to_numpy(object).reshape(3, -1)
        for m, method in enumerate(found.methods):
            marks = ends(figure, method, "x2")
            assert list(marks.marker.symbol) == [MARKS[verdict] for verdict in verdicts[m]]
            assert all(verdict in text for verdict, text in zip(verdicts[m], marks.text, strict=True))
        shown = {trace.name for trace in figure.data if trace.name in MARKS and trace.showlegend}
        assert shown == set(verdicts.ravel())
        sound = ~np.isin(verdicts, ["diverged", "undefined"])
        for m, method in enumerate(found.methods):
            marks = ends(figure, method)
            np.testing.assert_array_equal(np.stack([marks.x, marks.y], -1)[sound[m]], found.last[m][sound[m]])


def test_a_diverged_trajectory_is_marked_where_it_leaves_the_plane() -> None:
    found = descent("quadratics", ("equal",), optimizer="sgd", scale=(230.0, 1.0))
    assert (np.abs(found.last) > 3).any(axis=-1).all()  # the last point lies outside
    assert (found.verdicts.verdict == "diverged").all()
    marks = ends(figures.pareto_trajectories(found), "equal")
    (low, high), _ = found.problem.bounds
    assert (np.abs(np.stack([marks.x, marks.y])) <= max(-low, high)).all()
    assert set(marks.marker.symbol) == {MARKS["diverged"]}


def test_bands_meet_and_reach_the_end_whatever_is_kept() -> None:
    found = descent()
    for step in (None, 703):
        figure = figures.pareto_trajectories(found, kept=np.zeros(found.x.shape[:3], bool), step=step)
        for m, method in enumerate(METHODS):
            parts = [stretches(trace) for trace in lines(figure, method)]
            for n in range(len(found.starts)):
                np.testing.assert_array_equal(parts[0][n][0, :2], found.starts[n])
                np.testing.assert_array_equal(parts[-1][n][-1, :2], found.last[m, n])
                for early, late in pairwise(parts):
                    np.testing.assert_array_equal(early[n][-1], late[n][0])


def test_a_step_shows_a_dot_each_and_what_comes_after_faint() -> None:
    found = descent()
    for step in (0, 400, 703, 1499):
        figure = figures.pareto_trajectories(found, step=step)
        at = int(np.searchsorted(found.step, step, "right")) - 1
        for m, method in enumerate(METHODS):
            for axis, points in (("x", found.x), ("x2", found.losses)):
                dots = ends(figure, method, axis)
                np.testing.assert_array_equal(np.stack([dots.x, dots.y], -1), points[m, :, at])
                assert set(dots.marker.symbol) == {"circle"}
                bands = lines(figure, method, axis)
                assert opacity(bands[-1]) == AHEAD
                assert np.nanmin(bands[-1].customdata) == found.step[at]
                past = [trace.customdata for trace in bands[:-1] if np.isfinite(trace.x).any()]
                assert all(np.nanmax(steps) <= found.step[at] for steps in past)
                assert (len(past) > 0) == (step > 0)
                assert bands[-2].showlegend == (axis == "x")  # the strongest, not the one that comes after
        assert f"at step {step:,}" in figure.layout.meta["quantity"]
    last, whole = (wire.tree(figures.pareto_trajectories(found, step=step)) for step in (1500, None))
    assert wire.changes({"data": last["data"]}, {"data": whole["data"]}) == []


def test_thinned_trajectories_keep_their_ends_and_meet() -> None:
    found = descent("toy")
    kept = pareto.thinned(found)
    figure = figures.pareto_trajectories(found, kept=kept)
    points = sum(len(part) for method in METHODS for trace in lines(figure, method) for part in stretches(trace))
    assert points < found.x[..., 0].size / 2
    for m, method in enumerate(METHODS):
        parts = [stretches(trace) for trace in lines(figure, method)]
        for n in range(len(found.starts)):
            whole = np.concatenate([part[n] for part in parts])
            assert np.isin(found.step[kept[m, n]], whole[:, 2]).all()
            for early, late in pairwise(parts):
                np.testing.assert_array_equal(early[n][-1], late[n][0])


def test_a_redraw_with_the_same_landscape_sends_no_landscape() -> None:
    one, two = descent(), descent(scale=(0.5, 1.0))
    land = one.problem.landscape()
    trees = [wire.tree(figures.pareto_trajectories(found, landscape=land)) for found in (one, two)]
    changes = wire.changes(*trees)
    assert changes  # never the whole figure: the traces pair up
    contour = next(i for i, trace in enumerate(trees[0]["data"]) if trace["type"] == "contour")
    assert not [change for change in changes if change.path[:2] == ("data", contour)]
    shown = wire.tree(figures.pareto_trajectories(one, landscape=land, step=700))
    assert wire.changes(trees[0], shown) is not None


@pytest.mark.parametrize("plane", ["both", "parameters", "losses"])
def test_a_descent_without_a_point_says_so_and_is_drawn(plane: str) -> None:
    found = descent("toy", ("imtl_l",), offset=-100.0)
    assert not np.isfinite(found.x).any()
    figure = figures.pareto_trajectories(found, plane=plane)
    assert "nothing moves" in figure.layout.meta["quantity"]
    marks = ends(figure, "imtl_l")
    assert set(marks.marker.symbol) == {MARKS["undefined"]}
    expected = found.problem.own_losses(found.starts) if plane == "losses" else found.starts
    np.testing.assert_array_equal(np.stack([marks.x, marks.y], -1), expected)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("plane", ["both", "parameters", "losses"])
def test_figures_are_valid_and_leave_the_pages_colours_alone(problem: str, plane: str) -> None:
    for step in (None, 500):
        figure = figures.pareto_trajectories(descent(problem), plane=plane, step=step)
        assert_valid(figure)
        assert figure.layout.meta["question"].endswith("?")
        assert len([trace for trace in figure.data if trace.type == "contour"]) == (plane != "losses")


def test_hostile_labels_are_shown_literally() -> None:
    found = pareto.descend(dict.fromkeys(HOSTILE, "equal"), problem="quadratics", steps=20)
    assert_literal(figures.pareto_trajectories(found))


def test_errors_list_the_choices() -> None:
    with pytest.raises(FrameError, match="plane to be one of 'both', 'parameters', 'losses', but it is 'loss'"):
        figures.pareto_trajectories(descent(), plane="loss")
    with pytest.raises(FrameError, match="contours to be one of 'loss 1', 'loss 2', 'average', but it is 'sum'"):
        figures.pareto_trajectories(descent(), contours="sum")
    with pytest.raises(FrameError, match="step to be a number or None, but it is nan"):
        figures.pareto_trajectories(descent(), step=np.nan)
    with pytest.raises(FrameError, match=r"kept for each point, \(3, 5, 300\), but its shape is \(2,\)"):
        figures.pareto_trajectories(descent(), kept=np.ones(2, bool))
    with pytest.raises(FrameError, match=r"what mtlviz\.pareto\.descend returns, but got DataFrame"):
        figures.pareto_trajectories(descent().trajectories)
