"""The Pareto lab: drag a start, scale a loss, and watch every method run to the front, or not."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import ipywidgets
import plotly.graph_objects as go

from mtlviz import figures
from mtlviz.errors import MtlvizError, ParetoError, unknown
from mtlviz.figures.pareto_planes import CONTOURS
from mtlviz.pareto import Descent, Objectives
from mtlviz.pareto.equity import COMPARED
from mtlviz.pareto.methods import Methods, labelled
from mtlviz.weighting import METHODS
from mtlviz.weighting.method import Weighting
from mtlviz.widgets import pareto_table
from mtlviz.widgets.descents import Descents, Settings
from mtlviz.widgets.display import KeptDisplay
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.pareto_controls import ParetoControls, Wish
from mtlviz.widgets.pareto_presets import PRESETS, Preset, preset_of
from mtlviz.widgets.picture import composed
from mtlviz.widgets.progress import failure
from mtlviz.widgets.publisher import Publisher

HEIGHT = 560  # pixels of each plane
LATER = 1.0  # seconds between two redraws of arrows and table while a start is dragged
PATIENCE = 2.0  # seconds in which the browser may tell how long a move took
THREAD = "mtlviz pareto lab"

_GRID = {"grid_template_columns": "repeat(auto-fit, minmax(min(430px, 100%), 1fr))", "grid_gap": "8px", "width": "auto"}


class ParetoLab(ipywidgets.VBox):
    """Two objectives in the hand: the plane of parameters with starts that are dragged, and the plane of the losses.

    Below them the directions that the methods take at one point of one trajectory, and a row per method: how many of
    its starts reach the Pareto front, and how far from the best average they end.

    A click or a drag only sets what is wanted; one thread computes and draws, the newest wish first, and only the
    trajectories that it does not know yet. The thread ends when nothing is left to do, and with `close()`.

    methods, problem, starts, scale, offset, steps, lr, optimizer: as `mtlviz.pareto.descend` takes them; the methods
    are shown in the order of `METHODS`, by default those of the equity experiment. contours: of "average", "loss 1"
    and "loss 2", the landscape in the plane of parameters.

    Raises: ParetoError and WeightingError as `descend` does, and for unknown contours.
    """

    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    _publisher: Publisher | None = None  # begins when everything that it writes is there

    def __init__(
        self,
        methods: Methods | str | Weighting = COMPARED,
        problem: str | Objectives = "toy",
        *,
        starts: Any = None,
        scale: Sequence[float] | None = None,
        offset: float | None = None,
        steps: int = 10_000,
        lr: float = 5e-3,
        optimizer: str = "adam",
        contours: str = "average",
    ) -> None:
        if contours not in CONTOURS:
            raise ParetoError(unknown("contours", contours, CONTOURS))
        weightings = labelled(methods)
        self._descents = Descents({**{name: name for name in METHODS}, **weightings})
        self._descent = self._descents.first(
            weightings, starts, problem, scale=scale, offset=offset, steps=steps, lr=lr, optimizer=optimizer
        )
        self._colours: dict[str, int] = {}
        self._error: Exception | None = None
        self._rest = threading.Condition()
        self._closed = False
        self._drawn: Wish | None = None  # whose planes are drawn
        self._drawn_at = self._completed_at = 0.0
        self._completed: Wish | None = None  # whose arrows and table are drawn too
        self._pictures_changed = False
        self.controls = ParetoControls(Settings.of(self._descent), contours, self._wanted, self._load)
        self.controls.preset.observe(lambda change: self._asked(change["new"]), "value")
        self.parameters, self.losses = FigureView(height=HEIGHT), FigureView(height=HEIGHT)
        self.directions = FigureView()
        self._views = (self.parameters, self.losses, self.directions)
        self.table, self.status = ipywidgets.HTML(), ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 8px"))
        self.trouble = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        self.legend = ipywidgets.HTML(layout=ipywidgets.Layout(margin="4px 8px"))
        grid = ipywidgets.Layout(**_GRID)
        planes = ipywidgets.GridBox([self.parameters, self.losses], layout=grid)
        below = ipywidgets.GridBox([self.directions, self.table], layout=grid)
        super().__init__([self.controls, self.trouble, self.legend, planes, self.status, self.controls.when, below])
        self._kept = KeptDisplay(self, "The Pareto lab")
        self.parameters.on_moved(lambda start, x1, x2, ticket: self.controls.move(start, (x1, x2), ticket))
        for view in self._views:
            view.on_picture(self._took_picture)
        self._wish = self.controls.wish()
        self._publisher = Publisher(self._refresh, self._show_trouble, name=THREAD)

    @classmethod
    def preset(cls, name: str) -> ParetoLab:
        """A lab with the settings that answer one of the questions of `presets`.

        Raises: ParetoError for an unknown name, listing the choices.
        """
        lab = cls(**preset_of(name).settings)
        with lab.controls.quietly():
            lab.controls.preset.value = name
        return lab

    @property
    def descent(self) -> Descent:
        """The descent that is shown; waits for a computation under way. Raises: as `wait` does."""
        self.wait()
        return self._descent

    def wait(self, timeout: float = 120.0) -> None:
        """Waits until what is wanted now is computed and its planes are drawn.

        Raises: what the computation raised; ParetoError after `timeout` seconds.
        """
        with self._rest:
            if not self._rest.wait_for(lambda: self._closed or self._drawn is self._wish, timeout):
                raise ParetoError(f"the lab did not come to rest within {timeout:g} s")
            if self._error is not None:
                raise self._error

    @property
    def waits(self) -> list[float]:
        """Milliseconds from each event of the mouse until both planes had drawn its answer; oldest first."""
        return pareto_table.answered(self.parameters.waits, self.losses.waits)

    def close(self) -> None:
        """Ends the thread, every view and every control."""
        if self._publisher is not None:
            self._closed = True
            self._publisher.close()
            with self._rest:
                self._rest.notify_all()
            for part in _parts(self):
                part.close()
        super().close()

    def _ipython_display_(self) -> None:
        self._kept.display()

    def _load(self, name: str) -> None:
        """Imports and compiles a method here, on the caller's thread: two threads that import can block each other."""
        if self._descents.weightings[name] == name:
            METHODS[name]

    def _wanted(self, ticket: int | None) -> None:
        """Something else is wanted; from any thread."""
        self._wish = self.controls.wish(ticket)
        if self._publisher is not None:
            self._publisher.wake()

    def _asked(self, name: str) -> None:
        """The user chose a question."""
        if not name or self.controls.silent:
            return
        self.controls.take(preset_of(name).as_settings(), self.controls.contours.value)
        self._wanted(None)

    def _refresh(self) -> bool:
        """Draws the newest wish; True while something is left that can wait a moment."""
        wish = self._wish
        fresh = wish is not self._drawn
        try:
            if fresh and not self._draw(wish):
                return False  # a newer wish has woken the thread
            now = time.monotonic()
            if fresh and wish.ticket is not None and now - self._completed_at < LATER:
                return True  # the mouse goes on: arrows and table when it rests
            if wish is not self._completed and wish.settings.methods and self._error is None:
                if not fresh:  # the mouse has come to rest
                    self._show_planes(wish, fading=True)
                self._complete(wish)
                self._completed, self._completed_at = wish, now
            self._say(wish)
            self._keep_picture()
        except Exception as error:  # noqa: BLE001 - the border of the thread: whatever goes wrong is shown in the lab
            self._error = error
            self._show_trouble(traceback.format_exc(), error)
            self._note_drawn(wish)
            return False
        return wish.ticket is not None and now - self._drawn_at < PATIENCE and not self._waited(wish.ticket)

    def _draw(self, wish: Wish) -> bool:
        """Computes and draws both planes; False if the wish was given up for a newer one."""
        if wish.settings.methods:  # without any, what was drawn stays
            descent = self._descents.descent(wish.settings, lambda: self._closed or self._wish is not wish)
            if descent is None:
                return False
            self._descent = descent
            self._colour(wish.settings.methods)
        self._error = None
        self.trouble.value, self.trouble.layout.display = "", "none"
        self._show_planes(wish, fading=wish.ticket is None)
        self.legend.value = pareto_table.legend(self._descent.methods, self._colours)
        self._note_drawn(wish)
        return True

    def _show_planes(self, wish: Wish, *, fading: bool) -> None:
        for plane, view in (("parameters", self.parameters), ("losses", self.losses)):
            view.show(self._plane(self._descent, plane, wish, fading))

    def _plane(self, descent: Descent, plane: str, wish: Wish, fading: bool) -> go.Figure:
        figure = figures.pareto_trajectories(
            descent,
            plane=plane,
            contours=wish.contours,
            step=wish.step,
            landscape=self._descents.landscape(descent.problem),
            colours=self._colours,
            height=HEIGHT,
            legend=False,
            fading=fading,
        )
        meta = dict(figure.layout.meta)
        if wish.ticket is not None:
            meta["answers"] = wish.ticket
        if plane == "parameters":
            starts = wish.settings.starts  # where no method is chosen the trajectories do not follow them
            meta["handles"] = {"points": list(map(list, starts)), "labels": [str(n + 1) for n in range(len(starts))]}
        figure.layout.meta = meta
        return figure

    def _complete(self, wish: Wish) -> None:
        """Draws the arrows and writes the table."""
        method, start = wish.followed
        step = wish.settings.steps if wish.step is None else wish.step
        moment = self._descents.moment(wish.settings, method, start, step)
        at = f"step {step:,} of {method} from start {start + 1}"
        self.directions.show(figures.update_directions(moment, at=at, colours=self._colours))
        self.table.value = pareto_table.table(self._descent, self._colours, self._descents.notes)

    def _say(self, wish: Wish) -> None:
        chosen = bool(wish.settings.methods)
        self.status.value = pareto_table.status(self._descents.work, self.waits) if chosen else "Choose a method."

    def _waited(self, ticket: int) -> bool:
        """Whether the browser has told how long this move took in both planes."""
        return all(view.waits and view.waits[-1].ticket >= ticket for view in (self.parameters, self.losses))

    def _note_drawn(self, wish: Wish) -> None:
        with self._rest:
            self._drawn, self._drawn_at = wish, time.monotonic()
            self._rest.notify_all()

    def _colour(self, methods: Sequence[str]) -> None:
        """Gives each method a colour that it keeps while it is chosen."""
        kept = {name: place for name, place in self._colours.items() if name in methods}
        free = (place for place in range(len(methods)) if place not in kept.values())
        for name in methods:
            if name not in kept:
                kept[name] = next(free)
        self._colours = kept

    def _took_picture(self, _: bytes) -> None:
        self._pictures_changed = True
        if self._publisher is not None:
            self._publisher.wake()

    def _keep_picture(self) -> None:
        """What a saved notebook shows: the three figures below the question."""
        if not self._pictures_changed:
            return
        self._pictures_changed = False
        pictures = [view.picture for view in self._views if view.picture is not None]
        name = self.controls.preset.value
        question = f" · {PRESETS[name].question}" if name else ""
        self._kept.keep(composed(f"The Pareto lab{question}", pictures))

    def _show_trouble(self, raised: str, error: Exception | None = None) -> None:
        known = isinstance(error, MtlvizError)
        what = str(error) if known else f"{type(error).__name__}: {error}"
        self.trouble.value = failure("The lab could not show this", what, "" if known else raised)
        self.trouble.layout.display = None


def _parts(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Everything inside a widget, and its looks, which ipywidgets holds until each is closed."""
    for child in getattr(widget, "children", ()):
        yield from _parts(child)
        yield child
    for name in ("layout", "style"):
        look = getattr(widget, name, None)
        if isinstance(look, ipywidgets.Widget):
            yield look
