"""The matrix of inter-task affinities and its curves: worked by hand, of a log and of stored frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.report import report
from mtlviz.runlog import Event, Measure, RunLog
from tests.analysis.runs import INFO, NAN, filled, hand, step

J = np.eye(3)


def measured(number: int, *values: tuple[str, str, float]) -> list[Measure]:
    return [Measure(number, "affinity", value, source, target) for source, target, value in values]


def affine() -> RunLog:
    """Five steps, of which the third and fourth were thrown away; a helps b, and b hinders a but for one step."""
    records = [step(n, J, [1, 1, 1], [1, 1, 1]) for n in (1, 2, 3, 4)]
    records += measured(1, ("a", "a", 0.5), ("a", "b", 0.25), ("b", "a", -0.125))
    records += measured(2, ("a", "a", 0.25), ("a", "b", NAN), ("b", "a", -0.375), ("c", "c", 0.5))
    records += measured(4, ("a", "a", 9.0), ("a", "b", -9.0))
    records += [Measure(4, "outside_span", 0.5), Measure(2, "affinity", 7.0, "a", "b", "conv")]
    records += [Event(4, 2, "rewind", None, {"to": 2}), step(5, J, [1, 1, 1], [1, 1, 1], position=3)]
    return filled(INFO, [*records, *measured(5, ("a", "b", 0.75), ("b", "a", 0.5))])


def table(frame: pd.DataFrame) -> dict[tuple[str, str], tuple[float, int]]:
    return {
        (row.source, row.target): (row.affinity, row.steps) for row in frame.itertuples() if not np.isnan(row.affinity)
    }


def test_a_mean_over_the_surviving_measured_steps() -> None:
    frame = analysis.affinity(affine())
    assert list(frame.columns) == ["source", "target", "affinity", "steps"]
    assert [*frame.source] == [*"aaabbbccc"]
    assert [*frame.target] == [*"abcabcabc"]
    assert table(frame) == {("a", "a"): (0.375, 2), ("a", "b"): (0.5, 2), ("b", "a"): (0.0, 3), ("c", "c"): (0.5, 1)}
    assert (frame.steps[frame.affinity.isna()] == 0).all()


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (1, {("a", "b"): (0.75, 1), ("b", "a"): (0.5, 1)}),
        (2, {("a", "a"): (0.25, 1), ("a", "b"): (0.75, 1), ("b", "a"): (0.0625, 2), ("c", "c"): (0.5, 1)}),
    ],
)
def test_the_last_so_many_measured_steps(last: int, expected: dict) -> None:
    assert table(analysis.affinity(affine(), last=last)) == expected
    assert analysis.affinity(affine(), last=99).equals(analysis.affinity(affine()))


def test_curves_are_the_means_of_buckets_and_tell_what_was_discarded() -> None:
    frame = analysis.affinity_curves(affine())
    own = frame[(frame.source == "a") & (frame.target == "b")]
    assert own[["step", "discarded", "affinity", "steps"]].to_numpy(float).tolist()[0] == [1, 0, 0.25, 1]
    assert [*own.step] == [1, 2, 4, 5]
    assert [*own.discarded] == [False, False, True, False]
    np.testing.assert_array_equal(own.affinity, [0.25, np.nan, -9.0, 0.75])
    coarse = analysis.affinity_curves(affine(), n=1)
    assert len(coarse) == 3 * 9  # no bucket across a rewind
    assert coarse[(coarse.source == "b") & (coarse.target == "a")].affinity.tolist()[0] == -0.25


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_stored_frame_says_what_the_log_says(kind: str, tmp_path: Path) -> None:
    log = filled(
        INFO,
        [
            r
            for n in range(1, 9)
            for r in (step(n, J, [1, 1, 1], [1, 1, 1]), *measured(n, ("b", "a", n / 8), ("b", "c", -n / 8)))
        ],
    )
    getattr(log, f"to_{kind}")(tmp_path)
    frame = pd.read_csv(tmp_path / "measures.csv") if kind == "csv" else pd.read_parquet(tmp_path / "measures.parquet")
    for options in ({}, {"last": 3}):
        told = table(analysis.affinity(frame, **options))
        assert told == table(analysis.affinity(log, **options))
        assert told
    gone = frame.assign(discarded=frame["step"] > 2)
    assert table(analysis.affinity(gone)) == {("b", "a"): (3 / 16, 2), ("b", "c"): (-3 / 16, 2)}
    assert analysis.affinity_curves(frame).step.tolist()[::2] == list(range(1, 9))


def test_a_log_without_affinity_has_no_row() -> None:
    for frame in (analysis.affinity(hand()), analysis.affinity(hand(), last=4), analysis.affinity_curves(hand())):
        assert frame.empty
    (note,) = figures.affinity(analysis.affinity(hand())).layout.annotations
    assert note.text == "No affinity was measured (affinity_every)."


def test_wrong_sources_and_numbers_are_told() -> None:
    with pytest.raises(
        FrameError, match=r"a frame like log\.measures, but got str\. Open the path with mv\.RunLog\.open"
    ):
        analysis.affinity("runs/x")
    with pytest.raises(FrameError, match=r"like log\.measures; missing: other, value; got: step, name, task"):
        analysis.affinity(pd.DataFrame(columns=["step", "name", "task"]))
    for last in (0, 1.5, True):
        with pytest.raises(FrameError, match="last, a whole number of measured steps from 1"):
            analysis.affinity(affine(), last=last)
    with pytest.raises(FrameError, match="affinity_curves needs a number of points n of at least 1"):
        analysis.affinity_curves(affine(), n=0)
    with pytest.raises(
        FrameError, match=r"figures\.affinity needs the frame that analysis\.affinity returns; missing: steps"
    ):
        figures.affinity(analysis.affinity(affine()).drop(columns="steps"))


def test_the_figure_shows_percent_with_sources_down_and_targets_across() -> None:
    figure = figures.affinity(analysis.affinity(affine()))
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, [[37.5, 50.0, np.nan], [0.0, np.nan, np.nan], [np.nan, np.nan, 50.0]])
    assert (heat.zmin, heat.zmid, heat.zmax) == (-50, 0, 50)
    assert [*map(list, heat.text)] == [["38", "50", ""], ["0", "", ""], ["", "", "50"]]
    assert heat.hovertext[1][0] == "b → a"
    assert figure.layout.yaxis.ticktext == figure.layout.xaxis.ticktext == ("a", "b", "c")
    assert "mean of up to 3 measured steps" in figure.layout.meta["quantity"]
    go.Figure(figure.to_dict())  # plotly knows every property


def test_tiny_affinities_are_written_with_two_digits_and_no_negative_zero() -> None:
    frame = analysis.affinity(affine()).assign(affinity=[3e-5, 2.4e-5, -1e-9, *[np.nan] * 6])
    (heat,) = figures.affinity(frame).data
    assert list(heat.text[0]) == ["0.0030", "0.0024", "0.0000"]
    assert heat.zmax == pytest.approx(2.4e-3)  # the largest that a task does to another


def test_the_report_shows_it_where_it_was_measured() -> None:
    assert 'id="figure-affinity"' in report(affine())
    assert 'id="figure-affinity"' not in report(hand())
