"""The one thread that writes a dashboard's widgets."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

TICK = 0.25  # seconds between the beginnings of two refreshes while a run is live
SHARE = 3.0  # a refresh that took t seconds is followed by at least (SHARE − 1) t of rest, so that training goes on


class Publisher:
    """Calls `refresh` in a thread of its own: at most 4 times a second while it answers True, else when woken.

    refresh: draws what is new and says whether the run goes on. failed: is told the traceback if `refresh` raises; the
    thread then rests until it is woken again.
    """

    def __init__(self, refresh: Callable[[], bool], failed: Callable[[str], None]) -> None:
        self._refresh, self._failed = refresh, failed
        self._woken = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._publish, name="mtlviz dashboard", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Asks for a refresh now; from any thread, returns at once."""
        self._woken.set()

    def close(self, timeout: float = 5.0) -> None:
        """Ends the thread after the refresh that it is at."""
        self._closed = True
        self._woken.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    @property
    def publishing(self) -> bool:
        """Whether the caller is the publisher's own thread: what changes then was not the user's doing."""
        return threading.current_thread() is self._thread

    def _publish(self) -> None:
        while not self._closed:
            began = time.monotonic()
            try:
                live = self._refresh()
            except Exception:  # noqa: BLE001 - the border of the thread: a view that cannot be drawn says so in its place
                self._failed(traceback.format_exc())
                live = False
            took = time.monotonic() - began
            self._woken.wait(max(TICK - took, (SHARE - 1) * took) if live else None)
            self._woken.clear()
