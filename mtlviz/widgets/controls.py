"""The controls of a dashboard: status line, progress bar, and the switches of a run of this process."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets

from mtlviz.runlog.log import RunLog
from mtlviz.widgets.progress import ENDED, Progress, failure

_BARS = {"paused": "warning", "failed": "danger", "interrupted": "danger", "finished": "success"}


class Switchable(Protocol):
    """A run of this process: `mtlviz.Run`, for one."""

    log: RunLog

    @property
    def state(self) -> str:
        """running, paused, or how it ended."""

    @property
    def error(self) -> BaseException | None:
        """What ended it, if it failed."""

    def pause(self) -> None:
        """Asks it to halt."""

    def resume(self) -> None:
        """Lets it go on."""

    def stop(self) -> None:
        """Asks it to end."""


class Controls(ipywidgets.VBox):
    """Status, progress and, for a run of this process, Pause, Resume and Stop.

    A click only sets an event of the run and calls `wake`; all that is shown is written by `show`, by one thread.
    """

    def __init__(self, title: str, run: Switchable | None, wake: Callable[[], None]) -> None:
        self._title = html.escape(title)
        self._status = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 280px", margin="0 8px"))
        self._bar = ipywidgets.FloatProgress(min=0.0, max=1.0, layout=ipywidgets.Layout(width="auto", height="10px"))
        self._failure = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        self._buttons: dict[str, ipywidgets.Button] = {}
        if run is not None:
            for label, icon, act in (
                ("Pause", "pause", run.pause),
                ("Resume", "play", run.resume),
                ("Stop", "stop", run.stop),
            ):
                self._buttons[label] = _button(label, icon, act, wake)
        line = ipywidgets.HBox(
            [*self._buttons.values(), self._status],
            layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"),
        )
        super().__init__([line, self._bar, self._failure])

    def show(self, progress: Progress, error: dict[str, Any] | None) -> None:
        """Shows where the run is; `error` says what ended it (type, message, traceback), if it failed."""
        self._status.value = f"<b>{self._title}</b> · <span>{html.escape(progress.text())}</span>"
        self._bar.value = progress.share or 0.0
        self._bar.layout.display = "none" if progress.share is None else None
        self._bar.bar_style = _BARS.get(progress.state, "info")
        if error is not None:
            said = (error.get("type", "Error"), error.get("message", ""), error.get("traceback", ""))
            self._failure.value = failure(*map(str, said))
            self._failure.layout.display = None
        if self._buttons:
            self._buttons["Pause"].disabled = progress.state != "running"
            self._buttons["Resume"].disabled = progress.state != "paused"
            self._buttons["Stop"].disabled = progress.state in ENDED


def _button(label: str, icon: str, act: Callable[[], None], wake: Callable[[], None]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=label, icon=icon, layout=ipywidgets.Layout(width="92px"))

    def clicked(_: ipywidgets.Button) -> None:
        act()
        wake()

    button.on_click(clicked)
    return button
