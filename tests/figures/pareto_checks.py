"""What holds for every figure of the Pareto lab."""

from __future__ import annotations

import json

import plotly.graph_objects as go

from tests.figures.test_figures import HOSTILE


def assert_valid(figure: go.Figure) -> None:
    whole = figure.to_plotly_json()
    layout = json.loads(go.Figure(whole).to_json())["layout"]
    assert layout == json.loads(figure.to_json())["layout"]
    assert not {"paper_bgcolor", "plot_bgcolor", "font"} & set(layout)


def assert_literal(figure: go.Figure) -> None:
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    assert not [hostile for hostile in HOSTILE[:3] if hostile in text]
    assert all("<" not in (trace.name or "") and "$" not in (trace.name or "") for trace in figure.data)
