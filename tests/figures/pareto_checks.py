"""The descents that the tests of the Pareto lab's figures draw, and what holds for each figure."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go

from mtlviz import pareto
from mtlviz.pareto import Descent
from tests.figures.test_figures import HOSTILE

METHODS = ("equal", "mgda", "imtl_g")
PROBLEMS = ("toy", "quadratics", "fonseca_fleming")


@lru_cache
def descent(problem: str = "quadratics", methods: tuple[str, ...] = METHODS, **options: Any) -> Descent:
    return pareto.descend(list(methods), problem=problem, steps=1500, points=300, lr=3e-3, **options)


def named(figure: go.Figure, name: str, axis: str = "x") -> list[Any]:
    return [trace for trace in figure.data if trace.name == name and (getattr(trace, "xaxis", None) or "x") == axis]


def assert_valid(figure: go.Figure) -> None:
    whole = figure.to_plotly_json()
    layout = json.loads(go.Figure(whole).to_json())["layout"]
    assert layout == json.loads(figure.to_json())["layout"]
    assert not {"paper_bgcolor", "plot_bgcolor", "font"} & set(layout)


def assert_literal(figure: go.Figure) -> None:
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    assert not [hostile for hostile in HOSTILE[:3] if hostile in text]
    assert all("<" not in (trace.name or "") and "$" not in (trace.name or "") for trace in figure.data)
