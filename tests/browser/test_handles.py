"""Handles that are dragged over a FigureView in a real JupyterLab: mouse, finger, keys, zoom, looks, waiting."""

import statistics

import numpy as np
import pytest
from notebook_page import DARK, LIGHT, Notebook

pytestmark = pytest.mark.browser

SETUP = """
import threading
import numpy as np
import plotly.graph_objects as go
from mtlviz.widgets import FigureView, handles, wire

places = [[3.0, 4.0], [-6.0, -2.0]]
asked, answered, in_flight = [], [], []
lateness = 0.0  # seconds; None never answers

def spiral(x, y):
    "Gradient descent on a turned bowl from (x, y), step by step."
    step = np.array([[0.97, -0.09], [0.09, 0.97]])
    points = [np.array([x, y])]
    for _ in range(400):
        points.append(step @ points[-1])
    return np.array(points)

def plane(answers=None, **layout):
    meta = {"handles": {"points": [list(place) for place in places], "labels": ["1", "2"]}}
    if answers is not None:
        meta["answers"] = answers
    axis = {"range": [-10, 10]}
    figure = go.Figure(layout={
        "title": {"text": "Two spirals"}, "showlegend": False, "meta": meta,
        "xaxis": {"title": "x<sub>1</sub>", **axis}, "yaxis": {"title": "x<sub>2</sub>", **axis}, **layout})
    for place in places:
        points = spiral(*place)
        figure.add_scatter(x=points[:, 0], y=points[:, 1], mode="lines")
    return figure

def distances(answers=None):
    figure = go.Figure(layout={"title": {"text": "Distance to the middle"}, "meta": {"answers": answers}})
    for place in places:
        figure.add_scatter(y=np.hypot(*spiral(*place).T), mode="lines")
    return figure

def answer(ticket, first, second):
    places[:] = first, second
    answered.append(ticket)
    view.show(plane(ticket))
    other.show(distances(ticket))

def moved(handle, x, y, ticket):
    asked.append([handle, x, y, ticket])
    in_flight.append(len(asked) - len(answered))
    new = [[x, y] if number == handle else list(place) for number, place in enumerate(places)]
    if lateness:
        threading.Timer(lateness, answer, [ticket, *new]).start()
    elif lateness is not None:
        answer(ticket, *new)
"""
VIEW = """
view, other = FigureView(plane(), height=420), FigureView(distances(), height=300)
view.on_moved(moved)
logged = []
log = FigureView(go.Figure(go.Scatter(x=[0, 10], y=[1, 1e4]), layout={
    "xaxis": {"range": [10, 0]}, "yaxis": {"type": "log", "range": [0, 4]},
    "meta": {"handles": {"points": [[5, 100.0]], "noun": "threshold"}}}), height=300)
log.on_moved(lambda *move: logged.append(move))
display(view, other, log)
"""
PLOT = ".js-plotly-plot"
HANDLE = ".mtlviz-handle"
WATCH = f"""
() => {{ // how far the grabbed handle is from the mouse, frame by frame, and which places the figure had meanwhile
    window.watch = {{ far: 0, figures: new Set(), frames: 0, on: true }};
    addEventListener("pointermove", (event) => Object.assign(watch, {{ x: event.clientX, y: event.clientY }}), true);
    const look = () => {{
        const box = document.querySelector("{HANDLE}").getBoundingClientRect();
        if (watch.x !== undefined) {{
            const [across, down] = [box.x + box.width / 2 - watch.x, box.y + box.height / 2 - watch.y];
            watch.far = Math.max(watch.far, Math.hypot(across, down));
            watch.figures.add(JSON.stringify(document.querySelector("{PLOT}").layout.meta.handles.points[0]));
            watch.frames += 1;
        }}
        if (watch.on) requestAnimationFrame(look);
    }};
    look();
}}
"""


def middle(book: Notebook, handle: int = 0) -> tuple[float, float]:
    """The middle of a handle, in pixels of the page."""
    box = book.page.locator(HANDLE).nth(handle).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def plot_area(book: Notebook, plot: int = 0) -> dict[str, float]:
    return book.page.locator(PLOT).nth(plot).locator(".nsewdrag").first.bounding_box()


def drag(book: Notebook, start: tuple[float, float], end: tuple[float, float], *, steps: int = 8) -> None:
    book.page.mouse.move(*start)
    book.page.mouse.down()
    book.page.mouse.move(*end, steps=steps)
    book.page.mouse.up()


def at(area: dict[str, float], pixel: tuple[float, float], x_range: list[float], y_range: list[float]) -> list[float]:
    """Data coordinates of a pixel of the page, by the ranges of the axes alone."""
    across, up = (pixel[0] - area["x"]) / area["width"], 1 - (pixel[1] - area["y"]) / area["height"]
    return [x_range[0] + across * (x_range[1] - x_range[0]), y_range[0] + up * (y_range[1] - y_range[0])]


def settled(book: Notebook) -> list:
    """The last move that the kernel was asked about, once the figure that answers it is drawn."""
    book.wait_until(f"mtlvizPage.moves.ticket === document.querySelector('{PLOT}').layout.meta.answers")
    return book.value("asked[-1]")


