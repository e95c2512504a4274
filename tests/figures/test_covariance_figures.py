"""Figures of task covariances: cells, lines and blocks are what the frames say, under the tasks' literal names."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme

ALL = ("covariance_scores", "covariance_spectra", "covariance_alignment")
HOSTILE = ["<b>a</b>", "$x^2$", "a name that is rather long, 1", "a name that is rather long, 2"]


def inputs(*names: str, d: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(names))
    return {name: rng.normal(size=(20, d)) @ rng.normal(size=(d, d)) for name in names}


def frame(name: str, *tasks: str) -> pd.DataFrame:
    return getattr(analysis, name)(inputs(*(tasks or ("one", "two", "three"))))


def drawn(name: str, *tasks: str) -> go.Figure:
    return getattr(figures, name)(frame(name, *tasks))


@pytest.mark.parametrize("value", ["score", "cosine"])
def test_a_cell_is_the_score_of_its_pair_with_the_diagonal(value: str) -> None:
    scores = frame("covariance_scores")
    (heat,) = figures.covariance_scores(scores, value=value).data
    np.testing.assert_array_equal(heat.z, scores[value].to_numpy().reshape(3, 3))
    assert (heat.zmin, heat.zmax, heat.texttemplate) == (0, 1, "%{z:.3f}")
    np.testing.assert_array_equal(heat.customdata[1, 2], scores.iloc[5][["score", "cosine"]].to_numpy(np.float64))
    assert heat.text[1][2] == "two × three"


def test_the_heading_says_what_the_diagonal_is() -> None:
    scores = frame("covariance_scores")
    assert "with itself is 1 only for rank 1" in figures.covariance_scores(scores).layout.title.text
    assert "an extension of the paper's score" in figures.covariance_scores(scores, value="cosine").layout.title.text


def test_numbers_are_written_where_there_is_room() -> None:
    tasks = [f"task {i}" for i in range(13)]
    templates = {T: drawn("covariance_scores", *tasks[:T]).data[0].texttemplate for T in (1, 6, 7, 12, 13)}
    assert templates == {1: "%{z:.3f}", 6: "%{z:.3f}", 7: "%{z:.2f}", 12: "%{z:.2f}", 13: ""}
    assert drawn("covariance_scores", *tasks).data[0].showscale
    assert drawn("covariance_alignment", *tasks[:3]).data[0].texttemplate == "%{z:.2f}"
    many = drawn("covariance_alignment", *tasks[:4]).data[0]
    assert not many.texttemplate
    assert many.showscale


def test_a_line_is_a_tasks_cumulative_share_and_its_diamond_the_kept_rank() -> None:
    spectra = frame("covariance_spectra")
    figure = figures.covariance_spectra(spectra)
    rows = dict(list(spectra.groupby("task", observed=True)))
    lines, marks = figure.data[::2], figure.data[1::2]
    assert [trace.name for trace in lines] == ["one", "two", "three"]
    for place, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        own = rows[line.name]
        np.testing.assert_array_equal(line.x, own["index"])
        np.testing.assert_array_equal(line.y, own["cumulative"])
        assert list(mark.x) == [own["kept"].sum()]
        assert list(mark.y) == [own["cumulative"][own["kept"]].iloc[-1]]
        assert {line.line.color, mark.marker.color} == {theme.colour(place)}
        assert mark.showlegend is False
    low, high = (10**end for end in figure.layout.xaxis.range)
    assert low < 1
    assert high > 6
    part = figures.covariance_spectra(spectra[spectra["task"] == "three"])
    assert part.data[0].line.color == theme.colour(2)  # a task keeps its colour where it is alone


def test_a_block_is_a_pair_and_its_rows_are_the_later_tasks_directions() -> None:
    alignment = frame("covariance_alignment")
    figure = figures.covariance_alignment(alignment)
    (heat,) = figure.data
    assert np.shape(heat.z) == (11, 11)  # two blocks of five and a gap
    corner = {("one", "two"): (0, 0), ("one", "three"): (6, 0), ("two", "three"): (6, 6)}
    for row in alignment.itertuples():
        top, left = corner[row.task_a, row.task_b]
        r, c = top + row.direction_b - 1, left + row.direction_a - 1
        assert heat.z[r][c] == row.cosine
        said = f"direction {row.direction_a} of {row.task_a}<br>direction {row.direction_b} of {row.task_b}"
        assert heat.text[r][c] == said
    assert np.isfinite(heat.z).sum() == len(alignment)
    across, down = figure.layout.xaxis.ticktext, figure.layout.yaxis.ticktext
    assert across == ("1", "2", "3<br><b>one</b>", "4", "5", "1", "2", "3<br><b>two</b>", "4", "5")
    assert down[2], down[7] == ("<b>two</b>  3", "<b>three</b>  3")
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


def test_tasks_of_fewer_directions_fill_a_part_of_their_block() -> None:
    line = np.outer([1.0, 2.0], [1.0, 1.0])
    figure = figures.covariance_alignment(analysis.covariance_alignment({"line": line, "all": np.diag([3.0, 1.0])}))
    (heat,) = figure.data
    np.testing.assert_allclose(heat.z, [[0.5**0.5, np.nan], [0.5**0.5, np.nan]])


@pytest.mark.parametrize("name", ALL)
def test_names_are_literal_and_told_apart(name: str) -> None:
    raw = json.loads(drawn(name, *HOSTILE).to_json())
    parts = [trace.get(key) for trace in raw["data"] for key in ("name", "text")]
    shown = json.dumps([*parts, *(raw["layout"][axis].get("ticktext") for axis in ("xaxis", "yaxis"))])
    for task, literal in (("<b>a</b>", "&lt;b&gt;a&lt;/b&gt;"), ("$x^2$", "&#36;x^2&#36;")):
        assert literal in shown
        assert task not in shown
    names = [trace["name"] for trace in raw["data"]][::2] if name == "covariance_spectra" else []
    ticks = raw["layout"]["yaxis"].get("ticktext", names)
    assert len({text for text in ticks if "…" in text or "rather" in text}) == 2


@pytest.mark.parametrize("name", ALL)
def test_figures_are_valid_ask_and_set_no_colours_of_the_page(name: str) -> None:
    for tasks in (["a", "b"], [f"task {i}" for i in range(7)]):
        figure = drawn(name, *tasks)
        go.Figure(figure.to_dict())  # plotly's own check
        assert figure.layout.meta["question"].endswith("?")
        layout = json.loads(figure.to_json())["layout"]
        assert not {"paper_bgcolor", "plot_bgcolor", "font"} & set(layout)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_frame_and_one_in_any_order(name: str) -> None:
    rows = frame(name)
    blank = getattr(figures, name)(rows.iloc[:0])
    assert len(blank.data) == 0
    assert blank.layout.annotations[0].text
    figure = getattr(figures, name)(rows)
    pd.testing.assert_frame_equal(rows, frame(name))
    shuffled = getattr(figures, name)(rows.sample(frac=1.0, random_state=1))
    assert shuffled.to_json() == figure.to_json()


@pytest.mark.parametrize("name", ALL)
def test_what_is_missing_is_named(name: str) -> None:
    rows = frame(name)
    with pytest.raises(
        FrameError, match=rf"figures\.{name} needs .* analysis\.{name} returns; missing: {rows.columns[-1]}"
    ):
        getattr(figures, name)(rows.iloc[:, :-1])
    with pytest.raises(FrameError, match="but got list"):
        getattr(figures, name)([1, 2])
    with pytest.raises(FrameError, match="needs value='score' or value='cosine', but value is 'gain'"):
        figures.covariance_scores(frame("covariance_scores"), value="gain")
