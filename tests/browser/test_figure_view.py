"""FigureView in a real JupyterLab: painting, refreshing, zoom, looks, saved pictures, one library, disposal."""

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from notebook_page import DARK, Notebook
from PIL import Image

pytestmark = pytest.mark.browser

SETUP = """
import threading
import time
import numpy as np
import plotly.graph_objects as go
from mtlviz.widgets import FigureView

def curves(seed=0, n=2000, traces=8, title="Losses of eight tasks"):
    random = np.random.default_rng(seed)
    y = 5 * np.exp(-np.arange(n) / 600) + random.normal(scale=0.1, size=(traces, n)) + np.arange(traces)[:, None]
    y[0, 300:500] = np.nan
    lines = [go.Scatter(x=np.arange(n), y=y[t], name=f"task {t}") for t in range(traces)]
    return go.Figure(lines, layout={"title": {"text": title}, "xaxis": {"title": "step"}, "yaxis": {"title": "loss"}})
"""
PLOT = ".js-plotly-plot"
PAINTED = f"{PLOT} .scatterlayer .trace"


def drawn_y(book: Notebook, trace: int = 0) -> np.ndarray:
    """What plotly.js holds of a curve; a gap is NaN."""
    values = book.page.evaluate(
        f"trace => Array.from(document.querySelector('{PLOT}').data[trace].y, y => Number.isNaN(y) ? null : y)", trace
    )
    return np.array(values, dtype=np.float64)


def colour(book: Notebook, selector: str, property_: str) -> tuple[int, ...]:
    text = book.page.eval_on_selector(selector, f"node => getComputedStyle(node).{property_}")
    return tuple(int(part) for part in text.strip("rgba()").split(",")[:3])


def picture_of(outputs: list[dict]) -> Image.Image:
    """The one PNG among the outputs of a cell."""
    (data,) = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def has_content(image: Image.Image) -> bool:
    """Not blank: a share of its pixels differs from its corner."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return bool((np.abs(pixels - pixels[0, 0]).sum(axis=2) > 60).mean() > 0.01)


def test_a_view_lives_from_first_paint_to_the_saved_notebook(notebook, tmp_path):
    book = notebook([SETUP, "view = FigureView(curves())\nview"])
    book.run(0)
    book.run(1)
    book.wait_for(PAINTED, count=8)
    assert np.isnan(drawn_y(book)[300:500]).all()
    book.screenshot("figure_light")

    _patches_are_small(book)
    _a_thread_refreshes_it_and_the_zoom_stays(book)
    _it_follows_theme_and_width(book)
    _it_survives_saving(book, tmp_path)


def _patches_are_small(book):
    start = len(book.received)
    book.value("view.show(curves(1, title='whole', traces=9))")
    book.wait_for(PAINTED, count=9)
    whole = max(book.received[start:])
    book.value("view.show(curves(1, title='whole'))")
    book.wait_until(f"document.querySelectorAll('{PAINTED}').length === 8")

    sizes = {}
    steps = {
        "every y": "view.show(curves(2, title='patched'))",
        "title": "view.show(curves(2, title='title'))",
        "last points": "figure = curves(2, title='tail')\nfor t in figure.data: t.y[-20:] += 1\nview.show(figure)",
    }
    for name, code in steps.items():
        book.wait_for_value("view._unanswered is None", bool)
        start = len(book.received)
        book.value(f"exec({code!r}, globals())")
        book.wait_until(f"document.querySelector('{PLOT}').layout.title.text === {code.split(chr(39))[1]!r}")
        sizes[name] = sum(book.received[start:])
    print({"whole": whole, **sizes})
    assert sizes["every y"] < 0.85 * whole  # without x, template and names; the replies to `value` are in it
    assert sizes["title"] < 0.1 * whole
    assert sizes["last points"] < 0.1 * whole
    np.testing.assert_allclose(
        drawn_y(book, 3), book.value("wire_y", setup="wire_y = figure.data[3].y.tolist()"), atol=1e-5
    )


def _a_thread_refreshes_it_and_the_zoom_stays(book):
    box = book.wait_for(f"{PLOT} .nsewdrag").bounding_box()
    book.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    book.page.mouse.down()
    book.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6, steps=5)
    book.value("view.show(curves(5, title='amid a drag'))")
    book.pause(0.5)
    book.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.8, steps=5)
    book.page.mouse.up()
    book.wait_until(f"document.querySelector('{PLOT}').layout.title.text === 'amid a drag'")
    zoomed = book.wait_until(
        f"document.querySelector('{PLOT}').layout.xaxis.autorange === false && "
        f"document.querySelector('{PLOT}').layout.xaxis.range"
    )
    assert 300 < zoomed[0] < 900 < zoomed[1] < 1500
    book.value(
        "thread.start()",
        setup="""
def refresh():
    for seed in range(10, 22):
        view.show(curves(seed, title=f"seed {seed}"))
        time.sleep(0.1)
