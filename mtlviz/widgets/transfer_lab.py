"""The transfer lab: do these tasks help each other, what would have told it, and what can be done about it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from mtlviz.widgets.display import KeptDisplay
from mtlviz.widgets.picture import composed
from mtlviz.widgets.progress import failure
from mtlviz.widgets.publisher import Publisher
from mtlviz.widgets.rows import dropdown, row
from mtlviz.widgets.tabs import FigureTab
from mtlviz.widgets.three_task_lab import ThreeTaskLab
from mtlviz.widgets.transfer_views import TABS, Draw, Results, read

CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99)
SPLITS = {"validation": "value", "test": "test"}
THREAD = "mtlviz transfer lab"
PICTURE = "The picture"


class ResultTab(FigureTab):
    """The figures of one tab that the results tell; each is drawn anew when what it is made from has changed."""

    def __init__(self, draws: Mapping[str, Draw]) -> None:
        super().__init__({name: _drawn(draw) for name, draw in draws.items()})

    def refresh(self, log: Any) -> None:
        """Draws the figures of `Results`."""
        super().refresh(log)

    def _made_from(self, name: str, log: Any) -> tuple[object, ...]:
        return (log,)


class TransferLab(ipywidgets.VBox):
    """When do tasks help each other? The three-task picture in the hand, and the figures of any results.

    Each result goes where it belongs: gains into *Transfer*, covariances, affinity and cosines into *Covariance* and
    *Signals*, where they stand beside measured gains as soon as both are known, scores over widths into *Capacity*, and
    what remedies changed into *Remedies*. Of results that still have their seeds the confidence of the intervals and
    the split that judges can be chosen.

    results: frames that `mv.experiments.transfer`, `transfer_runs`, `capacity` or `remedies`, an analysis of
        covariance, `mv.analysis.affinity`, `conflict_matrix` or `transfer_prediction`, or `mv.transfer.source_sweep`
        returned, and run logs or runs (their cosines and affinity). Of two of a kind the last counts.
    picture: whether the three-task picture has a tab; None: where there is no result.

    Raises: FrameError for anything else, naming what is known.
    """

    _publisher: Publisher | None = None  # begins when everything that it writes is there

    def __init__(self, *results: Any, picture: bool | None = None) -> None:
        self._results = _together(Results(), results)
        shows_picture = not results if picture is None else picture
        self.picture = ThreeTaskLab() if shows_picture else None
        self._tabs: dict[str, ResultTab] = {}
        self._pictures_changed = False
        levels = [(f"{level:.0%}", level) for level in CONFIDENCES]
        self.confidence = dropdown(levels, "intervals", "150px")
        self.confidence.value = self._results.confidence
        self.split = ipywidgets.ToggleButtons(options=SPLITS, value=self._results.on, style={"button_width": "auto"})
        for control in (self.confidence, self.split):
            control.observe(self._judged, "value")
        self.controls = row(self.confidence, ipywidgets.Label("judged on"), self.split)
        self.trouble = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        self.tab = ipywidgets.Tab()
        self.tab.observe(lambda _: self._wake(), "selected_index")
        super().__init__([self.controls, self.trouble, self.tab])
        self._kept = KeptDisplay(self, "The transfer lab")
        self._arrange()
        self._publisher = Publisher(self._refresh, self._show_trouble, name=THREAD)

    def add(self, *results: Any) -> None:
        """Takes further results, or newer ones of their kinds; their tabs appear.

        Raises: FrameError as the lab itself does; it then shows what it showed.
        """
        self._results = _together(self._results, results)
        self._arrange()
        self._wake()

    @property
    def results(self) -> Results:
        """What is shown, with every frame that the lab made of what it was given."""
        return self._results

    def close(self) -> None:
        """Ends the thread, the picture and every view."""
        if self._publisher is not None:
            self._publisher.close()
            parts = [*self._tabs.values(), self.tab, *self.controls.children, self.controls, self.trouble]
            for part in parts if self.picture is None else [self.picture, *parts]:
                part.close()
        super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _arrange(self) -> None:
        """Makes a tab of whatever figures the results tell, and keeps those that are there."""
        for name, draws in TABS.items():
            known = [figure for figure in draws if self._results.tells(figure)]
            shown = self._tabs.get(name)
            if not known or (shown is not None and list(shown.views) == known):
                continue
            if shown is not None:
                shown.close()
            self._tabs[name] = made = ResultTab({figure: draws[figure] for figure in known})
            for view in made.views.values():
                view.on_picture(self._took_picture)
        children = {name: self._tabs[name] for name in TABS if name in self._tabs}
        shown_now = {PICTURE: self.picture, **children} if self.picture is not None else children
        self.tab.children = list(shown_now.values())
        self.tab.titles = list(shown_now)
        if self.tab.selected_index is None and shown_now:
            self.tab.selected_index = 0
        self.controls.layout.display = None if self._results.judges else "none"

    def _judged(self, _: dict[str, Any]) -> None:
        self._results = self._results.judged(self.confidence.value, self.split.value)
        self._wake()

    def _wake(self) -> None:
        if self._publisher is not None:
            self._publisher.wake()

    def _refresh(self) -> bool:
        """Draws the open tab; on the publisher's thread."""
        index = self.tab.selected_index
        opened = None if index is None else self.tab.children[index]
        if isinstance(opened, ResultTab):
            opened.refresh(self._results)
        self.trouble.value, self.trouble.layout.display = "", "none"
        if self._pictures_changed:
            self._pictures_changed = False
            taken = [view.picture for tab in self._tabs.values() for view in tab.views.values()]
            pictures = [picture for picture in taken if picture is not None]
            self._kept.keep(composed("The transfer lab", [*(self.picture.pictures if self.picture else []), *pictures]))
        return False

    def _took_picture(self, _: bytes) -> None:
        self._pictures_changed = True
        self._wake()

    def _show_trouble(self, raised: str) -> None:
        last = raised.strip().splitlines()[-1]
        self.trouble.value = failure("The lab could not show this", last, raised)
        self.trouble.layout.display = None


def _drawn(draw: Draw) -> Callable[[Any], go.Figure]:
    """A draw of results that are known to tell it."""

    def drawn(results: Results) -> go.Figure:
        figure = draw(results)
        assert figure is not None, "a tab has only figures that its results tell"
        return figure

    return drawn


def _together(known: Results, results: tuple[Any, ...]) -> Results:
    for result in results:
        for name, frame in read(result).items():
            known = known.also(name, frame)
    return known
