"""How far a run is and how fast it goes, in words."""

from __future__ import annotations

import html
import time
from collections import deque
from dataclasses import dataclass

RECENT = 5.0  # seconds over which the speed is taken
ENDED = frozenset({"finished", "stopped", "failed", "interrupted"})


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run; `planned`, `speed` (steps a second), `left` and `took` (seconds) are None where unknown.

    `converged` says how many of how many tasks have: then the run ends with the last of them, and `planned` is a cap.
    """

    state: str
    step: int
    planned: int | None
    speed: float | None
    left: float | None = None
    took: float | None = None  # once it has ended, pauses included
    converged: tuple[int, int] | None = None  # for a run that waits for convergence

    @property
    def share(self) -> float | None:
        """How much of the run is done, 0 to 1: of its tasks where it waits for them, else of its steps."""
        done, of = self.converged or (self.step, self.planned or 0)
        return min(done / of, 1.0) if of else None

    def text(self) -> str:
        """The status line, as plain text."""
        of = f" of {'at most ' if self.converged else ''}{self.planned:,}" if self.planned else ""
        parts = [self.state, f"step {self.step:,}{of}"]
        if self.converged is not None:
            parts.append("{} of {} tasks converged".format(*self.converged))
        if self.speed is not None:
            parts.append(f"{self.speed:,.0f} steps/s" if self.speed >= 10 else f"{self.speed:.2g} steps/s")
        if self.left is not None:
            parts.append(f"{duration(self.left)} left")
        if self.took is not None:
            parts.append(f"in {duration(self.took)}")
        return " · ".join(parts)


class Speedometer:
    """Turns what a run says of itself at each tick into a `Progress`; its speed leaves pauses out."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def reading(
        self,
        state: str,
        step: int,
        seconds: float,
        planned: int | None,
        converged: tuple[int, int] | None = None,
    ) -> Progress:
        """The progress at this moment; `seconds` is the run's own clock at its last recorded step."""
        if state in ENDED:
            return Progress(state, step, planned, None, took=seconds, converged=converged)
        if state != "running":
            self._seen.clear()
            return Progress(state, step, planned, None, converged=converged)
        now = time.monotonic()
        self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[0][0] > RECENT:
            self._seen.popleft()
        since, before = self._seen[0]
        speed = (step - before) / (now - since) if now - since > 0.2 and step > before else None
        left = (planned - step) / speed if planned and speed and converged is None else None
        return Progress(state, step, planned, speed, left, converged=converged)


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 2 min 05 s, 3 h 20 min."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def failure(kind: str, message: str, traceback: str) -> str:
    """What ended a failed run, as HTML: the message, and the traceback, where there is one, to unfold."""
    unfolds = f"<details><summary>traceback</summary><pre>{html.escape(traceback)}</pre></details>" if traceback else ""
    return f'<div class="mtlviz-failure"><b>{html.escape(kind)}</b>: {html.escape(message)}{unfolds}</div>'
