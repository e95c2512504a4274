"""The tabs of a dashboard: which figures stand in each, and how each is made from the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import ipywidgets
import plotly.graph_objects as go

from mtlviz.runlog.log import RunLog
from mtlviz.widgets import draws
from mtlviz.widgets.draws import Draw
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.rows import GRID


class FigureTab(ipywidgets.VBox):
    """Figures side by side where the cell is wide enough, below each other where it is not; controls above them.

    Those that are named `wide` come last and take the whole width.
    """

    def __init__(
        self, draws: Mapping[str, Draw], controls: ipywidgets.Widget | None = None, *, wide: Collection[str] = ()
    ) -> None:
        self._draws = dict(draws)
        self._drawn: dict[str, tuple[object, ...]] = {}
        self.views = {name: FigureView() for name in draws}
        grid = ipywidgets.GridBox(
            [view for name, view in self.views.items() if name not in wide], layout=ipywidgets.Layout(**GRID)
        )
        rows = [grid, *(view for name, view in self.views.items() if name in wide)]
        super().__init__(rows if controls is None else [controls, *rows])

    def refresh(self, log: RunLog) -> None:
        """Draws every figure of the tab for which the log holds something new."""
        for name, draw in self._draws.items():
            made_from = self._made_from(name, log)
            if self._drawn.get(name) != made_from:
                self.views[name].show(draw(log))
                self._drawn[name] = made_from

    def _made_from(self, name: str, log: RunLog) -> tuple[object, ...]:
        """What decides how a figure looks; a rewind is an event."""
        return draws.made_from(name, log)

    def settle(self) -> None:
        """Asks for pictures, as at the end of a run."""
        for view in self.views.values():
            view.settle()

    def close(self) -> None:
        """Closes the figures too."""
        for view in self.views.values():
            view.close()
        super().close()


def curves(*, schedule: bool = False) -> FigureTab:
    """Losses and validation curves; for a run with a schedule also what each task did when."""
    return FigureTab(draws.curves(schedule=schedule), wide=draws.WIDE)


def balance() -> FigureTab:
    """Who moves the trunk, how loudly, and at what pace."""
    return FigureTab(draws.balance())


class ConflictTab(FigureTab):
    """Conflict between pairs at a step or over a window, over time, and by layer; affinity where it is measured."""

    def __init__(self, wake: Callable[[], None], publishing: Callable[[], bool], *, affinity: bool = False) -> None:
        self._publishing = publishing
        self._follow = True  # the newest step, until the user moves the slider back
        self._window = ipywidgets.ToggleButtons(
            options=list(draws.WINDOWS), style={"button_width": "auto"}, layout=ipywidgets.Layout(width="auto")
        )
        self._slider = ipywidgets.IntSlider(
            min=0, max=0, readout=False, disabled=True, layout=ipywidgets.Layout(flex="1 1 200px", min_width="120px")
        )
        self._label = ipywidgets.Label("step –", layout=ipywidgets.Layout(margin="2px 2px 2px 14px"))
        self._slider.observe(self._moved, "value")
        self._window.observe(lambda _: wake(), "value")
        self._wake = wake
        controls = ipywidgets.HBox(
            [ipywidgets.Label("Cosines of"), self._window, self._slider, self._label],
            layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"),
        )
        super().__init__(draws.conflict(self._matrix, affinity=affinity), controls)

    def _moved(self, change: dict[str, int]) -> None:
        if not self._publishing():
            self._follow = change["new"] >= self._slider.max
            self._wake()

    def refresh(self, log: RunLog) -> None:
        """Moves the slider along with the run, and draws."""
        recorded = len(log)
        whole = draws.WINDOWS[self._window.value] is None
        if recorded:
            self._slider.max = recorded - 1
            if self._follow:
                self._slider.value = recorded - 1
        self._slider.disabled = whole or recorded == 0
        super().refresh(log)

    def _made_from(self, name: str, log: RunLog) -> tuple[object, ...]:
        if name != "conflict_matrix":
            return super()._made_from(name, log)
        return *super()._made_from(name, log), self._window.value, self._slider.value

    def _matrix(self, log: RunLog) -> go.Figure:
        window = draws.WINDOWS[self._window.value]
        end = draws.window_end(log, window, self._slider.value)
        self._label.value = draws.window_label(log, end)
        return draws.matrix(log, window, end)
