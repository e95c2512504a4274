"""The figures of the equity experiment: they draw the counts and rates that they are given."""

from __future__ import annotations

import html
from itertools import product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import figures
from mtlviz.errors import FrameError

METHODS = ["emtl", "<b>mgda</b>", "a method whose name is rather long, and told apart late"]
SCALES = [0.01, 1.0, 100.0]


def counts() -> pd.DataFrame:
    """Counts by method and scale, all different."""
    rows = [(m, s) for m in METHODS for s in SCALES]
    frame = pd.DataFrame(rows, columns=["method", "scale"]).assign(runs=20)
    frame["method"] = pd.Categorical(frame["method"], METHODS)
    return frame.assign(on_the_front=np.arange(9) + 5, best=np.arange(9))


def constants(*more: str) -> pd.DataFrame:
    """Counts by β and ρ, and by what else is named."""
    values = {"beta": [0.0, 0.9], "rho": [0.01, 0.1, 0.69], "scale": [0.1, 1.0, 10.0]}
    values |= {"rate": ["loss_over_norm", "weighted"], "merge": ["product", "sum"], "eta": [0.1, 0.5]}
    keys = [*more, "beta", "rho"]
    frame = pd.DataFrame(list(product(*(values[key] for key in keys))), columns=keys)
    return frame.assign(runs=25, on_the_front=25, best=np.arange(len(frame)) % 26)


def rates() -> pd.DataFrame:
    """The balance along the set, of two forms at three scales."""
    place = np.linspace(0.1, 0.9, 9)
    parts = [
        pd.DataFrame({"rate": rate, "scale": scale, "place": place, "balance": place - 0.5 * scale, "gap": place**2})
        for rate in ("loss_over_norm", "weighted")
        for scale in (0.5, 1.0, 1.5)
    ]
    return pd.concat(parts, ignore_index=True)


ALL = [
    (figures.equity, counts),
    (figures.equity_map, constants),
    (figures.rate_balance, rates),
]


@pytest.mark.parametrize(("figure", "frame"), ALL)
def test_every_figure_is_valid_asks_a_question_and_says_reconstruction(figure, frame) -> None:
    for rows in (frame(), frame().iloc[:0]):
        drawn = figure(rows)
        go.Figure(drawn.to_dict())  # plotly's own check
        assert drawn.layout.meta["question"].endswith("?")
        assert "EMTL is a reconstruction" in " ".join(drawn.layout.meta["quantity"].split("<br>"))


@pytest.mark.parametrize(("figure", "frame"), ALL)
def test_a_missing_column_is_named(figure, frame) -> None:
    with pytest.raises(FrameError, match=rf"figures\.{figure.__name__} needs .*missing: {frame().columns[0]}"):
        figure(frame().iloc[:, 1:])
    with pytest.raises(FrameError, match="but got list"):
        figure([1, 2])


@pytest.mark.parametrize(("figure", "frame"), ALL)
def test_a_frame_is_left_as_it_was_and_may_come_in_any_order(figure, frame) -> None:
    rows = frame()
    drawn = figure(rows)
    pd.testing.assert_frame_equal(rows, frame())
    if figure is not figures.rate_balance:
        shuffled = figure(rows.sample(frac=1.0, random_state=1))
        assert [trace.z.tolist() for trace in shuffled.data] == [trace.z.tolist() for trace in drawn.data]


def test_a_cell_is_a_count_and_its_colour_the_share_of_the_runs() -> None:
    drawn = figures.equity(counts())
    assert [a.text for a in drawn.layout.annotations] == ["<b>on the front</b>", "<b>at the best average</b>"]
    for trace, outcome in zip(drawn.data, ("on_the_front", "best"), strict=True):
        own = counts()[outcome].to_numpy().reshape(3, 3)
        assert trace.text.tolist() == own.astype(str).tolist()
        np.testing.assert_allclose(trace.z, own / 20)
        assert (trace.zmin, trace.zmax) == (0, 1)
        assert trace.customdata[..., 1].tolist() == [[20.0] * 3] * 3
    assert "of 20 each" in drawn.layout.meta["quantity"]
    assert drawn.data[1].hovertext[0][2] == "emtl, loss 1 × 100"


