import json
from datetime import datetime

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from decoder import applied, same, unpacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mtlviz.widgets import wire

TEXT = st.text(alphabet="ab$é<", max_size=4)
SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-10, 10) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
DTYPES = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", ">f8", ">i4"])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
GROWING = st.integers(0, 40).flatmap(lambda n: st.sampled_from([np.arange(n) * 0.5, np.arange(n)]))
TRACES = st.fixed_dictionaries(
    {"type": st.sampled_from(["scatter", "heatmap"])},
    optional={"x": ARRAYS | GROWING, "y": ARRAYS | GROWING, "marker": JSON, "name": TEXT},
)
LAYOUTS = st.dictionaries(st.sampled_from(["title", "shapes", "xaxis"]), JSON)
FIGURES = st.fixed_dictionaries({"data": st.lists(TRACES, max_size=3), "layout": LAYOUTS})


@given(FIGURES)
def test_a_figure_survives_the_way_to_the_browser(figure):
    sent = wire.tree(figure)
    packed, buffer = wire.pack(sent)
    json.dumps(packed, allow_nan=False)
    assert same(unpacked(packed, buffer), sent)


@given(FIGURES)
def test_numbers_keep_their_values(figure):
    for trace, sent in zip(figure["data"], wire.tree(figure)["data"], strict=True):
        for key in {"x", "y"} & trace.keys():
            # Short arrays stay exact; beyond 2**53 JavaScript's own numbers do not.
            np.testing.assert_array_equal(np.asarray(sent[key], dtype=np.float64), trace[key].astype(np.float64))


@given(FIGURES, FIGURES, st.booleans())
def test_a_patch_turns_the_old_figure_into_the_new_one(first, second, paired):
    if paired:  # patches are for figures whose traces pair up
        second["data"] = [
            {**new, "type": old["type"]}
            for old, new in zip(first["data"], second["data"] + first["data"], strict=False)
        ]
    old, new = wire.tree(first), wire.tree(second)
    changes = wire.changes(old, new)
    kinds = [[trace["type"] for trace in figure["data"]] for figure in (old, new)]
    assert (changes is None) == (kinds[0] != kinds[1])
    if changes is not None:
        packed, buffer = wire.pack_changes(changes)
        assert same(applied(old, packed, buffer), new)


@given(FIGURES)
def test_nothing_travels_when_nothing_changed(figure):
    assert wire.changes(wire.tree(figure), wire.tree(figure)) == []


@given(st.integers(1, 50), st.integers(0, 50))
def test_a_curve_that_grew_sends_only_its_new_points(before, more):
    y = np.linspace(0.0, 1.0, before + more)
    old, new = (wire.tree(go.Figure(go.Scatter(y=y[:n]))) for n in (before, before + more))
    changes = wire.changes(old, new)
    assert changes == [] if more == 0 else [c.keep for c in changes] == [before] and changes[0].value.size == more


def test_layout_changes_travel_alone():
    figure = go.Figure(go.Scatter(y=np.arange(1000.0)))
    old = wire.tree(figure)
    figure.add_vline(x=3).update_layout(title="new")
    assert {c.path for c in wire.changes(old, wire.tree(figure))} == {("layout", "shapes"), ("layout", "title")}


def test_the_tree_shares_no_memory_with_the_figure():
    y = np.arange(5.0)
    figure = {"data": [{"y": y}], "layout": {}}
    sent = wire.tree(figure)
    y[0] = 99
    assert sent["data"][0]["y"][0] == 0


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([1, 2**31 - 1]), "i4"),
        (np.array([1, 2**31]), "f8"),
        (np.array([-(2**31) - 1]), "f8"),
        (np.array([], dtype=np.int64), "i4"),
        (np.linspace(0, 1, 500), "f4"),
        (np.linspace(0, 1, 200), "f8"),  # few enough to be read one by one
        (1e6 + np.linspace(0, 1, 500), "f8"),  # float32 has steps of 0.06 there
        (np.full(500, 0.1), "f8"),  # no spread to be small against
        (np.geomspace(1e-50, 1, 500), "f8"),  # underflows
        (np.geomspace(1, 1e50, 500), "f8"),  # overflows
        (np.full(500, np.nan), "f8"),
    ],
)
def test_dtypes_of_y(values, dtype):
    assert wire.tree({"data": [{"y": values}]})["data"][0]["y"].dtype == np.dtype(dtype)


@given(hnp.arrays(np.float64, st.integers(256, 400), elements=st.floats(-1e6, 1e6)))
def test_a_shortened_y_is_off_by_less_than_a_screen_shows(values):
    sent = wire.tree({"data": [{"y": values, "x": values}]})["data"][0]
    assert sent["x"].dtype == np.float64
    assert np.abs(sent["y"].astype(np.float64) - values).max() <= np.ptp(values) / wire.SCREEN


def test_nan_is_a_gap_in_numbers_and_null_in_lists():
    sent = wire.tree(go.Figure([go.Scatter(y=np.array([1.0, np.nan, np.inf])), go.Scatter(y=[1.0, float("nan")])]))
    assert np.isnan(sent["data"][0]["y"][1])
    assert sent["data"][1]["y"] == [1.0, None]


def test_dates_words_and_mixed_columns_become_json():
    stamps = pd.to_datetime(["2026-01-02", None])
    sent = wire.tree(
        {
            "data": [
                {
                    "x": stamps.to_numpy(),
                    "text": np.array(["a", "b"]),
                    "customdata": np.array([["left", 0.5], ["right", np.nan]], dtype=object),
                    "ids": [
                        datetime(2026, 1, 2),
                        pd.Timestamp("2026-01-02"),
                        np.float64(1.5),
                        np.int64(3),
                        pd.NA,
                        pd.NaT,
                    ],
                    "z": np.array([[True, False]]),
                }
            ]
        }
    )["data"][0]
    assert sent["x"][0].startswith("2026-01-02")
    assert sent["x"][1] is None
    assert sent["text"] == ["a", "b"]
    assert sent["customdata"] == [["left", 0.5], ["right", None]]
    assert sent["ids"] == ["2026-01-02T00:00:00", "2026-01-02T00:00:00", 1.5, 3, None, None]
    assert sent["z"] == [[True, False]]


def test_what_is_no_figure_is_refused_by_name():
    with pytest.raises(TypeError, match="got DataFrame"):
        wire.tree(pd.DataFrame())


def test_a_value_that_no_json_holds_is_refused():
    with pytest.raises(TypeError):
        wire.tree({"data": [{"meta": object()}]})
