"""The run log that a probe writes: its records, what the loop adds by hand, and how it ends."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from mtlviz.errors import ProbeError, RunLogError
from mtlviz.probe.losses import read_numbers
from mtlviz.probe.opening import Path, opened
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.log import RunLog
from mtlviz.runlog.records import Event, Measure, Record, Validation


class Journal:
    """A log that is open for writing, and the updates done in it.

    silent: of a rank that writes nothing, since rank 0 does; its log is in memory and stays empty.

    Raises: see `opened`.
    """

    def __init__(
        self, log: Path | None, info: RunInfo, *, resume: bool | int, overwrite: bool, silent: bool = False
    ) -> None:
        self._silent = silent
        self.log, self.step = opened(log, info, resume=resume, overwrite=overwrite) if not silent else _empty(info)
        self._began = time.monotonic() - self.log.time
        self.event("resume" if self.step else "start")

    @property
    def time(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def append(self, record: Record) -> None:
        """Writes a record; a full disk is a warning, for it must not end the training, and the rows stay in memory."""
        if self._silent:
            return
        try:
            self.log.append(record)
        except RunLogError as error:
            if not self.log.writable:
                raise
            warnings.warn(f"the probe's log: {error}", RuntimeWarning, stacklevel=4)

    def add(self, record: Record) -> None:
        """Writes what the loop has to say itself."""
        self.check_open()
        if not self._silent:
            self.log.append(record)

    def event(self, kind: str, **detail: Any) -> None:
        """Something happened to the run after the last update."""
        self.append(Event(self.step, self.step, kind, detail=detail))

    def measure(self, name: str, value: float, task: str | None, other: str | None) -> None:
        """A further number after the last update."""
        (number,) = read_numbers("measure", {name: value}, [name])
        if number is None:
            raise ProbeError(f"measure needs a number for {name!r}, got None")
        self.add(Measure(self.step, name, float(number), task, other))

    def validation(self, by_task: Mapping[str, float] | None, told: Mapping[str, float], metric: str | None) -> None:
        """Values of the tasks' metrics after the last update."""
        if not isinstance(by_task, Mapping | None):
            raise ProbeError(
                f"validation needs values by task, as seg=0.4 or {{'seg': 0.4}}; got {type(by_task).__name__}"
            )
        values = {**(by_task or {}), **told}
        if not isinstance(metric, str | None):
            raise ProbeError(f"validation: metric must be the name of one metric, got {metric!r:.60}")
        numbers = read_numbers("validation", values, self.log.names)
        self.check_open()
        for task, number in zip(self.log.tasks, numbers, strict=True):
            if number is not None:
                self.append(Validation(self.step, self.step, task.name, metric or task.metric, float(number)))

    def check_open(self) -> None:
        """Raises: ProbeError where the log is closed."""
        if not self.log.writable:
            raise ProbeError(
                "this probe is closed; to go on with its run: mv.Probe(..., log=<its folder>, resume=True)"
            )

    def close(self, event: Event) -> None:
        """Ends the run with an event."""
        self.append(event)
        self.log.close()


def _empty(info: RunInfo) -> tuple[RunLog, int]:
    return RunLog.create(None, info), 0