thread = threading.Thread(target=refresh)""",
    )
    book.wait_until(f"document.querySelector('{PLOT}').layout.title.text === 'seed 21'")
    expected = book.value("curves(21).data[3].y.tolist()")
    np.testing.assert_allclose(drawn_y(book, 3), expected, atol=1e-5)
    assert book.page.evaluate(f"document.querySelector('{PLOT}').layout.xaxis.range") == zoomed
    book.screenshot("figure_zoomed")


def _it_follows_theme_and_width(book):
    light_paper, light_text = (
        colour(book, f"{PLOT} .main-svg", "backgroundColor"),
        colour(book, f"{PLOT} .xtick text", "fill"),
    )
    wide = book.wait_for(PLOT).bounding_box()["width"]
    book.theme(DARK)
    book.wait_until(f"getComputedStyle(document.querySelector('{PLOT} .xtick text')).fill !== 'rgb{light_text}'")
    dark_paper, dark_text = (
        colour(book, f"{PLOT} .main-svg", "backgroundColor"),
        colour(book, f"{PLOT} .xtick text", "fill"),
    )
    assert min(light_paper) > 200
    assert max(light_text) < 100
    assert max(dark_paper) < 60
    assert min(dark_text) > 200
    book.screenshot("figure_dark")
    book.resize(520, 900)
    book.wait_until(f"document.querySelector('{PLOT}').layout.width < {wide / 2}")
    cell = book.output(1).bounding_box()
    plot = book.wait_for(PLOT).bounding_box()
    assert plot["x"] + plot["width"] <= cell["x"] + cell["width"] + 1
    assert plot["width"] > 0.75 * cell["width"]
    book.screenshot("figure_dark_narrow")


def _it_survives_saving(book, tmp_path):
    book.resize(1200, 900)
    book.value("view.settle()")
    book.wait_for_value("view.picture is not None", bool)
    book.wait_until(
        "jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel.toJSON()"
        ".outputs.some(output => 'image/png' in output.data)"
    )
    assert book.output(1).locator("img").locator("visible=true").count() == 0  # hidden while the view lives
    assert book.wait_for(PAINTED, count=8)
    saved = book.save()
    assert has_content(picture_of(saved["cells"][1]["outputs"]))

    again = book.reopen()
    again.output(1).locator("img").wait_for()
    assert again.page.locator(PLOT).count() == 0
    assert "not found" not in again.output(1).inner_text()
    again.screenshot("figure_reopened")
    again.check()

    page = tmp_path / "saved.html"
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output", str(page), str(again.path)],
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert "data:image/png;base64," in page.read_text()


def test_five_views_share_one_library_and_leave_nothing_behind(notebook):
    book = notebook(
        [
            SETUP,
            "views = [FigureView(curves(seed), height=200) for seed in range(5)]\ndisplay(*views)",
            "for view in views:\n    view.close()",
        ]
    )
    book.run(0)
    start = len(book.received)
    book.run(1)
    book.wait_for(".js-plotly-plot .scatterlayer", count=2)
    book.wait_until("mtlvizPage.plots === 5 && document.querySelectorAll('.js-plotly-plot .trace').length === 40")
    received = sum(book.received[start:])
    print({"five views": received})
    assert received < 3_500_000  # the library once (1.5 MB) and five figures of 8 x 2000 points
    assert sum(size > 1_000_000 for size in book.received) == 1
    assert book.page.evaluate("mtlvizPage.libraries.size") == 1
    book.screenshot("figure_five")

    book.run(2)
    book.wait_until("mtlvizPage.plots === 0 && document.querySelectorAll('.js-plotly-plot').length === 0")
    assert (
        book.value("len([w for w in __import__('ipywidgets').Widget.widgets.values() if isinstance(w, FigureView)])")
        == 0
    )


def test_pages_and_kernels_come_and_go(notebook):
    tabs = "from ipywidgets import HTML, Tab\nhidden = FigureView(curves(3))\nTab([HTML(), hidden], titles=['A', 'B'])"
    book = notebook([SETUP, "view = FigureView(curves(), height=300)\nview", tabs])
    for cell in range(3):
        book.run(cell)
    book.wait_for(PAINTED, count=8)
    book.save()

    book.reload()  # a page that has missed the library and the figures asks for them
    book.wait_for(PAINTED, count=8)
    book.value("view.show(curves(5, title='after: <b>reload</b>'))")
    book.wait_until(f"document.querySelector('{PLOT}').layout.title.text.startsWith('after')")
    titles = book.page.evaluate("Array.from(document.querySelectorAll('.modebar-btn'), button => button.dataset.title)")
    assert {"Download picture (PNG)", "Download picture (SVG)", "Zoom", "Pan"} <= set(titles)
    assert not any("hare" in title or "loud" in title for title in titles)  # plotly.js would offer an upload
    for format_ in ("PNG", "SVG"):
        with book.page.expect_download(timeout=20_000) as download:
            book.page.hover(f"{PLOT} .nsewdrag")
            book.page.click(f"{PLOT} [data-title='Download picture ({format_})']")
        assert download.value.suggested_filename == f"after reload.{format_.lower()}"
        if format_ == "PNG":
            assert has_content(Image.open(download.value.path()))
        else:
            assert "<svg" in download.value.path().read_text()

    book.value("hidden.show(curves(6, title='drawn when seen'))")
    book.wait_for_value("hidden.picture is not None", bool)  # a hidden view is not drawn, but leaves a picture
    assert book.output(2).locator(PAINTED).count() == 0
    book.click("B")
    book.output(2).locator(PAINTED).nth(7).wait_for()
    assert book.output(2).locator(".gtitle").text_content() == "drawn when seen"
    book.screenshot("figure_tab")

    book.restart_kernel()  # the plot stays as it is and still follows the theme
    book.theme(DARK)
    book.wait_until(
        f"getComputedStyle(document.querySelector('{PLOT} .main-svg')).backgroundColor === 'rgb(17, 17, 17)'"
    )
    book.run(0)
    book.run(1)
    book.wait_until(f"document.querySelector('{PLOT}').layout?.title.text === 'Losses of eight tasks'")
