import threading
import time

import numpy as np
import plotly.graph_objects as go
import pytest
from decoder import applied, same, unpacked

from mtlviz.widgets import FigureView, figure_view, library, wire


class Browser:
    """Stands at the far end of the comm: keeps what arrives, as figure_view.js does, and answers only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[dict] = []
        self.figure = None
        self.revision = 0
        self.gaps = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(FigureView, "send", lambda _view, content, buffers=None: self.take(content, buffers))

    def take(self, content, buffers):
        with self._lock:
            self.messages.append(content)
            if content["kind"] == "figure":
                self.figure = unpacked(content["figure"], buffers[0])
            elif content["kind"] == "patch":
                self.gaps += content["revision"] != self.revision + 1
                self.figure = applied(self.figure, content["changes"], buffers[0])
            self.revision = content.get("revision", self.revision)

    def kinds(self):
        return [message["kind"] for message in self.messages if message["kind"] != "library"]

    def answer(self, view, **content):
        view._take(view, content, [])

    def drawn(self, view):
        self.answer(view, kind="drawn", revision=self.revision)


@pytest.fixture
def browser(monkeypatch):
    monkeypatch.setattr(figure_view, "PATIENCE", 60.0)  # so that only answers free the way, however slow the machine
    return Browser(monkeypatch)


def curve(value, n=50, traces=2):
    return go.Figure([go.Scatter(x=np.arange(n), y=np.full(n, float(value))) for _ in range(traces)])


def until(condition, timeout=5.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_first_the_whole_figure_then_patches(browser):
    view = FigureView(curve(0))
    browser.drawn(view)
    view.show(curve(1))
    browser.drawn(view)
    view.show(curve(1, traces=3))
    assert browser.kinds() == ["figure", "patch", "figure"]
    assert same(browser.figure, wire.tree(curve(1, traces=3)))


def test_an_equal_figure_sends_nothing(browser):
    view = FigureView(curve(0))
    browser.drawn(view)
    view.show(curve(0))
    assert browser.kinds() == ["figure"]


def test_one_message_in_flight_and_figures_in_between_are_skipped(browser):
    view = FigureView(curve(0))
    for value in range(1, 50):
        view.show(curve(value))
    assert browser.kinds() == ["figure"]
    browser.drawn(view)
    assert browser.kinds() == ["figure", "patch"]
    assert same(browser.figure, wire.tree(curve(49)))
    view.close()


def test_the_tail_arrives_without_an_answer(browser, monkeypatch):
    monkeypatch.setattr(figure_view, "PATIENCE", 0.25)
    view = FigureView(curve(0))
    view.show(curve(1))
    view.show(curve(2))
    assert browser.revision == 1
    until(lambda: browser.revision == 2)
    assert same(browser.figure, wire.tree(curve(2)))


def test_a_timer_that_came_too_late_sends_nothing(browser, monkeypatch):
    """It fires while another thread holds the lock, sends what it was for, and starts a timer for the next figure."""
    monkeypatch.setattr(figure_view, "PATIENCE", 0.1)
    view = FigureView(curve(0))
    view.show(curve(1))
    with view._lock:
        late = view._timer
        time.sleep(0.3)
        monkeypatch.setattr(figure_view, "PATIENCE", 60.0)
        browser.drawn(view)
        view.show(curve(2))
        newer = view._timer
        assert newer is not late
    late.join(5)
    assert browser.revision == 2
    assert view._timer is newer
    assert view._unanswered is not None
    view.close()


def test_an_old_answer_does_not_free_the_way(browser):
    view = FigureView(curve(0))
    browser.drawn(view)
    view.show(curve(1))
    browser.answer(view, kind="drawn", revision=1)
    view.show(curve(2))
    assert browser.revision == 2
    view.close()


def test_a_browser_that_missed_something_gets_the_newest_figure_whole(browser):
    view = FigureView(curve(0))
    view.show(curve(1))
    browser.figure = None
    browser.answer(view, kind="need", what="figure")
    assert browser.kinds() == ["figure", "figure"]
    assert same(browser.figure, wire.tree(curve(1)))
    view.close()


def test_many_threads_never_leave_a_gap_and_the_last_figure_wins(browser, monkeypatch):
    monkeypatch.setattr(figure_view, "PATIENCE", 0.01)  # many timers fire too
    view = FigureView(curve(0))
    stop = threading.Event()

    def acknowledge():
        while not stop.is_set():
            browser.drawn(view)
            time.sleep(0.001)

    def show(seed):
        for value in range(30):
            view.show(curve(seed * 100 + value, n=20 + value % 3))

    threads = [threading.Thread(target=show, args=(seed,)) for seed in range(8)]
    answering = threading.Thread(target=acknowledge)
    for thread in [answering, *threads]:
        thread.start()
    for thread in threads:
        thread.join(30)
    view.show(curve(-1))
    until(lambda: same(browser.figure, wire.tree(curve(-1))))
    stop.set()
    answering.join(5)
    assert browser.gaps == 0
    revisions = [message["revision"] for message in browser.messages if "revision" in message]
    assert revisions == list(range(1, len(revisions) + 1))


def test_show_never_waits_for_the_browser(browser):
    view = FigureView(curve(0))
    figure = curve(1)
    start = time.monotonic()
    for _ in range(100):
        view.show(figure)
    assert time.monotonic() - start < 0.02 * 100
    view.close()


def test_a_picture_is_kept_and_told(browser):
    view, told = FigureView(curve(0)), []
    view.on_picture(told.append)
    assert view.picture is None
    view._take(view, {"kind": "picture"}, [memoryview(b"\x89PNG...")])
    assert view.picture == b"\x89PNG..."
    assert told == [b"\x89PNG..."]


def test_settle_sends_what_waits_and_asks_for_a_picture(browser):
    view = FigureView(curve(0))
    view.show(curve(1))
    view.settle()
    assert browser.kinds() == ["figure", "patch", "picture"]
    assert same(browser.figure, wire.tree(curve(1)))
    view.close()


def test_a_closed_view_sends_nothing_more(browser, monkeypatch):
    monkeypatch.setattr(figure_view, "PATIENCE", 0.05)
    view = FigureView(curve(0))
    view.show(curve(1))
    view.close()
    view.show(curve(2))
    view.settle()
    time.sleep(0.2)
    assert browser.kinds() == ["figure"]


def test_the_library_is_pushed_once_and_sent_on_request(browser, monkeypatch):
    monkeypatch.setattr(library, "_brought", set())
    views = [FigureView(curve(0)) for _ in range(3)]
    assert [message["kind"] for message in browser.messages].count("library") == 1
    browser.answer(views[2], kind="need", what="library")
    assert [message["kind"] for message in browser.messages].count("library") == 2


def test_the_library_is_the_installed_plotly_js():
    import gzip

    from plotly.offline import get_plotlyjs

    assert gzip.decompress(library.gzipped()).decode() == get_plotlyjs()
    assert len(library.gzipped()) < 1_700_000


def test_the_first_of_each_kind_brings_the_library(monkeypatch):
    monkeypatch.setattr(library, "_brought", set())
    assert [library.first(kind) for kind in ("view", "static", "view", "static")] == [True, True, False, False]