def test_handles_are_dragged_and_the_figure_follows(notebook):
    book = notebook([SETUP, VIEW])
    book.run(0)
    book.run(1)
    book.wait_for(HANDLE, count=3)
    book.page.locator(PLOT).first.evaluate("node => node.scrollIntoView()")
    book.pause(0.5)
    book.screenshot("handles_light")

    _a_drag_is_followed(book)
    _late_answers_do_not_pull_the_handle_back(book)
    _without_an_answer_the_last_place_still_arrives(book)
    _zoom_pan_and_edges(book)
    _arrow_keys_and_a_finger_move_it(book)
    _only_what_differs_travels_and_waits_are_bounded(book)
    _other_axes(book)
    _it_is_seen_in_the_dark_and_in_a_narrow_cell(book)


def _a_drag_is_followed(book):
    area, start = plot_area(book), middle(book)
    np.testing.assert_allclose(at(area, start, [-10, 10], [-10, 10]), [3, 4], atol=0.05)
    end = (start[0] - 300, start[1] + 100)
    drag(book, start, end, steps=40)
    handle, *place, _ = settled(book)
    assert handle == 0
    np.testing.assert_allclose(place, at(area, end, [-10, 10], [-10, 10]), atol=0.05)
    np.testing.assert_allclose(middle(book), end, atol=1)
    curve = book.page.evaluate(f"(plot => [plot.data[0].x[20], plot.data[0].y[20]])(document.querySelector('{PLOT}'))")
    np.testing.assert_allclose(curve, book.value("spiral(*asked[-1][1:3])[20].tolist()"), atol=1e-4)
    assert book.value("len(asked)") > 3
    assert book.value("set(in_flight) == {1}")

    book.wait_for_value("other.waits[-1].ticket == view.waits[-1].ticket == asked[-1][3]", bool)
    for view in ("view", "other"):
        waits = book.value(f"[[wait.ticket, wait.since_event_ms, wait.since_sent_ms] for wait in {view}.waits]")
        assert {wait[0] for wait in waits} <= {move[3] for move in book.value("asked")}
        assert all(since_event >= since_sent > 0 for _, since_event, since_sent in waits)
        medians = [round(statistics.median(column)) for column in list(zip(*waits, strict=True))[1:]]
        print({view: len(waits), "median ms since the event": medians[0], "since it was sent": medians[1]})
    assert book.page.locator(f"{PLOT} {HANDLE}").count() == 0  # outside of what is downloaded and photographed


def _late_answers_do_not_pull_the_handle_back(book):
    book.value("None", setup="lateness = 0.2; asked.clear(); answered.clear(); in_flight.clear()")
    book.page.evaluate(WATCH)
    x, y = middle(book)
    book.page.mouse.move(x, y)
    book.page.mouse.down()
    for step in range(40):
        end = (x + 6 * step, y - 2 * step)
        book.page.mouse.move(*end)
        book.pause(0.03)
    book.page.mouse.up()  # while an answer to an older place is under way
    _, *place, _ = settled(book)
    np.testing.assert_allclose(place, at(plot_area(book), end, [-10, 10], [-10, 10]), atol=0.05)
    far, figures, frames = book.page.evaluate("(watch.on = false, [watch.far, watch.figures.size, watch.frames])")
    print({"questions": book.value("len(asked)"), "farthest px": far, "figures": figures, "frames": frames})
    assert far < 1.5
    assert figures > 3  # and so the figure had other places than the mouse
    assert book.value("set(in_flight) == {1}")
    np.testing.assert_allclose(middle(book), end, atol=1)


def _without_an_answer_the_last_place_still_arrives(book):
    book.value("None", setup="lateness = None; asked.clear(); answered.clear()")
    start = middle(book)
    drag(book, start, (start[0] - 90, start[1] + 60), steps=5)
    last = at(plot_area(book), (start[0] - 90, start[1] + 60), [-10, 10], [-10, 10])
    book.wait_for_value("len(asked)", lambda count: count == 2)  # the first at once, then only the newest
    np.testing.assert_allclose(book.value("asked[-1][1:3]"), last, atol=0.05)
    book.wait_until(f"Math.abs(document.querySelector('{HANDLE}').getBoundingClientRect().x + 10 - {start[0]}) < 1")
    book.value("None", setup="lateness = 0.0; asked.clear(); answered.clear(); in_flight.clear()")


