"""The one thread that writes a dashboard's widgets."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

TICK = 0.25  # seconds between the beginnings of two refreshes while a run is live
SHARE = 3.0  # a refresh that took t seconds is followed by at least (SHARE − 1) t of rest, so that training goes on


class Publisher:
    """Calls `refresh` at most 4 times a second while it answers True, else when woken; in a thread of its own.

    The first call is made here, on the caller's thread: what drawing imports is then loaded, since two threads that
    import at once can block each other.

    refresh: draws what is new and says whether the run goes on. failed: is told the traceback if `refresh` raises; the
    thread then rests until it is woken again.
    """

    def __init__(self, refresh: Callable[[], bool], failed: Callable[[str], None]) -> None:
        self._refresh, self._failed = refresh, failed
        self._woken = threading.Event()
        self._closed = False
        self._thread = threading.Thread(
            target=self._publish, args=(self._tick(),), name="mtlviz dashboard", daemon=True
        )
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

    def _publish(self, rest: float | None) -> None:
        while not self._closed:
            self._woken.wait(rest)
            self._woken.clear()
            if not self._closed:
                rest = self._tick()

    def _tick(self) -> float | None:
        """Refreshes and returns the seconds to rest; None until woken."""
        began = time.monotonic()
        try:
            live = self._refresh()
        except Exception:  # noqa: BLE001 - the border of the thread: a view that cannot be drawn says so in its place
            self._failed(traceback.format_exc())
            return None
        took = time.monotonic() - began
        return max(TICK - took, (SHARE - 1) * took) if live else None
