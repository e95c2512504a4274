"""The three-task lab in a real JupyterLab: clouds are dragged, boundaries turned, and every figure answers in time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
from notebook_page import DARK, LIGHT, Notebook

pytestmark = pytest.mark.browser

PLOT = ".mtlviz-figure .js-plotly-plot"
OPEN = "import mtlviz as mv\nlab = mv.ThreeTaskLab()\nlab"
MOVES = 40
"Moves of the mouse in the drag whose waits are printed: python -m pytest -s tests/browser/test_three_task_lab_page.py"


def opened(notebook: Callable[..., Notebook], **size: int) -> Notebook:
    book = notebook([OPEN], **size)
    book.run(0, timeout=200)  # the first use on a machine compiles the fit
    book.wait_until(
        f"[...document.querySelectorAll('{PLOT}')].filter(plot => plot.data?.length).length >= 3", timeout=60
    )
    book.wait_for(".mtlviz-handle", count=3)
    return book


def middle(book: Notebook, cloud: int) -> tuple[float, float]:
    box = book.page.locator(".mtlviz-handle").nth(cloud).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drawn(book: Notebook) -> dict[str, Any]:
    """The points of task 3, the rows of the accuracies and how many turns are drawn, as the page has them."""
    return book.page.evaluate(
        f"""() => {{
            const [plane, accuracy, turns] = document.querySelectorAll("{PLOT}");
            const third = plane.data.find(trace => trace.name === "task 3");
            return {{x: Array.from(third.x), y: Array.from(third.y), rows: accuracy.layout.yaxis.ticktext,
                     means: accuracy.data.map(trace => trace.x[0]), turns: turns.data.map(trace => trace.x.length),
                     scale: [plane._fullLayout.xaxis, plane._fullLayout.yaxis]
                         .map(axis => axis._length / (axis.range[1] - axis.range[0]))}};
        }}"""
    )


def test_a_dragged_cloud_moves_and_every_figure_answers(notebook: Callable[..., Notebook]) -> None:
    book = opened(notebook, width=1400, height=1300)
    before = drawn(book)
    assert before["scale"][0] == pytest.approx(before["scale"][1])  # equal axes
    assert before["turns"] == [100] * 4
    assert [row.split("<br>")[1].split()[0] for row in before["rows"][1:]] == ["helps", "hurts", "hurts"]
    book.page.locator(".mtlviz-handle").nth(2).scroll_into_view_if_needed()
    x, y = middle(book, 2)
    book.page.mouse.move(x, y)
    book.page.mouse.down()
    for move in range(1, MOVES + 1):
        book.page.mouse.move(x - 2 * move, y + move)
        book.pause(0.15)
    book.page.mouse.up()
    book.wait_for_value("len(lab.waits)", lambda count: count >= 1, timeout=30)
    book.wait_for_value("lab.accuracy.waits[-1].ticket == lab._wish.ticket", bool, timeout=30)
    book.value("lab.wait()")
    centre = book.value("lab.picture.clouds[2].centre")
    right, up = (2 * MOVES / before["scale"][0], MOVES / before["scale"][1])
    assert centre == pytest.approx([5.2 - right, 3.0 - up], abs=0.05)
    after = drawn(book)
    assert [a - b for a, b in zip(after["x"], before["x"], strict=True)] == pytest.approx([centre[0] - 5.2] * 24)
    assert [a - b for a, b in zip(after["y"], before["y"], strict=True)] == pytest.approx([centre[1] - 3.0] * 24)
    means = book.value("(100 * lab.frame[lab.frame.task == 'task 1'].accuracy).tolist()")
    assert after["means"] == pytest.approx(means)
    waits = sorted(book.value("lab.waits"))
    print(
        f"\n{len(waits)} moves of a cloud, 100 samples × 6 fits, plane and accuracies drawn after: "
        f"median {statistics.median(waits):.0f} ms, p95 {waits[int(0.95 * (len(waits) - 1))]:.0f} ms"
    )
    assert "the picture follows the mouse after" in book.value("lab.status.value")
    assert book.value("lab.trouble.value") == ""

    book.click("Start over")
    book.wait_until(f"document.querySelectorAll('{PLOT}')[0].layout.meta.handles.points[2][0] === 5.2")
    slider = book.page.locator(".widget-inline-hbox").filter(has=book.page.get_by_text("Boundary of task 1 °"))
    slider.locator(".noUi-handle").first.focus()
    for _ in range(15):
        book.page.keyboard.press("ArrowLeft")
    book.wait_for_value("lab.picture.boundary", lambda angle: angle == 30)
    book.wait_until(f"document.querySelectorAll('{PLOT}')[1].layout.yaxis.ticktext[2].includes('helps')")
    assert book.value("'torch' in __import__('sys').modules") is False


def test_it_can_be_looked_at_in_both_themes_and_widths_and_is_kept(notebook: Callable[..., Notebook]) -> None:
    book = opened(notebook, width=1400, height=1300)
    question = "Why does task 2 help task 1, while task 3 hurts it?"
    book.page.locator(".widget-dropdown select").first.select_option(label=question)
    book.wait_for_value("lab.controls.look.value", lambda text: "Look for" in text)
    book.pause(2.5)
    book.screenshot("three_task_lab_light", of=book.output(0))
    book.theme(DARK)
    book.pause(1)
    book.screenshot("three_task_lab_dark", of=book.output(0))
    book.resize(620, 1500)
    book.pause(1.5)
    for plot in range(3):
        shown = book.page.locator(PLOT).nth(plot).bounding_box()
        cell = book.output(0).bounding_box()
        assert shown is not None
        assert cell is not None
        assert cell["x"] <= shown["x"]
        assert shown["x"] + shown["width"] <= cell["x"] + cell["width"] + 1
    book.screenshot("three_task_lab_dark_narrow", of=book.output(0))
    book.theme(LIGHT)
    book.wait_for_value("lab._kept._picture is not None and len(lab.pictures)", lambda count: count == 3)
    book.save()
    again = book.reopen()
    again.wait_for(".jp-OutputArea-output img", timeout=30)
    again.screenshot("three_task_lab_reopened", of=again.output(0))
    again.close()
