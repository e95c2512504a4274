"""What a lab is: controls that say what is wanted, and one thread that computes and draws it, the newest wish first."""

from __future__ import annotations

import statistics
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

import ipywidgets

from mtlviz.errors import MtlvizError
from mtlviz.widgets.display import KeptDisplay
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.picture import composed
from mtlviz.widgets.progress import failure
from mtlviz.widgets.publisher import Publisher

RECENT = 20  # moves over which a median is told
PATIENCE = 2.0  # seconds in which the browser may tell how long a move took


class Wished(Protocol):
    """What the user wants to see; each change of a control makes another."""

    @property
    def ticket(self) -> int | None:
        """Of the move of a handle that it answers, or None."""


W = TypeVar("W", bound=Wished)


class Lab(ipywidgets.VBox, Generic[W]):
    """Controls, figures, and the thread between them.

    A click or a drag only sets what is wanted; one thread computes and draws, the newest wish first. The thread ends
    when nothing is left to do, and with `close()`. A lab says how a wish is drawn (`_draw`) and, where some of it can
    wait until the mouse rests, `_finish`; it calls `_begin` when everything that they write is there.

    above, below: what stands above and below the place where an error is shown. views: the figures whose pictures a
    saved notebook keeps, and, the first of `followed` of them, on which a drag waits.
    """

    NAME: ClassVar[str]
    ERROR: ClassVar[type[MtlvizError]]

    _publisher: Publisher | None = None
    _wish: W | None = None

    def __init__(
        self,
        above: Sequence[ipywidgets.Widget],
        below: Sequence[ipywidgets.Widget],
        *,
        views: Sequence[FigureView],
        followed: int,
    ) -> None:
        self._error: Exception | None = None
        self._rest = threading.Condition()
        self._closed = False
        self._drawn: W | None = None  # whose figures are drawn, as far as a drag waits on them
        self._drawn_at = 0.0
        self._views, self._followed = tuple(views), tuple(views[:followed])
        self._pictures_changed = False
        self.trouble = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        super().__init__([*above, self.trouble, *below])
        self._kept = KeptDisplay(self, self.NAME)
        for view in self._views:
            view.on_picture(self._took_picture)

    @property
    def pictures(self) -> list[bytes]:
        """The newest pictures (PNG) that a browser has sent of the figures."""
        return [view.picture for view in self._views if view.picture is not None]

    @property
    def waits(self) -> list[float]:
        """Milliseconds from each event of the mouse until the figures that follow it had drawn its answer."""
        first, *others = ({wait.ticket: wait.since_event_ms for wait in view.waits} for view in self._followed)
        known = [ticket for ticket in first if all(ticket in other for other in others)]
        return [max(times[ticket] for times in (first, *others)) for ticket in known]

    def wait(self, timeout: float = 120.0) -> None:
        """Waits until what is wanted now is computed and drawn.

        Raises: what the computation raised; `ERROR` after `timeout` seconds.
        """
        with self._rest:
            if not self._rest.wait_for(lambda: self._closed or self._drawn is self._wish, timeout):
                raise self.ERROR(f"the lab did not come to rest within {timeout:g} s")
            if self._error is not None:
                raise self._error

    def settle(self) -> None:
        """Asks for pictures, as at the end of a run."""
        for view in self._views:
            view.settle()

    def close(self) -> None:
        """Ends the thread, every view and every control."""
        if self._publisher is not None:
            self._closed = True
            self._publisher.close()
            with self._rest:
                self._rest.notify_all()
            for part in _parts(self):
                part.close()
        super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _begin(self, wish: W, thread: str) -> None:
        """Draws the first wish on the caller's thread."""
        self._wish = wish
        self._publisher = Publisher(self._refresh, self._show_trouble, name=thread)

    def _want(self, wish: W) -> None:
        """Something else is wanted; from any thread."""
        self._wish = wish
        if self._publisher is not None:
            self._publisher.wake()

    def _draw(self, wish: W) -> bool:
        """Computes and draws what a drag waits on; False if the wish was given up for a newer one."""
        raise NotImplementedError

    def _finish(self, wish: W, fresh: bool) -> bool:
        """Draws the rest of a wish, `fresh` or drawn before; False while that can wait for the mouse to rest."""
        return True

    def _question(self) -> str:
        """What the kept picture is called beside the lab's name."""
        return ""

    def _refresh(self) -> bool:
        """Draws the newest wish; True while something is left that can wait a moment."""
        wish = self._wish
        assert wish is not None, "the thread begins with a wish"
        fresh = wish is not self._drawn
        try:
            if fresh and not self._draw(wish):
                return False  # a newer wish has woken the thread
            if fresh:
                self._error = None
                self.trouble.value, self.trouble.layout.display = "", "none"
                self._note_drawn(wish)
            now = time.monotonic()
            if not self._finish(wish, fresh):
                return True
            self._keep_picture()
        except Exception as error:  # noqa: BLE001 - the border of the thread: whatever goes wrong is shown in the lab
            self._error = error
            self._show_trouble(traceback.format_exc(), error)
            self._note_drawn(wish)
            return False
        return wish.ticket is not None and now - self._drawn_at < PATIENCE and not self._waited(wish.ticket)

    def _waited(self, ticket: int) -> bool:
        """Whether the browser has told how long this move took in all figures that follow it."""
        return all(view.waits and view.waits[-1].ticket >= ticket for view in self._followed)

    def _note_drawn(self, wish: W) -> None:
        with self._rest:
            self._drawn, self._drawn_at = wish, time.monotonic()
            self._rest.notify_all()

    def _took_picture(self, _: bytes) -> None:
        self._pictures_changed = True
        if self._publisher is not None:
            self._publisher.wake()

    def _keep_picture(self) -> None:
        """What a saved notebook shows: the figures below the question."""
        if self._pictures_changed:
            self._pictures_changed = False
            question = self._question()
            self._kept.keep(composed(f"{self.NAME} · {question}" if question else self.NAME, self.pictures))

    def _show_trouble(self, raised: str, error: Exception | None = None) -> None:
        known = isinstance(error, MtlvizError)
        what = str(error) if known else f"{type(error).__name__}: {error}"
        self.trouble.value = failure("The lab could not show this", what, "" if known else raised)
        self.trouble.layout.display = None


def follows(waits: Sequence[float]) -> str:
    """How long the picture took to follow the mouse, one move or more, in words."""
    recent = waits[-RECENT:]
    return f"the picture follows the mouse after {milliseconds(statistics.median(recent))} (median of {len(recent)})"


def milliseconds(value: float) -> str:
    """So many milliseconds, or the seconds that many of them are, in words."""
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.0f} s"


def _parts(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Everything inside a widget, and its looks, which ipywidgets holds until each is closed."""
    for child in getattr(widget, "children", ()):
        yield from _parts(child)
        yield child
    for name in ("layout", "style"):
        look = getattr(widget, name, None)
        if isinstance(look, ipywidgets.Widget):
            yield look
