"""The Pareto lab: drag a start, scale a loss, and watch every method run to the front, or not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ipywidgets
import plotly.graph_objects as go

from mtlviz import figures
from mtlviz.errors import ParetoError, unknown
from mtlviz.figures.pareto_planes import CONTOURS
from mtlviz.pareto import Descent, Objectives
from mtlviz.pareto.equity import COMPARED
from mtlviz.pareto.methods import Methods, labelled
from mtlviz.weighting import METHODS
from mtlviz.weighting.method import Weighting
from mtlviz.widgets import pareto_table
from mtlviz.widgets.descents import Descents, Settings
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.lab import Lab
from mtlviz.widgets.pareto_controls import ParetoControls, Wish
from mtlviz.widgets.pareto_presets import PRESETS, Preset, preset_of
from mtlviz.widgets.rows import GRID

HEIGHT = 560  # pixels of each plane
LATER = 1.0  # seconds between two redraws of arrows and table while a start is dragged
THREAD = "mtlviz pareto lab"


class ParetoLab(Lab[Wish]):
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

    NAME = "The Pareto lab"
    ERROR = ParetoError
    presets: ClassVar[Mapping[str, Preset]] = PRESETS

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
        self._completed_at = 0.0
        self._completed: Wish | None = None  # whose arrows and table are drawn too
        self.controls = ParetoControls(Settings.of(self._descent), contours, self._wanted, self._load)
        self.controls.preset.observe(lambda change: self._asked(change["new"]), "value")
        self.parameters, self.losses = FigureView(height=HEIGHT), FigureView(height=HEIGHT)
        self.directions = FigureView()
        self.table, self.status = ipywidgets.HTML(), ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 8px"))
        self.legend = ipywidgets.HTML(layout=ipywidgets.Layout(margin="4px 8px"))
        grid = ipywidgets.Layout(**GRID)
        planes = ipywidgets.GridBox([self.parameters, self.losses], layout=grid)
        below = ipywidgets.GridBox([self.directions, self.table], layout=grid)
        super().__init__(
            [self.controls],
            [self.legend, planes, self.status, self.controls.when, below],
            views=(self.parameters, self.losses, self.directions),
            followed=2,
        )
        self.parameters.on_moved(lambda start, x1, x2, ticket: self.controls.move(start, (x1, x2), ticket))
        self._begin(self.controls.wish(), THREAD)

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

    def _load(self, name: str) -> None:
        """Imports and compiles a method here, on the caller's thread: two threads that import can block each other."""
        if self._descents.weightings[name] == name:
            METHODS[name]

    def _wanted(self, ticket: int | None) -> None:
        self._want(self.controls.wish(ticket))

    def _asked(self, name: str) -> None:
        """The user chose a question."""
        if not name or self.controls.silent:
            return
        self.controls.take(preset_of(name).as_settings(), self.controls.contours.value)
        self._wanted(None)

    def _draw(self, wish: Wish) -> bool:
        """Computes and draws both planes; False if the wish was given up for a newer one."""
        if wish.settings.methods:  # without any, what was drawn stays
            descent = self._descents.descent(wish.settings, lambda: self._closed or self._wish is not wish)
            if descent is None:
                return False
            self._descent = descent
            self._colour(wish.settings.methods)
        self._show_planes(wish, fading=wish.ticket is None)
        self.legend.value = pareto_table.legend(self._descent.methods, self._colours)
        return True

    def _finish(self, wish: Wish, fresh: bool) -> bool:
        """Draws arrows and table, unless the mouse goes on and they were drawn a moment ago; False then."""
        now = time.monotonic()
        if fresh and wish.ticket is not None and now - self._completed_at < LATER:
            return False
        if wish is not self._completed and wish.settings.methods and self._error is None:
            if not fresh:  # the mouse has come to rest
                self._show_planes(wish, fading=True)
            self._complete(wish)
            self._completed, self._completed_at = wish, now
        self._say(wish)
        return True

    def _question(self) -> str:
        name = self.controls.preset.value
        return PRESETS[name].question if name else ""

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

    def _colour(self, methods: Sequence[str]) -> None:
        """Gives each method a colour that it keeps while it is chosen."""
        kept = {name: place for name, place in self._colours.items() if name in methods}
        free = (place for place in range(len(methods)) if place not in kept.values())
        for name in methods:
            if name not in kept:
                kept[name] = next(free)
        self._colours = kept
