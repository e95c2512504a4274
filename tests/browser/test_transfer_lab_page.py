"""The transfer lab in a real JupyterLab: tabs of real results, drawn when they are opened, and judged anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from notebook_page import DARK, LIGHT, Notebook

pytestmark = pytest.mark.browser

PLOT = ".mtlviz-figure .js-plotly-plot"
CELL = (
    "import mtlviz as mv\n"
    "problem = mv.data.planted('related')\n"
    "inputs = mv.data.task_inputs(problem)\n"
    "runs = mv.experiments.transfer_runs(mv.data.planted, 3, steps=15, validate_every=15, jobs=1, progress=False)\n"
    "run = mv.start(problem, steps=40, affinity_every=5)\n"
    "run.wait()\n"
    "scores = mv.analysis.covariance_scores(inputs)\n"
    "lab = mv.TransferLab(runs, scores, mv.analysis.covariance_spectra(inputs), run)\n"
    "lab"
)


def questions(book: Notebook) -> list[str]:
    """The questions of the figures that are drawn and in sight."""
    return book.page.evaluate(
        f"""() => [...document.querySelectorAll("{PLOT}")]
            .filter(plot => plot.offsetWidth > 0 && plot.data?.length).map(plot => plot.layout.meta.question)"""
    )


def cells(book: Notebook) -> list[str]:
    """What is written into the matrix of gains."""
    return book.page.evaluate(
        f"""() => {{
            const shown = [...document.querySelectorAll("{PLOT}")]
                .find(plot => plot.offsetWidth > 0 && plot.layout?.meta?.question === "Which task helps which?");
            return shown.data.flatMap(trace => (trace.text ?? []).flat());
        }}"""
    )


def test_results_stand_in_tabs_and_are_judged_anew(notebook: Callable[..., Notebook]) -> None:
    book = notebook([CELL], width=1300, height=1200)
    book.run(0, timeout=120)
    book.wait_until(f"document.querySelector('{PLOT}')?.data?.length", timeout=60)
    assert questions(book) == ["Which task helps which?"]
    before = cells(book)
    assert any("±" in text for text in before)
    book.screenshot("transfer_lab_light", of=book.output(0))
    book.page.get_by_label("intervals").select_option("99%")
    book.wait_until(
        f"document.querySelector('{PLOT}').data.flatMap(t => (t.text ?? []).flat()).join() !== {','.join(before)!r}",
        timeout=30,
    )
    for name, expected in (
        ("Signals", ["Which cheap signal would have told you?", "Whose step helps whom?", "Who pulls against whom?"]),
        ("Covariance", ["Whose inputs are alike?"] * 2 + ["How many directions hold a task's inputs?"]),
    ):
        book.page.get_by_role("tab", name=name).click()
        book.wait_until(
            f"[...document.querySelectorAll('{PLOT}')]"
            f".filter(plot => plot.offsetWidth > 0 && plot.data?.length).length >= {len(expected)}"
        )
        book.pause(1)
        assert questions(book) == expected
        book.screenshot(f"transfer_lab_{name.lower()}_light", of=book.output(0))
    book.theme(DARK)
    book.resize(620, 1500)
    book.pause(1)
    book.screenshot("transfer_lab_covariance_dark_narrow", of=book.output(0))
    book.theme(LIGHT)
