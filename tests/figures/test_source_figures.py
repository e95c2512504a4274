"""The figure of sources: a line and an interval for each, a panel for each setting, and nothing that overlaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mtlviz import figures
from mtlviz.errors import FrameError
from mtlviz.figures import theme

SIZES = (10, 100, 1000)


def differences(settings: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"setting": f"setting {s}", "kind": "classification" if s == 2 else "regression", "source": source}
        | {
            "source_samples": size,
            "seeds": 3,
            "difference": middle,
            "low": middle - 0.1,
            "high": middle + 0.1,
            "alone": 1.0,
        }
        for s in range(settings)
        for source in ("same", "<b>other</b>")
        for size, middle in zip(SIZES, rng.normal(size=3), strict=True)
    ]
    return pd.DataFrame(rows)


def test_a_line_is_the_mean_and_its_area_the_interval() -> None:
    frame = differences()
    before = frame.copy()
    drawn = figures.source_differences(
        frame.sample(frac=1.0, random_state=3).sort_values("source", kind="stable", ascending=False)
    )
    pd.testing.assert_frame_equal(frame, before)
    go.Figure(drawn.to_dict())
    area, line = drawn.data[:2]
    own = frame[frame["source"] == "same"]
    assert list(line.x) == list(SIZES)
    np.testing.assert_allclose(line.y, own["difference"])
    np.testing.assert_allclose(line.customdata, own[["low", "high"]])
    assert (min(area.y), max(area.y)) == (own["low"].min(), own["high"].max())
    assert area.fill == "toself"
    assert drawn.layout.xaxis.type == "log"
    assert list(drawn.layout.xaxis.ticktext) == ["10", "100", "1k"]
    assert drawn.layout.meta["question"].endswith("?")
    assert drawn.data[3].name == "&lt;b&gt;other&lt;/b&gt;"


@pytest.mark.parametrize("settings", [1, 2, 3, 5])
def test_each_setting_has_a_panel_of_its_own(settings: int) -> None:
    drawn = figures.source_differences(differences(settings))
    go.Figure(drawn.to_dict())
    layout = drawn.layout
    assert [a.text for a in layout.annotations] == [f"<b>setting {s}</b>" for s in range(settings)]
    suffixes = ["" if i == 0 else str(i + 1) for i in range(settings)]
    boxes = [(*layout[f"xaxis{s}"].domain, *layout[f"yaxis{s}"].domain) for s in suffixes]
    for i, (left, right, bottom, top) in enumerate(boxes):
        assert 0 <= left < right <= 1
        assert 0 <= bottom < top < 1
        for other in boxes[:i]:
            assert left >= other[1] or right <= other[0] or top <= other[2] or bottom >= other[3]
    assert [trace.name for trace in drawn.data if trace.showlegend] == ["same", "&lt;b&gt;other&lt;/b&gt;"]
    colours = {
        trace.name: {t.line.color for t in drawn.data if t.name == trace.name and t.mode != "lines"}
        for trace in drawn.data
    }
    assert colours == {"same": {theme.colour(0)}, "&lt;b&gt;other&lt;/b&gt;": {theme.colour(1)}}
    if settings > 2:
        assert layout.yaxis3.title.text == "Δ share of wrong signs"
    titled = [suffix for suffix in suffixes if layout[f"xaxis{suffix}"].title.text]
    assert titled == suffixes[-2:]  # the lowest of each column


def test_no_differences_are_said_and_another_frame_is_refused() -> None:
    empty = figures.source_differences(differences().iloc[:0])
    go.Figure(empty.to_dict())
    assert "No differences" in empty.layout.annotations[0].text
    one_seed = differences().assign(low=np.nan, high=np.nan)
    go.Figure(figures.source_differences(one_seed).to_dict())
    for wrong in (differences().drop(columns="low"), [1]):
        with pytest.raises(
            FrameError, match=r"figures\.source_differences needs the frame of transfer\.source_differences"
        ):
            figures.source_differences(wrong)
