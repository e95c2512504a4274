"""The one thread that writes a dashboard's widgets."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable

TICK = 0.25  # seconds between the beginnings of two refreshes while a run is live
SHARE = 4.0  # a refresh that took t seconds is followed by at least (SHARE − 1) t of rest, so that training goes on
RETRY = 2.0  # seconds of rest after a refresh that failed


class Publisher:
    """Calls `refresh` at most 4 times a second while it answers True, else when woken; never two calls at once.

    The thread lives while there is something to wait for: it ends when `refresh` answers False, and `wake` starts
    another. The first call is made here, on the caller's thread: what drawing imports is then loaded, since two threads
    that import at once can block each other.

    refresh: draws what is new and says whether the run goes on. failed: is told the traceback if `refresh` raises; it
    is tried again after 2 seconds, or when woken. name: of the thread.
    """

    def __init__(
        self, refresh: Callable[[], bool], failed: Callable[[str], None], *, name: str = "mtlviz dashboard"
    ) -> None:
        self._refresh, self._failed, self._name = refresh, failed, name
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        rest = self._tick()
        if rest is not None:
            with self._lock:
                self._start(rest)

    def wake(self) -> None:
        """Asks for a refresh now; from any thread, returns at once."""
        with self._lock:
            self._woken.set()
            if self._thread is None and not self._closed:
                self._start(0.0)

    def close(self, timeout: float = 5.0) -> None:
        """Ends the thread after the refresh that it is at; `wake` does nothing from now on."""
        with self._lock:
            self._closed = True
            self._woken.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    @property
    def publishing(self) -> bool:
        """Whether the caller is the publisher's own thread: what changes then was not the user's doing."""
        return threading.current_thread() is self._thread

    def _start(self, rest: float) -> None:
        """Begins a thread; the caller holds the lock."""
        self._thread = threading.Thread(target=self._publish, args=(rest,), name=self._name, daemon=True)
        self._thread.start()

    def _publish(self, rest: float | None) -> None:
        while not self._over(rest):
            self._woken.wait(rest)
            self._woken.clear()
            if not self._closed:
                rest = self._tick()

    def _over(self, rest: float | None) -> bool:
        """Whether nothing is left to do; `wake` then knows that it needs another thread."""
        with self._lock:
            over = self._closed or (rest is None and not self._woken.is_set())
            if over:
                self._thread = None
            return over

    def _tick(self) -> float | None:
        """Refreshes and returns the seconds to rest; None until woken."""
        began = time.monotonic()
        try:
            live = self._refresh()
        except Exception:  # noqa: BLE001 - the border of the thread: a view that cannot be drawn says so in its place
            with contextlib.suppress(Exception):  # where even that cannot be said, the next refresh may still succeed
                self._failed(traceback.format_exc())
            return RETRY
        took = time.monotonic() - began
        return max(TICK - took, (SHARE - 1) * took) if live else None