def test_methods_stand_in_their_order_from_the_top_and_literally() -> None:
    axis = figures.equity(counts()).layout.yaxis
    names = [html.unescape(text) for text in axis.ticktext]
    assert names[:2] == METHODS[:2]
    assert "…" in names[2]
    assert axis.ticktext[1] == "&lt;b&gt;mgda&lt;/b&gt;"
    assert axis.range[0] > axis.range[1]
    assert list(figures.equity(counts()).layout.xaxis.ticktext) == ["0.01", "1", "100"]


def test_a_group_without_runs_is_an_empty_cell() -> None:
    drawn = figures.equity(counts().drop(index=4))
    assert drawn.data[0].text[1][1] == ""
    assert np.isnan(drawn.data[0].z[1][1])


def test_a_map_has_a_panel_for_what_else_varies() -> None:
    alone = figures.equity_map(constants())
    assert len(alone.data) == 1
    assert not alone.layout.annotations
    assert "MGDA" not in alone.layout.meta["quantity"]  # there is no β = 1
    assert "constants" in alone.layout.meta["question"]
    scaled = figures.equity_map(constants("scale"))
    assert [a.text for a in scaled.layout.annotations] == [f"<b>loss 1 × {s}</b>" for s in ("0.1", "1", "10")]
    formed = figures.equity_map(constants("rate", "merge"))
    assert "form" in formed.layout.meta["question"]
    assert [a.text for a in formed.layout.annotations] == [
        f"<b>{rate}, {merge}</b>" for rate in ("r = L / ‖g‖", "r = α L / ‖g‖") for merge in ("product", "sum")
    ]
    part = constants("rate", "merge").query("rate == 'weighted' and merge == 'product'")
    assert formed.data[2].text.tolist() == part.best.to_numpy().reshape(2, 3).astype(str).tolist()
    assert [a.text for a in figures.equity_map(constants("eta")).layout.annotations] == [
        "<b>η = 0.1</b>",
        "<b>η = 0.5</b>",
    ]


def test_panels_do_not_overlap() -> None:
    for frame in (constants("scale"), constants("rate", "merge"), constants("rate", "merge", "eta", "scale")):
        layout = figures.equity_map(frame).layout
        count = len(layout.annotations)
        suffixes = ["" if i == 0 else str(i + 1) for i in range(count)]
        boxes = [(*layout[f"xaxis{s}"].domain, *layout[f"yaxis{s}"].domain) for s in suffixes]
        for i, (left, right, bottom, top) in enumerate(boxes):
            assert 0 <= left < right <= 1 + 1e-9
            assert 0 <= bottom < top <= 1
            for other in boxes[:i]:
                assert left >= other[1] or right <= other[0] or top <= other[2] or bottom >= other[3]


def test_a_map_says_which_row_is_the_method_inside() -> None:
    whole = constants().replace({"beta": {0.9: 1.0}})
    assert "β = 1 is MGDA" in figures.equity_map(whole).layout.meta["quantity"]


def test_a_map_shows_either_outcome_and_no_other() -> None:
    assert figures.equity_map(constants(), outcome="on_the_front").data[0].text.tolist() == [["25"] * 3] * 2
    with pytest.raises(FrameError, match="outcome='best'"):
        figures.equity_map(constants(), outcome="worst")


@pytest.mark.parametrize(
    ("figure", "frame", "by"),
    [(figures.equity, counts, "method, scale"), (figures.equity_map, lambda: constants("scale"), "beta, rho, scale")],
)
def test_two_counts_of_one_cell_are_refused(figure, frame, by: str) -> None:
    with pytest.raises(FrameError, match=f"a row per {by}"):
        figure(pd.concat([frame(), frame()]))


def test_lines_that_coincide_lie_inside_each_other() -> None:
    drawn = figures.rate_balance(rates())
    assert len(drawn.data) == 6
    widths = [trace.line.width for trace in drawn.data[:3]]
    assert widths == sorted(widths, reverse=True)
    assert len({trace.line.color for trace in drawn.data[:3]}) == 3
    assert [trace.name for trace in drawn.data if trace.showlegend] == ["loss 1 × 0.5", "loss 1 × 1", "loss 1 × 1.5"]
    part = rates().query("rate == 'weighted' and scale == 1.0")
    assert drawn.data[4].y.tolist() == part.balance.tolist()
    assert (drawn.data[4].xaxis, drawn.data[4].yaxis) == ("x2", "y2")
    assert [a.text for a in drawn.layout.annotations][:2] == ["<b>r = L / ‖g‖</b>", "<b>r = α L / ‖g‖</b>"]
