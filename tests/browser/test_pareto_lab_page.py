"""The Pareto lab in a real JupyterLab: starts are dragged, losses scaled, time scrubbed, pictures downloaded."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
from notebook_page import DARK, LIGHT, Notebook
from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

PLOT = ".mtlviz-figure .js-plotly-plot"
PLANES = {"parameters": 0, "losses": 1, "directions": 2}
OPEN = "import mtlviz as mv\nlab = mv.ParetoLab()\nlab"
MOVES = 40
"Moves of the mouse in the drag whose waits are printed: python -m pytest -s tests/browser/test_pareto_lab_page.py"

LAST_POINTS = """
def last_points(losses=False):
    "The last points (8, 5, 2) of the trajectories from the starts, as one descent has them."
    found = mv.pareto.descend(lab.descent.methods, lab.descent.starts, lab.descent.problem, steps=lab.descent.steps,
                              lr=lab.descent.lr, optimizer=lab.descent.optimizer)
    ends = found.last
    return (found.problem.own_losses(ends) if losses else ends).tolist()
"""


def opened(notebook: Callable[..., Notebook], code: str = OPEN, **size: int) -> Notebook:
    book = notebook([code], **size)
    book.run(0, timeout=200)  # the first use on a machine compiles the kernels
    book.wait_until(
        f"[...document.querySelectorAll('{PLOT}')].filter(plot => plot.data?.length).length >= 3", timeout=60
    )
    book.wait_for(".mtlviz-handle", count=5)
    return book


def drawn(book: Notebook, plane: str) -> dict[str, Any]:
    """Of each method, the places at which its lines begin and its marks, and the heading, as the page draws them."""
    return book.page.evaluate(
        f"""index => {{
            const plot = document.querySelectorAll("{PLOT}")[index];
            const lines = {{}}, marks = {{}}, lengths = {{}};
            for (const trace of plot.data) {{
                const at = i => [trace.x[i], trace.y[i]];
                if (trace.mode === "lines" && trace.customdata)
                    for (let i = 0; i < trace.x.length; i++)
                        if (trace.customdata[i] === 0) (lines[trace.legendgroup] ??= []).push(at(i));
                if (trace.mode === "markers" && trace.text && trace.legendgroup)
                    marks[trace.legendgroup] = Array.from(trace.x, (_, i) => at(i));
                if (trace.mode === "lines" && trace.customdata)
                    lengths[trace.legendgroup] = (lengths[trace.legendgroup] ?? 0) + trace.x.length;
            }}
            const shown = plot.layout.legend?.title?.text ?? plot.layout.title?.text;
            return {{lines, marks, lengths, title: shown, handles: plot.layout.meta?.handles?.points}};
        }}""",
        PLANES[plane],
    )


def middle(of: Locator) -> tuple[float, float]:
    box = of.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def slider(book: Notebook, name: str) -> Locator:
    row = book.page.locator(".jp-Notebook .widget-inline-hbox").filter(has=book.page.get_by_text(name, exact=True))
    return row.locator(".noUi-handle").locator("visible=true").first


def trouble(book: Notebook) -> str:
    return book.value("lab.trouble.value")


def test_a_dragged_start_takes_its_trajectories_along(notebook: Callable[..., Notebook]) -> None:
    book = opened(notebook, width=1400, height=1500)
    handle = book.page.locator(".mtlviz-handle").nth(2)
    handle.scroll_into_view_if_needed()
    x, y = middle(handle)
    before = drawn(book, "parameters")
    book.page.mouse.move(x, y)
    book.page.mouse.down()
    for move in range(1, MOVES + 1):
        book.page.mouse.move(x - 5 * move, y + 2 * move)
        book.pause(0.15)
    book.page.mouse.up()
    book.wait_for_value("len(lab.waits)", lambda count: count >= 1, timeout=30)
    book.wait_for_value("lab.parameters.waits[-1].ticket == lab._wish.ticket", bool, timeout=30)
    book.value("lab.wait()")
    start = book.value("lab.descent.starts.tolist()")[2]
    assert start != before["handles"][2]
    book.wait_until(
        f"Math.abs(document.querySelectorAll('{PLOT}')[0].layout.meta.handles.points[2][0] - {start[0]}) < 1e-9"
    )
    book.pause(0.5)

    book.value("None", setup=LAST_POINTS)
    starts = {"parameters": book.value("lab.descent.starts.tolist()")}
    starts["losses"] = book.value("lab.descent.problem.own_losses(lab.descent.starts).tolist()")
    methods = book.value("lab.descent.methods")
    for plane in ("parameters", "losses"):
        shown, ends = drawn(book, plane), book.value(f"last_points({plane == 'losses'})")
        for m, method in enumerate(methods):
            assert len(shown["lines"][method]) == 5
            for place, wanted in zip(shown["lines"][method], starts[plane], strict=True):
                assert place == pytest.approx(wanted, abs=1e-5)
            for place, wanted in zip(shown["marks"][method], ends[m], strict=True):
                assert place == pytest.approx(wanted, abs=1e-5)
    waits = sorted(book.value("lab.waits"))
    print(
        f"\n{len(waits)} moves of a start, 8 methods × 10,000 steps, both planes drawn after: "
        f"median {statistics.median(waits):.0f} ms, p95 {waits[int(0.95 * (len(waits) - 1))]:.0f} ms"
    )
    assert "the picture follows the mouse after" in book.value("lab.status.value")
    assert trouble(book) == ""
    book.screenshot("pareto_lab_dragged", of=book.output(0))

    book.click("Starts back")
    book.wait_until(
        f"document.querySelectorAll('{PLOT}')[0].layout.meta.handles.points[2][0] === {before['handles'][2][0]}"
    )


def test_scales_time_arrows_and_methods(notebook: Callable[..., Notebook]) -> None:
    book = opened(notebook, width=1400, height=1900)
    before = drawn(book, "losses")
    slider(book, "Scale of loss 1").focus()
    for _ in range(3):
        book.page.keyboard.press("ArrowRight")
    book.wait_for_value("lab.descent.problem.scale[0]", lambda scale: scale == 0.14)
    book.wait_until(f"document.querySelectorAll('{PLOT}')[1].layout.title.text.includes('scaled by 0.14 and 1')")
    assert drawn(book, "losses")["marks"]["equal"] != before["marks"]["equal"]

    slider(book, "Step").focus()
    for _ in range(30):
        book.page.keyboard.press("PageDown")
    step = book.wait_for_value("lab.controls.time.value", lambda value: value == 7_000)
    book.wait_until(f"document.querySelectorAll('{PLOT}')[0].layout.title.text.includes('at step {step:,}')")
    arrows = f"document.querySelectorAll('{PLOT}')[2]"
    book.wait_until(f"{arrows}.layout.legend.title.text.includes('step {step:,} of equal from start 1')")
    weights = [
        trace for trace in book.page.evaluate(f"{arrows}.data.map(trace => trace.name)") if trace.startswith("equal ")
    ]
    assert weights == ["equal 1 / 1"]
    book.page.locator("select").locator("visible=true").last.select_option("4")
    book.wait_until(f"{arrows}.layout.legend.title.text.includes('of equal from start 4')")
    book.screenshot("pareto_lab_scrubbed", of=book.output(0))

    book.page.locator(".widget-play button").first.click()
    now = book.wait_for_value("lab.controls.time.value", lambda value: step < value < 10_000)
    book.wait_for_value("lab.controls.time.value", lambda value: value > now)
    book.wait_for_value("lab.controls.time.value", lambda value: value == 10_000)

    book.click("famo")
    book.wait_until(f"document.querySelectorAll('{PLOT}')[0].data.some(trace => trace.name === 'famo')")
    book.click("mgda")
    book.wait_until(f"!document.querySelectorAll('{PLOT}')[0].data.some(trace => trace.name === 'mgda')")
    for name in ("graddrop", "adatask"):
        assert book.page.get_by_role("button", name=name, exact=True).is_disabled()
    assert "famo" in book.output(0).locator(".mtlviz-table").inner_text()
    assert trouble(book) == ""
    assert book.value("'torch' in __import__('sys').modules") is False


def test_it_can_be_looked_at_in_both_themes_and_widths_and_is_kept(notebook: Callable[..., Notebook]) -> None:
    book = opened(
        notebook, "import mtlviz as mv\nlab = mv.ParetoLab.preset('where_mgda_stops')\nlab", width=1400, height=1500
    )
    book.pause(2.5)
    book.screenshot("pareto_lab_light", of=book.output(0))
    book.theme(DARK)
    book.pause(1)
    book.screenshot("pareto_lab_dark", of=book.output(0))
    book.resize(620, 1500)
    book.pause(1.5)
    for plot in range(3):
        shown = book.page.locator(PLOT).nth(plot).bounding_box()
        cell = book.output(0).bounding_box()
        assert shown is not None
        assert cell is not None
        assert cell["x"] <= shown["x"]
        assert shown["x"] + shown["width"] <= cell["x"] + cell["width"] + 1
    book.screenshot("pareto_lab_dark_narrow", of=book.output(0))
    book.theme(LIGHT)
    book.wait_for_value("lab._kept._picture is not None", bool)
    book.save()
    again = book.reopen()
    again.wait_for(".jp-OutputArea-output img", timeout=30)
    again.screenshot("pareto_lab_reopened", of=again.output(0))
    again.close()


def test_the_toolbar_saves_pictures_offline(notebook: Callable[..., Notebook]) -> None:
    book = opened(notebook, width=1400, height=1500)
    plane = book.page.locator(PLOT).first
    plane.scroll_into_view_if_needed()
    plane.hover(position={"x": 300, "y": 300})
    found = {}
    for title in ("Download picture (SVG)", "Download picture (PNG)"):
        with book.page.expect_download() as waiting:
            plane.locator(f'.modebar-btn[data-title="{title}"]').click()
        found[waiting.value.suggested_filename.rsplit(".", 1)[-1]] = waiting.value.path().read_bytes()
    assert found["png"].startswith(b"\x89PNG\r\n")
    text = found["svg"].decode()
    assert text.startswith("<svg")
    for shown in ("nash_mtl", "Which methods reach the Pareto front", "best average"):
        assert shown in text
    assert "http" not in text.replace("http://www.w3.org", "")
