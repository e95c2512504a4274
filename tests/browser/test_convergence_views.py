"""A run with a schedule in a real JupyterLab: its timeline and its branches grow while it goes back, in any theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from notebook_page import DARK, LIGHT, Notebook

pytestmark = pytest.mark.browser

QUESTION = "When did each task converge, at what cost?"
PLOT = ".mtlviz-figure .js-plotly-plot"
CELL = (
    "import mtlviz as mv\n"
    "schedule = mv.training.Joint(patience=1, validate_every=5)\n"
    "run = mv.start(mv.data.digits(seed=0), schedule=schedule, layers_every=0)\n"
    "mv.dashboard(run)"
)


def timeline(book: Notebook) -> dict[str, Any]:
    """What the page shows of the timeline: bars, faint ones, ways back, and its width."""
    return book.page.evaluate(
        f"""() => {{
            const shown = [...document.querySelectorAll("{PLOT}")]
                .find(plot => plot.offsetWidth > 0 && plot.layout?.meta?.question === "{QUESTION}");
            if (!shown) return null;
            const bars = shown.data.filter(trace => trace.type === "bar");
            const count = traces => traces.reduce((sum, trace) => sum + trace.x.length, 0);
            const way = shown.data.find(trace => trace.name === "converged");
            return {{
                bars: shown.querySelectorAll(".barlayer .point path").length,
                given: count(bars),
                faint: count(bars.filter(trace => trace.marker.opacity < 1)),
                converged: way.x.length / 3,
                width: shown.offsetWidth,
                titles: [...document.querySelectorAll("{PLOT}")].filter(plot => plot.offsetWidth > 0).length,
            }};
        }}"""
    )


def test_a_joint_run_live(notebook: Callable[..., Notebook]) -> None:
    book = notebook([CELL], width=1300, height=1150)
    book.run(0)
    book.wait_until(f"""document.querySelector("{PLOT}")""", timeout=30)
    book.wait_for("text=/of 5 tasks converged/", timeout=30)
    book.wait_for_value("run.state", lambda state: state == "finished", timeout=60)
    book.wait_for("text=/finished · step .* of at most .* · 5 of 5 tasks converged/", timeout=30)
    expected = book.value("[int((mv.analysis.timeline(run.log).kind == 'stretch').sum()), len(run.log.events)]")
    book.pause(1)
    shown = timeline(book)
    assert shown["bars"] == shown["given"] == expected[0]
    assert shown["faint"] > 0
    assert shown["converged"] == 5
    assert shown["titles"] == 3
    assert book.value("mv.analysis.replay_events(run.log).kind.tolist()[-2:]")[-1] == "rewind"
    book.screenshot("convergence_light", of=book.output(0))
    book.theme(DARK)
    book.resize(620, 1500)
    book.pause(1)
    assert timeline(book)["width"] < 600
    book.screenshot("convergence_dark_narrow", of=book.output(0))
    book.theme(LIGHT)
