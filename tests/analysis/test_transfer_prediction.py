"""Cheap signals beside measured transfer: how they are joined, and rank correlations against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme

NAN = float("nan")
GAIN = ["source", "target", "metric", "direction", "seeds", "alone", "together", "gain", "low", "high", "verdict"]


def gains(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """Of (source, target, alone, gain); the interval is the gain ± 1."""
    verdict = lambda g: "positive" if g > 1 else "negative" if g < -1 else "undecided"  # noqa: E731
    said = [(s, t, "rmse", "min", 3, alone, alone - g, g, g - 1, g + 1, verdict(g)) for s, t, alone, g in rows]
    return pd.DataFrame(said, columns=GAIN)


ROWS = (("a", "b", 4.0, 2.0), ("c", "b", 4.0, -1.0), ("a", "c", -8.0, 0.5), ("b", "c", -8.0, 0.25))
ROWS += (("b", "a", 0.0, 3.0), ("c", "a", 0.0, -2.0), ("all", "a", 0.0, 9.0), ("all", "b", 4.0, 9.0))


def symmetric(value: str, **said: float) -> pd.DataFrame:
    """A row per pair and its mirror, and the diagonal, as the analyses give them."""
    rows = [(pair[0], pair[1], number) for pair, number in said.items()]
    rows += [(b, a, number) for a, b, number in rows] + [(name, name, 1.0) for name in "abc"]
    return pd.DataFrame(rows, columns=["task_a", "task_b", value]).assign(other=0)


def affinities(**said: float) -> pd.DataFrame:
    rows = [(pair[0], pair[1], number, 7) for pair, number in said.items()]
    return pd.DataFrame(rows, columns=["source", "target", "affinity", "steps"])


def test_every_ordered_pair_gets_each_signal_and_its_gain() -> None:
    frame = analysis.transfer_prediction(
        gains(*ROWS),
        affinity=affinities(ab=0.1, ba=0.2, aa=9.0, bc=-0.5),
        covariance=symmetric("score", ab=0.9, ac=0.4, bc=0.1),
    )
    assert list(frame.columns[:8]) == ["signal", "source", "target", "predicted", "gain", "low", "high", "verdict"]
    assert list(frame["signal"].cat.categories) == ["covariance", "affinity"]
    pairs = [*zip(frame.source, frame.target, strict=True)]
    assert pairs == [(s, t) for s, t, *_ in ROWS[:6]] * 2
    np.testing.assert_array_equal(frame.predicted[:6], [0.9, 0.1, 0.4, 0.1, 0.9, 0.4])
    np.testing.assert_array_equal(frame.predicted[6:], [0.1, NAN, NAN, -0.5, 0.2, NAN])
    np.testing.assert_array_equal(frame.gain[:6], [2.0, -1.0, 0.5, 0.25, 3.0, -2.0])
    np.testing.assert_array_equal(frame.low[:6], frame.gain[:6] - 1)
    np.testing.assert_array_equal(frame.relative[:6], [50.0, -25.0, 6.25, 3.125, NAN, NAN])  # NaN: alone it reached 0
    np.testing.assert_array_equal(frame.relative_high[:4], [75.0, 0.0, 18.75, 15.625])
    assert list(frame.verdict[:3]) == ["positive", "undecided", "undecided"]
    for key in ("source", "target"):
        assert list(frame[key].cat.categories) == ["b", "c", "a"]  # as they first come as targets


def test_half_a_symmetric_signal_is_enough_and_categories_keep_their_order() -> None:
    half = pd.DataFrame({"task_a": ["a", "c"], "task_b": ["b", "b"], "cosine": [0.5, -0.5]})
    kinds = pd.CategoricalDtype(["c", "b", "a"], ordered=True)
    some = gains(*ROWS[:6]).astype({"target": kinds})
    frame = analysis.transfer_prediction(some, cosine=half)
    np.testing.assert_array_equal(frame.predicted, [0.5, -0.5, NAN, -0.5, 0.5, NAN])
    assert list(frame.source.cat.categories) == ["c", "b", "a"]


@given(st.integers(2, 7), st.integers(0, 10_000), st.booleans(), st.floats(0, 0.6))
def test_the_correlations_are_those_of_scipy(tasks: int, seed: int, ties: bool, missing: float) -> None:
    random = np.random.default_rng(seed)
    names = [f"t{i}" for i in range(tasks)]
    rows = [
        (s, t, 2.0, random.normal() if not ties else float(random.integers(3))) for s in names for t in names if s != t
    ]
    said = affinities(zz=0.0).iloc[:0]
    values = [random.normal() if not ties else float(random.integers(2)) for _ in rows]
    values = [NAN if random.uniform() < missing else value for value in values]
    said = pd.DataFrame({"source": [r[0] for r in rows], "target": [r[1] for r in rows], "affinity": values})
    frame = analysis.transfer_prediction(gains(*rows), affinity=said)
    row = analysis.rank_correlations(frame, repeats=20).iloc[0]
    known = frame[frame.predicted.notna()]
    assert row.pairs == len(known)
    expected = NAN
    if len(known) >= 3 and known.predicted.nunique() > 1 and known.gain.nunique() > 1:
        expected = spearmanr(known.predicted, known.gain).statistic
    assert row.correlation == pytest.approx(expected, abs=1e-12, nan_ok=True)
    ranks = known.groupby("target", observed=True)[["predicted", "gain"]].rank()
    ranks -= ranks.groupby(known["target"], observed=True).transform("mean")
    x, y = (ranks[name].to_numpy() for name in ("predicted", "gain"))
    defined = len(known) >= 3 and (x**2).sum() > 0 and (y**2).sum() > 0
    expected = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()) if defined else NAN
    assert row.within == pytest.approx(expected, abs=1e-12, nan_ok=True)
    for low, high in ((row.low, row.high), (row.within_low, row.within_high)):
        assert np.isnan(low) == np.isnan(high)
        assert np.isnan(low) or -1 <= low <= high <= 1


def test_the_bootstrap_draws_pairs_with_both_their_directions() -> None:
    """Against an explicit resampling of the unordered pairs, one after the other."""
    random = np.random.default_rng(3)
    names = list("abcdef")
    rows = [(s, t, 2.0, random.normal()) for s in names for t in names if s != t]
    said = {s + t: gain + 0.8 * random.normal() for s, t, _, gain in rows}
    frame = analysis.transfer_prediction(gains(*rows), affinity=affinities(**said))
    row = analysis.rank_correlations(frame, repeats=4000, confidence=0.8).iloc[0]
    groups = [group for _, group in frame.groupby([min(s, t) + max(s, t) for s, t, *_ in rows])]
    found = []
    for _ in range(1500):
        drawn = pd.concat([groups[i] for i in random.integers(len(groups), size=len(groups))])
        found.append(spearmanr(drawn.predicted, drawn.gain).statistic)
    np.testing.assert_allclose([row.low, row.high], np.percentile(found, [10, 90]), atol=0.03)
    wider = analysis.rank_correlations(frame, repeats=4000, confidence=0.99).iloc[0]
    assert wider.low < row.low < row.correlation < row.high < wider.high
    assert analysis.rank_correlations(frame, seed=1).equals(analysis.rank_correlations(frame, seed=1))


def test_within_targets_no_unit_matters() -> None:
    """Three targets of other scales: each prefers what its signal says, but the levels contradict each other."""
    names = list("abcd")
    scale, level = dict(zip(names, [1, 100, 0.01, 5], strict=True)), dict(zip(names, [5, -5, 9, -9], strict=True))
    rows = [(s, t, 3.0, scale[t] * ((ord(s) * ord(t)) % 7)) for s in names for t in names if s != t]
    said = {s + t: level[t] + gain / scale[t] for s, t, _, gain in rows}
    row = analysis.rank_correlations(analysis.transfer_prediction(gains(*rows), affinity=affinities(**said))).iloc[0]
    assert row.within == 1.0
    assert row.correlation < 0.5


def test_what_is_undefined_is_nan() -> None:
    two = analysis.transfer_prediction(gains(*ROWS[:2]), affinity=affinities(ab=0.1, cb=0.2))
    same = analysis.transfer_prediction(gains(*ROWS[:6]), cosine=symmetric("cosine", ab=0.5, ac=0.5, bc=0.5))
    none = analysis.transfer_prediction(gains(*ROWS[:6]).assign(gain=NAN), affinity=affinities(ab=0.1, cb=0.2))
    for frame, pairs in ((two, 2), (same, 4), (none, 0)):
        (row,) = analysis.rank_correlations(frame).itertuples()
        assert row.pairs == pairs
        assert np.isnan([row.correlation, row.low, row.high, row.within, row.within_low, row.within_high]).all()
        (note,) = figures.transfer_prediction(frame, analysis.rank_correlations(frame)).layout.annotations
        assert "ρ undefined<br>within targets undefined" in note.text or not pairs
    assert analysis.rank_correlations(same, value="gain").pairs.tolist() == [6]


SCORES = analysis.covariance_scores({"a": np.eye(3), "b": np.ones((4, 3)) + np.eye(4, 3)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"affinity": None}, "at least one signal: covariance=, cosine= or affinity="),
        ({"affinity": "x"}, r"analysis\.affinity returns, but got str"),
        ({"affinity": affinities(ab=1.0).drop(columns="target")}, "missing: target; got: source, affinity, steps"),
        (
            {"affinity": pd.concat([affinities(ab=1.0)] * 2)},
            "one affinity per pair in affinity=, but some stand there twice",
        ),
        ({"affinity": affinities(xy=1.0)}, r"tasks of the gains \(a, b, c\), but affinity= tells of x, y"),
        ({"gains": gains(*ROWS, ROWS[0])}, "one gain per source and target, but some stand there twice"),
        ({"gains": gains(*ROWS).drop(columns="alone")}, r"analysis\.transfer_gains returns; missing: alone"),
        ({"gains": None}, r"analysis\.transfer_gains returns, but got NoneType"),
        ({"cosine": SCORES}, "cosines between gradients.*'score' they are of covariances: give the scores as cov"),
    ],
)
def test_frames_that_do_not_fit_are_told(change: dict, said: str) -> None:
    given_frames = {"gains": gains(*ROWS), "affinity": affinities(ab=0.1)} | change
    with pytest.raises(FrameError, match=said):
        analysis.transfer_prediction(given_frames.pop("gains"), **given_frames)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"value": "low"}, "value='relative' or value='gain'"),
        ({"confidence": 1.0}, "confidence between 0 and 1"),
        ({"confidence": "0.9"}, "confidence between 0 and 1"),
        ({"seed": "x"}, "seed, a whole number from 0"),
        ({"repeats": 0}, "repeats, a whole number from 1"),
    ],
)
def test_options_out_of_range_are_told(option: dict, said: str) -> None:
    frame = analysis.transfer_prediction(gains(*ROWS), affinity=affinities(ab=0.1, cb=0.2))
    with pytest.raises(FrameError, match=said):
        analysis.rank_correlations(frame, **option)
    with pytest.raises(FrameError, match=r"analysis\.transfer_prediction returns; missing: predicted"):
        analysis.rank_correlations(frame.drop(columns="predicted"))


def drawn(value: str = "relative", **signals: pd.DataFrame) -> go.Figure:
    frame = analysis.transfer_prediction(gains(*ROWS), **signals)
    figure = figures.transfer_prediction(frame, analysis.rank_correlations(frame, value=value), value=value)
    go.Figure(figure.to_dict())  # plotly knows every property
    return figure


def test_a_panel_per_signal_holds_each_pair_once_in_its_targets_colour() -> None:
    signals = {
        "affinity": affinities(ab=0.1, cb=0.2, ac=-0.1, bc=0.3),
        "cosine": symmetric("cosine", ab=0.9, ac=0.4, bc=0),
    }
    figure = drawn(value="gain", **signals)
    assert figure.layout.xaxis.title.text == "mean gradient cosine"
    assert figure.layout.xaxis2.title.text == "affinity, % of the loss"
    assert figure.layout.yaxis2.matches == "y"
    points = {}
    for trace in [trace for trace in figure.data if trace.text is not None]:
        for x, y, pair in zip(trace.x, trace.y, trace.text, strict=True):
            assert (trace.xaxis, pair) not in points
            points[trace.xaxis, pair] = (x, y, trace.marker.color, trace.marker.symbol)
    assert len(points) == 6 + 4
    assert points["x", "a → b"] == (0.9, 2.0, theme.colour(0), "circle")
    assert points["x2", "b → c"] == (30.0, 0.25, theme.colour(1), "circle-open")
    assert points["x2", "a → b"][0] == 10.0
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["b", "c", "a"]
    assert figure.layout.yaxis.title.text == "measured gain, rmse"
    texts = [note.text for note in figure.layout.annotations]
    assert [text.split(",")[0] for text in texts] == ["<b>cosine</b>", "<b>affinity</b>"]
    assert "6 pairs<br>ρ = " in texts[0]


def test_long_intervals_do_not_squeeze_the_points() -> None:
    frame = analysis.transfer_prediction(gains(*ROWS), affinity=affinities(ab=0.1, cb=0.2, ac=-0.1))
    wide = frame.assign(relative_low=frame.relative - 1e4, relative_high=frame.relative + 1e4)
    low, high = figures.transfer_prediction(wide, analysis.rank_correlations(wide)).layout.yaxis.range
    assert -110 < low < -25
    assert 50 < high < 140


def test_hostile_names_stand_there_as_they_are() -> None:
    some = gains(*[("<b>x</b>" if s == "a" else s, "<b>x</b>" if t == "a" else t, o, g) for s, t, o, g in ROWS])
    said = pd.DataFrame({"source": ["<b>x</b>", "b"], "target": ["b", "c"], "affinity": [0.1, 0.2]})
    frame = analysis.transfer_prediction(some, affinity=said)
    assert "<b>x" not in figures.transfer_prediction(frame, analysis.rank_correlations(frame)).to_json()


def test_a_figure_without_any_pair_says_so() -> None:
    frame = analysis.transfer_prediction(gains(*ROWS).assign(gain=NAN), affinity=affinities(ab=0.1))
    (note,) = figures.transfer_prediction(frame, analysis.rank_correlations(frame)).layout.annotations
    assert note.text == "No pair has both a signal and a measured gain."
    with pytest.raises(FrameError, match="value='relative' or value='gain'"):
        figures.transfer_prediction(frame, frame, value="low")  # type: ignore[arg-type]


def test_tasks_keep_the_order_and_so_the_colours_of_the_problem() -> None:
    """The gains of a problem begin with its first task as a target, and so with the second as a source."""
    pairs = [(source, target) for target in ("a", "b", "c") for source in ("a", "b", "c") if source != target]
    frame = pd.DataFrame(pairs, columns=["source", "target"])
    frame = frame.assign(metric="m", alone=1.0, gain=0.1, low=0.0, high=0.2, verdict="undecided")
    scores = pd.DataFrame([(a, b, 0.5, 0.5) for a, b in pairs], columns=["task_a", "task_b", "score", "cosine"])
    prediction = analysis.transfer_prediction(frame, covariance=scores)
    assert prediction["target"].cat.categories.tolist() == ["a", "b", "c"]
    assert prediction["source"].cat.categories.tolist() == ["a", "b", "c"]
