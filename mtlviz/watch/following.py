"""A log that is followed for as long as somebody watches, also when a new run takes the place of the old one."""

from __future__ import annotations

import time
from pathlib import Path

from mtlviz.errors import RunLogError
from mtlviz.runlog.folder import RUN
from mtlviz.runlog.log import RunLog

AGAIN = 0.5  # seconds between two looks for a run that is not there yet


def opened(path: Path, *, wait: bool = False) -> RunLog:
    """The run's log; `wait` waits for as long as there is no run, where nothing else stands in its place.

    Raises:
        RunLogError: as `RunLog.open`.
    """
    while wait and not (path / RUN).exists() and (path.is_dir() or not path.exists()):
        time.sleep(AGAIN)
    return RunLog.open(path)


class Followed:
    """The log of whatever run stands in a folder."""

    def __init__(self, path: Path, log: RunLog) -> None:
        self._path, self._log = path, log
        self.count = 1  # runs that stood there so far

    def log(self) -> RunLog:
        """The log, brought up to date; another one once a new run has overwritten the old.

        Raises:
            RunLogError: it can no longer be read.
        """
        try:
            self._log.refresh()
        except RunLogError:
            self._log = RunLog.open(self._path)
            self.count += 1
        return self._log
