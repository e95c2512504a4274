"""How a run stands, as its log tells it: its title, how far it is, and what ended it if it failed."""

from __future__ import annotations

from typing import Any

from mtlviz.analysis.validation import waiting_schedule
from mtlviz.runlog.log import RunLog
from mtlviz.widgets.progress import Progress, Speedometer


def title(log: RunLog) -> str:
    """The problem, and how its tasks are weighted."""
    return " · ".join(str(part) for part in (log.info.problem, log.info.config.get("weighting")) if part)


def progress(log: RunLog, speedometer: Speedometer, *, state: str | None = None) -> Progress:
    """How far the run is; `state` is what the run itself says, where it trains in this process."""
    planned = log.info.config.get("steps")
    planned = planned if isinstance(planned, int) else None
    state = state or log.state
    return speedometer.reading(state, _reached(log, state), log.time, planned, _converged(log))


def failure(log: RunLog) -> dict[str, Any] | None:
    """Type, message and, where it is known, traceback of the error that ended the run, as far as the log tells."""
    events = log.events
    noted = events[events.kind == "error"].detail
    return noted.iloc[-1] if len(noted) else None


def nonfinite(log: RunLog) -> dict[str, Any] | None:
    """Type and message of the loss or gradient that ended the run by not being finite."""
    events = log.events
    broken = events[events.kind == "nonfinite"]
    if not len(broken):
        return None
    said = broken.detail.iloc[-1].get("message") or f"a loss or gradient of {broken.task.iloc[-1]} is not finite"
    return {"type": "NonFiniteError", "message": said}


def _reached(log: RunLog, state: str) -> int:
    """The last step: of a run that has ended it need not be a recorded one."""
    if state not in ("finished", "stopped"):
        return log.last_step
    events = log.events
    ends = events.step[events.kind.isin(["finish", "stop"])]
    return max(log.last_step, int(ends.iloc[-1]) if len(ends) else 0)


def _converged(log: RunLog) -> tuple[int, int] | None:
    """How many of how many tasks have converged, in a run that waits for that."""
    if waiting_schedule(log) is None:
        return None
    events = log.events
    return events.task[events.kind == "convergence"].nunique(), len(log.tasks)
