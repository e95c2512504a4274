"""The three-task lab: move a cloud, turn a boundary, and see who helps the first task and who hurts it."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mtlviz import figures
from mtlviz.errors import TransferError
from mtlviz.transfer import ThreeTask
from mtlviz.transfer.arguments import whole
from mtlviz.transfer.three_task import SEEDS, TASKS
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.lab import Lab, follows, milliseconds
from mtlviz.widgets.rows import GRID
from mtlviz.widgets.three_task_controls import ThreeTaskControls, Wish
from mtlviz.widgets.three_task_presets import SETTINGS, Setting, setting_of

HEIGHT, BESIDE = 600, 300  # pixels of the plane, and of each figure beside it
RANGES = ((-10.0, 10.0), (-7.5, 7.5))  # of the plane; it stays where it is while a cloud is dragged
SAMPLE = 14  # of the usual picture: alone task 1 is far off, task 2 pulls it back, and task 3 too far
LATER = 0.5  # seconds between two redraws of the turns while a cloud is dragged
THREAD = "mtlviz three-task lab"


class ThreeTaskLab(Lab[Wish]):
    """When does training together help? Three clouds to drag, boundaries to turn, and what becomes of task 1.

    Beside the plane stand the accuracy of task 1 alone, with each of the others and with all, each over many training
    samples and exact for each, and where its boundary goes in each of them. One thread computes and draws, the newest
    wish first; it ends when nothing is left to do, and with `close()`.

    picture: what is shown at first; None: `mv.transfer.ThreeTask()`. seeds: over how many training samples. sample:
    which of them the plane shows.

    Raises: TransferError for something else than a ThreeTask, seeds below 2 or a sample below 0.
    """

    NAME = "The three-task picture"
    ERROR = TransferError
    presets: ClassVar[Mapping[str, Setting]] = SETTINGS

    def __init__(self, picture: ThreeTask | None = None, *, seeds: int = SEEDS, sample: int = SAMPLE) -> None:
        picture = ThreeTask() if picture is None else picture
        if not isinstance(picture, ThreeTask):
            raise TransferError(f"picture must be an mtlviz.transfer.ThreeTask, got {picture!r}")
        self._seeds = whole("seeds", seeds, 2)
        self.controls = ThreeTaskControls(picture, whole("sample", sample, 0), seeds, self._wanted)
        self.plane = FigureView(height=HEIGHT)
        self.accuracy, self.turns = FigureView(height=BESIDE), FigureView(height=BESIDE)
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 8px"))
        self._frame = pd.DataFrame()
        self._took = self._completed_at = 0.0
        self._completed: Wish | None = None  # whose turns are drawn too
        self._missing = [0] * len(TASKS)  # samples of each task that hold one class only
        beside = ipywidgets.VBox([self.accuracy, self.turns], layout=ipywidgets.Layout(min_width="0"))
        grid = ipywidgets.GridBox([self.plane, beside], layout=ipywidgets.Layout(**GRID))
        views = (self.plane, self.accuracy, self.turns)
        super().__init__([self.controls], [grid, self.status], views=views, followed=2)
        self.plane.on_moved(lambda cloud, x1, x2, ticket: self.controls.move(cloud, (x1, x2), ticket))
        self._begin(self.controls.wish(), THREAD)

    @classmethod
    def preset(cls, name: str) -> ThreeTaskLab:
        """A lab with the picture that answers one of the questions of `presets`.

        Raises: TransferError for an unknown name, listing the choices.
        """
        lab = cls(setting_of(name).picture)
        lab.controls.choose(name)
        return lab

    @property
    def picture(self) -> ThreeTask:
        """What is chosen now."""
        return self.controls.picture

    @property
    def frame(self) -> pd.DataFrame:
        """The accuracies that are shown, as `ThreeTask.accuracy` returns them; waits for a computation under way.

        Raises: as `wait` does.
        """
        self.wait()
        return self._frame

    def _wanted(self, ticket: int | None) -> None:
        self._want(self.controls.wish(ticket))

    def _draw(self, wish: Wish) -> bool:
        """Computes, and draws the plane and the accuracies."""
        began, picture = time.perf_counter(), wish.picture
        self._frame = picture.accuracy(self._seeds)
        points, boundaries = picture.points(wish.sample), picture.boundaries(wish.sample)
        self._took = 1000 * (time.perf_counter() - began)
        plane = figures.three_task(points, boundaries, ranges=RANGES, height=HEIGHT)
        handles = [list(cloud.centre) for cloud in picture.clouds]
        meta = {"handles": {"points": handles, "labels": [name[-1] for name in TASKS], "noun": "cloud of task"}}
        self._show(self.plane, plane, wish, meta)
        limits = _limits(self._frame)
        self._show(self.accuracy, figures.three_task_accuracy(self._frame, limits=limits, height=BESIDE), wish)
        return True

    def _finish(self, wish: Wish, fresh: bool) -> bool:
        """Draws the turns, unless the mouse goes on and they were drawn a moment ago; False then."""
        now = time.monotonic()
        if fresh and wish.ticket is not None and now - self._completed_at < LATER:
            return False
        if wish is not self._completed and self._error is None:
            self._draw_turns(wish)
            self._completed, self._completed_at = wish, now
        self._say()
        return True

    def _draw_turns(self, wish: Wish) -> None:
        turns = wish.picture.turns(self._seeds)
        alone = turns.loc[turns["trained"] == "alone", "task"]
        self._missing = [self._seeds - int((alone == name).sum()) for name in TASKS]
        widest = 180 if (turns.loc[turns["task"] == TASKS[0], "turn"].abs() > 90).any() else 90
        limits = (-widest, widest)
        drawn = figures.three_task_turns(turns, other=wish.picture.offset, limits=limits, height=BESIDE)
        self._show(self.turns, drawn, wish)

    def _show(self, view: FigureView, figure: go.Figure, wish: Wish, more: Mapping[str, Any] | None = None) -> None:
        answers = {} if wish.ticket is None else {"answers": wish.ticket}
        figure.layout.meta = dict(figure.layout.meta) | dict(more or {}) | answers
        view.show(figure)

    def _say(self) -> None:
        said = [f"6 fits to each of {self._seeds} samples, and their accuracies: {milliseconds(self._took)}"]
        said += [follows(self.waits)] if self.waits else []
        said += [
            f"in {count} of {self._seeds} samples {name} has one class only: it then pulls nowhere"
            for name, count in zip(TASKS, self._missing, strict=True)
            if count
        ]
        self.status.value = html.escape("; ".join(said))

    def _question(self) -> str:
        name = self.controls.preset.value
        return SETTINGS[name].question if name else ""


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    """In percent, from ten to ten, so that the axis of task 1's accuracy does not move with each move of the mouse."""
    own = frame[frame["task"] == TASKS[0]]
    low, high = 10 * np.floor(10 * own["low"].min()), 10 * np.ceil(10 * own["high"].max())
    return float(max(low, 0.0)), float(max(min(high, 100.0), low + 10))
