"""FigureView: a plotly figure that stays live in the notebook, follows its page, and leaves a picture when saved."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from plotly.basedatatypes import BaseFigure

from mtlviz.widgets import handles, library, wire
from mtlviz.widgets.display import KeptDisplay, caption

PATIENCE = 0.25  # seconds without an answer from the browser after which the newest figure is sent all the same

_HERE = Path(__file__).parent
_PARTS = ("library", "looks", "handles", "view")


class FigureView(anywidget.AnyWidget):
    """A figure in the notebook that `show` replaces while it is looked at.

    It follows the width of its cell and JupyterLab's theme (the figure's own colours win), keeps the user's zoom over
    refreshes, loads plotly.js once a page and never from a network, and keeps a picture of itself in the notebook.

    A figure may have handles that the user drags: `layout.meta["handles"] = {"points": [[x, y], ...], "labels": ["1",
    ...]}`, numbers on its first x and y axes, which are linear or logarithmic, and with "noun" what a screen reader
    calls them ("start" if not given). `on_moved` says where they were dragged to.

    Args:
        figure: the first figure; None shows an empty place until `show`.
        height: height in pixels; None takes the figure's `layout.height`, or 400.
    """

    _esm = "\n".join((_HERE / f"figure_{part}.js").read_text(encoding="utf-8") for part in _PARTS)
    _css = _HERE / "figure_view.css"
    _plotly = traitlets.Unicode(library.VERSION).tag(sync=True)
    _height = traitlets.Int(allow_none=True).tag(sync=True)
    # False while a first page hears of the view, True for any page opened later, which has to ask for what it missed.
    _pushed = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, figure: BaseFigure | None = None, *, height: int | None = None) -> None:
        self._lock = threading.RLock()
        self._tickets = itertools.count(1)
        self._newest_ticket = 0
        self._newest: wire.Tree | None = None  # what the browser should show
        self._sent: wire.Tree | None = None  # what it shows once it has taken every message
        self._revision = 0
        self._unanswered: float | None = None  # when the message in flight was sent
        self._timer: threading.Timer | None = None
        self._picture: bytes | None = None
        self._picture_callbacks: list[Callable[[bytes], None]] = []
        self._moves = handles.Moves()
        super().__init__(_height=height)
        self._kept = KeptDisplay(self, "A figure of mtlviz")
        self.on_msg(self._take)
        if library.first("view"):
            self._push_library()
        self._pushed = True
        if figure is not None:
            self.show(figure)

    @property
    def picture(self) -> bytes | None:
        """The newest picture (PNG) that a browser has sent, or None; taken at rest, on `settle`, and every 15 s."""
        return self._picture

    def on_picture(self, callback: Callable[[bytes], None]) -> None:
        """Calls `callback(png)` with each new picture, on the thread on which the browser's messages arrive."""
        self._picture_callbacks.append(callback)

    @property
    def waits(self) -> list[handles.Wait]:
        """How long the user waited for each figure drawn here that answers a move; oldest first, the last thousand."""
        return list(self._moves.waits)

    def on_moved(self, callback: handles.OnMoved) -> None:
        """Calls `callback(handle, x, y, ticket)` when the user moves a handle, on the thread of the browser's messages.

        `handle` counts from 0, `x` and `y` lie in the axes' range as it is shown. Answer by showing a figure whose
        `layout.meta["answers"]` is the ticket, in this view or another: while a move is unanswered, for up to 1 s,
        the next one waits in the browser, and only the newest of those that wait is sent.
        """
        self._moves.callbacks.append(callback)

    def show(self, figure: BaseFigure) -> None:
        """Shows another figure, or the same one with new data; from any thread, and without waiting for the browser.

        Only what differs from the figure shown travels. While the browser is busy, figures in between are skipped; the
        last one always arrives.
        """
        ticket = next(self._tickets)
        newest = wire.tree(figure)
        with self._lock:
            if ticket > self._newest_ticket:
                self._newest_ticket, self._newest = ticket, newest
                self._kept.caption = caption(figure)
                self._advance()

    def settle(self) -> None:
        """Sends what is still waiting and asks the browser for a picture now, as at the end of a run; does not wait."""
        with self._lock:
            if self.comm is None:
                return
            self._unanswered = None
            self._advance()
            self.send({"kind": "picture"})

    def close(self) -> None:
        """Ends the view: it leaves the page, and later figures are ignored."""
        with self._lock:
            self._stop_timer()
            self._newest = None
            super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _advance(self) -> None:
        """Sends the newest figure, or arranges that it is sent; the caller holds the lock."""
        if self.comm is None or self._newest is None or self._newest is self._sent:
            return
        if self._unanswered is not None:
            wait = self._unanswered + PATIENCE - time.monotonic()
            if wait > 0:
                self._start_timer(wait)
                return
        self._stop_timer()
        found = None if self._sent is None else wire.changes(self._sent, self._newest)
        self._sent = self._newest
        if found is None:
            self._send_figure()
        elif found:
            packed, buffer = wire.pack_changes(found)
            self._send_revision({"kind": "patch", "changes": packed}, buffer)

    def _send_figure(self) -> None:
        packed, buffer = wire.pack(self._sent)
        self._send_revision({"kind": "figure", "figure": packed}, buffer)

    def _send_revision(self, content: dict[str, Any], buffer: bytes) -> None:
        self._revision += 1
        self._unanswered = time.monotonic()
        self.send({**content, "revision": self._revision}, [buffer])

    def _push_library(self) -> None:
        self.send({"kind": "library", "version": library.VERSION}, [library.gzipped()])

    def _start_timer(self, wait: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(wait, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():  # stopped or replaced while it waited for the lock
                return
            self._timer = None
            self._unanswered = None
            self._advance()

    def _take(self, _widget: anywidget.AnyWidget, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """What a browser says: it has drawn a revision, it needs something, a handle moved, or it sends a picture."""
        kind = content.get("kind")
        if kind in handles.KINDS:
            self._moves.take(content)
            return
        if kind == "picture":
            self._picture = bytes(buffers[0])
            self._kept.keep(self._picture)
            for callback in tuple(self._picture_callbacks):
                callback(self._picture)
            return
        with self._lock:
            if self.comm is None:
                return
            if kind == "need" and content.get("what") == "library":
                self._push_library()
            elif kind == "need" and self._sent is not None:
                self._sent = self._newest
                self._send_figure()
            elif kind == "drawn" and content.get("revision") == self._revision:
                self._unanswered = None
                self._advance()


def view(figure: BaseFigure, *, height: int | None = None) -> FigureView:
    """The figure as a live view in the notebook; `show` it another figure to refresh it."""
    return FigureView(figure, height=height)