def _zoom_pan_and_edges(book):
    ranges = f"(({{xaxis, yaxis}}) => [xaxis.range, yaxis.range])(document.querySelector('{PLOT}').layout)"
    area, start = plot_area(book), middle(book)
    drag(book, (start[0] - 150, start[1] - 70), (start[0] + 100, start[1] + 80))  # beside the handle: plotly's own zoom
    book.wait_until(f"document.querySelector('{PLOT}').layout.xaxis.range[0] > -9")
    book.output(1).locator(HANDLE).nth(1).wait_for(state="hidden")  # outside of the axes now
    zoomed = book.page.evaluate(ranges)
    start = middle(book)
    end = (start[0] + 120, start[1] + 40)
    book.screenshot("handles_zoomed")
    drag(book, start, end)
    np.testing.assert_allclose(settled(book)[1:3], at(area, end, *zoomed), atol=0.02)
    np.testing.assert_allclose(middle(book), end, atol=1)
    assert book.page.evaluate(ranges) == zoomed
    drag(book, end, (area["x"] + area["width"] + 60, end[1]))
    assert settled(book)[1] == pytest.approx(zoomed[0][1], abs=1e-6)

    book.value("view.show(plane(asked[-1][3], dragmode='pan'))")
    book.wait_until(f"document.querySelector('{PLOT}').layout.dragmode === 'pan'")
    start = middle(book)
    book.page.mouse.move(area["x"] + 200, area["y"] + 100)
    book.page.mouse.down()
    book.page.mouse.move(area["x"] + 100, area["y"] + 130, steps=5)
    book.wait_until(
        f"Math.abs(document.querySelector('{HANDLE}').getBoundingClientRect().x + 10 - {start[0] - 100}) < 2"
    )
    book.page.mouse.up()
    book.output(1).locator("[data-title='Reset axes']").first.click()
    book.wait_until(f"String({ranges}) === '-10,10,-10,10'")
    book.output(1).locator(HANDLE).nth(1).wait_for()


def _arrow_keys_and_a_finger_move_it(book):
    handle = book.output(1).locator(HANDLE).nth(1)
    handle.focus()
    cell = book.page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex")
    keys = {"ArrowRight": (0.2, 0), "Shift+ArrowUp": (0, 1), "ArrowLeft": (-0.2, 0), "ArrowDown": (0, -0.2)}
    for key, shift in keys.items():
        before = book.value("list(places[1])")
        book.page.keyboard.press(key)
        number, *place, _ = settled(book)
        assert number == 1
        np.testing.assert_allclose(np.subtract(place, before), shift, atol=1e-9)
    assert handle.get_attribute("aria-label") == "start 2 at x1 = −6, x2 = −1.2"
    assert book.page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex") == cell

    touch, (x, y) = book.context.new_cdp_session(book.page), middle(book, 1)
    for kind, points in {"Start": [(x, y)], "Move": [(x + 80, y - 40)], "End": []}.items():
        fingers = [{"x": across, "y": down} for across, down in points]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": fingers})
    np.testing.assert_allclose(
        settled(book)[1:3], at(plot_area(book), (x + 80, y - 40), [-10, 10], [-10, 10]), atol=0.05
    )


def _only_what_differs_travels_and_waits_are_bounded(book):
    paths = "[list(change.path) for change in wire.changes(wire.tree(plane(1)), wire.tree(plane(2)))]"
    assert book.value(paths) == [["layout", "meta", "answers"]]
    many = """
moves = handles.Moves()
for ticket in range(handles.KEPT + 5):
    moves.take({"kind": "waited", "ticket": ticket, "since_event": 2.0, "since_sent": 1.0})
"""
    assert book.value("[len(moves.waits), moves.waits[0].ticket]", setup=many) == [1000, 5]


def _other_axes(book):
    book.page.locator(PLOT).nth(2).evaluate("node => node.scrollIntoView({block: 'center'})")
    book.pause(0.3)
    area, start = plot_area(book, 2), middle(book, 2)
    end = (start[0] + 100, start[1] - 40)
    drag(book, start, end, steps=2)
    expected = at(area, end, [10, 0], [0, 4])
    book.wait_for_value("logged and logged[-1][1]", lambda x: x == pytest.approx(expected[0], abs=0.05))
    assert book.value("logged[-1][2]") == pytest.approx(10 ** expected[1], rel=0.05)
    label = book.page.locator(HANDLE).nth(2).get_attribute("aria-label")
    assert label.startswith("threshold 1 at x = ")
    book.value("log.show(go.Figure())")
    book.wait_until(f"document.querySelectorAll('{HANDLE}').length === 2")


def _it_is_seen_in_the_dark_and_in_a_narrow_cell(book):
    book.page.locator(PLOT).first.evaluate("node => node.scrollIntoView()")
    style = "getComputedStyle(document.querySelector('.mtlviz-handle'))"
    looks = f"(({{backgroundColor, color}}) => [backgroundColor, color])({style})"
    light = book.page.evaluate(looks)
    book.theme(DARK)
    dark = book.page.evaluate(looks)
    brightness = [[sum(map(float, c.strip("rgba()").split(",")[:3])) / 3 for c in pair] for pair in (light, dark)]
    assert brightness[0][0] > 200 > 100 > brightness[0][1]
    assert brightness[1][0] < 60 < 200 < brightness[1][1]
    book.screenshot("handles_dark")
    book.resize(520, 900)
    book.page.locator(PLOT).first.evaluate("node => node.scrollIntoView()")
    book.pause(0.5)
    area, places = plot_area(book), book.value("places")
    for number, place in enumerate(places):
        np.testing.assert_allclose(at(area, middle(book, number), [-10, 10], [-10, 10]), place, atol=0.1)
    book.screenshot("handles_dark_narrow")
    book.theme(LIGHT)
