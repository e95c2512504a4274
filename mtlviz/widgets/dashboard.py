"""The dashboard: one view of a run, live while it trains and the same when it is over."""

from __future__ import annotations

import os
import traceback
from typing import Any, Protocol, cast

import ipywidgets

from mtlviz.analysis.affinity import measures_affinity
from mtlviz.analysis.validation import scheduled
from mtlviz.errors import MtlvizError
from mtlviz.runlog.log import RunLog
from mtlviz.widgets import standing, tabs
from mtlviz.widgets.controls import Controls, Switchable
from mtlviz.widgets.display import KeptDisplay
from mtlviz.widgets.picture import composed
from mtlviz.widgets.progress import ENDED, Progress, Speedometer, failure
from mtlviz.widgets.publisher import Publisher
from mtlviz.widgets.what_if import WhatIfTab


class Logged(Protocol):
    """What writes a log, as an `mtlviz.Probe`."""

    @property
    def log(self) -> RunLog:
        """The log."""
        ...


def dashboard(run: Switchable | Logged | RunLog | str | os.PathLike[str]) -> Dashboard:
    """Shows a run while it trains, or after.

    run: a `Run` of this process (with Pause, Resume and Stop), a `Probe`, a `RunLog`, or the folder of a run that this
    or another process writes or wrote.

    Raises: RunLogError for a folder without a readable run; MtlvizError for anything else.
    """
    return Dashboard(run)


class Dashboard(ipywidgets.VBox):
    """Status and switches above the tabs Curves, Balance, Conflict and What-if.

    It holds no numbers: at most 4 times a second its publisher thread asks the log what is new and draws the figures
    of the tab that is open. The cell's width and JupyterLab's theme are followed; a saved notebook keeps a picture of
    each tab that was looked at.

    The thread ends with the run, and until then with `close()` (or `ipywidgets.Widget.close_all()`) alone: ipywidgets
    holds every widget that is not closed, so a dashboard whose cell was run again or cleared goes on drawing.
    """

    _publisher: Publisher | None = None  # begins when everything that it writes is there

    def __init__(self, run: Switchable | Logged | RunLog | str | os.PathLike[str]) -> None:
        self._run, self.run_log = _parts(run)
        self._speedometer = Speedometer()
        self._progress: Progress | None = None
        self._settled = False
        self._pictures_changed = False
        self._error: dict[str, Any] | None = None
        self._title = standing.title(self.run_log)
        self.controls = Controls(self._title, self._run, self._wake)
        self.curves, self.balance = tabs.curves(schedule=scheduled(self.run_log)), tabs.balance()
        self.conflict = tabs.ConflictTab(self._wake, self._publishing, affinity=measures_affinity(self.run_log))
        self.what_if = WhatIfTab(self._wake, self._publishing)
        self._tabs = (self.curves, self.balance, self.conflict, self.what_if)
        self.tab = ipywidgets.Tab(self._tabs, titles=("Curves", "Balance", "Conflict", "What-if"), selected_index=0)
        self.tab.observe(self._turned, "selected_index")
        self.trouble = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        super().__init__([self.controls, self.trouble, self.tab])
        self._kept = KeptDisplay(self, f"Dashboard of {self._title}")
        for tab in self._tabs:
            for view in tab.views.values():
                view.on_picture(self._took_picture)
        self._publisher = Publisher(self._refresh, self._show_trouble)

    @property
    def progress(self) -> Progress | None:
        """What the status line says; None before the first refresh."""
        return self._progress

    def close(self) -> None:
        """Ends the publisher and every view; the run goes on."""
        if self._publisher is not None:
            self._publisher.close()
            for part in (*self._tabs, self.tab, self.controls, self.trouble):
                part.close()
        super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _wake(self) -> None:
        if self._publisher is not None:
            self._publisher.wake()

    def _publishing(self) -> bool:
        return self._publisher is not None and self._publisher.publishing

    def _turned(self, _: dict[str, Any]) -> None:
        self._settled = False  # the tab that came to light has no picture yet
        if self.tab.selected_index == self._tabs.index(self.what_if):
            self.what_if.load()
        self._wake()

    def _took_picture(self, _: bytes) -> None:
        self._pictures_changed = True
        self._wake()

    def _refresh(self) -> bool:
        """One tick, on the publisher's thread; True while the run goes on."""
        log = self.run_log
        state = self._run.state if self._run is not None else log.state
        self._progress = standing.progress(log, self._speedometer, state=state)
        if state == "failed" and self._error is None:
            self._error = self._what_failed()
        self.controls.show(self._progress, self._error)
        ended = state in ENDED
        open_tab = self._tabs[self.tab.selected_index or 0]
        open_tab.refresh(log)
        self._show_no_trouble()
        if ended and not self._settled:
            open_tab.settle()
            self._settled = True
        if self._pictures_changed:
            self._pictures_changed = False
            self._keep_picture()
        return not ended

    def _what_failed(self) -> dict[str, Any] | None:
        """Type, message and traceback of the error that ended the run, as far as the log or the run itself knows."""
        noted = standing.failure(self.run_log)
        error = self._run.error if self._run is not None else None
        if noted is None and error is not None:
            return _error_detail(error)
        return noted or standing.nonfinite(self.run_log)

    def _keep_picture(self) -> None:
        taken = [view.picture for tab in self._tabs for view in tab.views.values()]
        pictures = [picture for picture in taken if picture is not None]
        if pictures and self._progress is not None:
            self._kept.keep(composed(f"{self._title} · {self._progress.text()}", pictures))

    def _show_trouble(self, raised: str) -> None:
        self._settled = False  # what could not be drawn is drawn again
        self.trouble.value = failure("The dashboard could not draw", "the run itself is not touched", raised)
        self.trouble.layout.display = None

    def _show_no_trouble(self) -> None:
        self.trouble.value = ""
        self.trouble.layout.display = "none"


def _error_detail(error: BaseException) -> dict[str, Any]:
    """An exception as error events note it."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _parts(run: Switchable | Logged | RunLog | str | os.PathLike[str]) -> tuple[Switchable | None, RunLog]:
    if isinstance(run, RunLog):
        return None, run
    if isinstance(run, (str, os.PathLike)):
        return None, RunLog.open(run)
    log = getattr(run, "log", None)
    if isinstance(log, RunLog):
        switches = all(callable(getattr(run, name, None)) for name in ("pause", "resume", "stop"))
        return (cast("Switchable", run) if switches else None), log
    raise MtlvizError(
        f"dashboard shows a Run, a Probe, a RunLog or the folder of a run; got {type(run).__name__}: {run!r}"
    )
