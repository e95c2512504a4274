"""Watches a run in a terminal, or prints it line by line where there is none."""

from __future__ import annotations

import sys
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mtlviz.runlog.log import RunLog
from mtlviz.watch import table
from mtlviz.watch.following import Followed
from mtlviz.widgets import standing
from mtlviz.widgets.progress import ENDED, Progress, Speedometer

REDRAWN = 1.0  # seconds between two views in a terminal
PRINTED = 2.0  # seconds between two lines where there is none
TURNED = 5.0  # seconds until the next tasks are shown, where they are more than the terminal has lines
NARROWEST = 40  # cells


class Watch:
    """A run that is shown as text until it ends."""

    def __init__(self, run: Followed) -> None:
        self._run, self._speedometer = run, Speedometer()

    def once(self, console: Console) -> None:
        """Prints the run as it stands."""
        log, progress = self._read()
        console.print(self._view(log, progress, console))
        self._print_failure(console, log, progress)

    def live(self, console: Console) -> None:
        """Shows the run in place until it ends or Ctrl-C, and leaves its last view."""
        try:
            with Live(console=console, screen=True, auto_refresh=False) as screen:
                while True:
                    log, progress = self._read()
                    screen.update(self._page(log, progress, console), refresh=True)
                    if progress.state in ENDED:
                        break
                    time.sleep(REDRAWN)
        except KeyboardInterrupt:
            pass
        self.once(console)

    def lines(self, console: Console, *, every: float = PRINTED) -> None:
        """Prints a line whenever the run has done more, at most one each `every` seconds, and at its end all of it."""
        told: tuple[str, int] | None = None
        try:
            while True:
                log, progress = self._read()
                if progress.state in ENDED:
                    break
                if told != (told := (progress.state, progress.step)):
                    print(table.line(log, standing.title(log), progress), flush=True)
                time.sleep(every)
        except KeyboardInterrupt:
            pass
        self.once(console)

    def _read(self) -> tuple[RunLog, Progress]:
        log = self._run.log()
        return log, standing.progress(log, self._speedometer)

    def _view(self, log: RunLog, progress: Progress, console: Console, rows: slice = slice(None)) -> RenderableType:
        width = max(console.width, NARROWEST)
        return table.view(log, standing.title(log), progress, width=width, rows=rows)

    def _page(self, log: RunLog, progress: Progress, console: Console) -> RenderableType:
        """As much of the run as the terminal is high: where the tasks are too many, some after the others."""
        room = max(console.height - table.AROUND, 1)
        pages = -(-len(log.names) // room)
        first = int(time.monotonic() / TURNED) % pages * room
        return Group(self._view(log, progress, console, slice(first, first + room)), Text("Ctrl-C ends", style="dim"))

    def _print_failure(self, console: Console, log: RunLog, progress: Progress) -> None:
        error = standing.failure(log) or standing.nonfinite(log) if progress.state == "failed" else None
        if error is not None:
            console.print(
                Text(f"{table.plain(error.get('type', 'Error'))}: {table.plain(error.get('message', ''))}", "red")
            )


def watch(run: Followed, *, once: bool = False) -> None:
    """Shows the run in the terminal, or prints it where the output is none; `once` prints it as it stands."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an output that knows no bars gets question marks
    console = Console(highlight=False, markup=False, emoji=False)
    shown = Watch(run)
    if once:
        shown.once(console)
    elif console.is_terminal:
        shown.live(console)
    else:
        shown.lines(console)
