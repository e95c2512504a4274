"""The kernel's side of handles that a user drags over a figure: who hears of a move, and how long its answer took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("moved", "waited")  # of messages that `Moves` takes
KEPT = 1000  # waits; older ones are forgotten

OnMoved = Callable[[int, float, float, int], object]
"""Called as `callback(handle, x, y, ticket)`."""


@dataclass(frozen=True)
class Wait:
    """How long one move of a handle took until the figure that answers it was painted, by the browser's clock.

    Attributes:
        ticket: the ticket of the move.
        since_event_ms: milliseconds since the event of the mouse, finger or key that the move stems from; a move that
            had to wait for an earlier answer counts its waiting.
        since_sent_ms: milliseconds since the move was sent to the kernel.
    """

    ticket: int
    since_event_ms: float
    since_sent_ms: float


class Moves:
    """Takes what a browser says of the handles of one view, on the thread on which its messages arrive."""

    def __init__(self) -> None:
        self.callbacks: list[OnMoved] = []
        self.waits: deque[Wait] = deque(maxlen=KEPT)

    def take(self, content: Mapping[str, Any]) -> None:
        """A handle was moved, which the callbacks hear in their order, or the figure that answers a move is painted."""
        if content["kind"] == "waited":
            self.waits.append(Wait(content["ticket"], content["since_event"], content["since_sent"]))
            return
        for callback in tuple(self.callbacks):
            callback(content["handle"], float(content["x"]), float(content["y"]), content["ticket"])
