"""The controls of the three-task lab: where the boundaries and clouds are, and how many points each task has."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets

from mtlviz.figures import theme
from mtlviz.transfer import Cloud, ThreeTask
from mtlviz.transfer.three_task import TASKS
from mtlviz.widgets.rows import dropdown, row, sized
from mtlviz.widgets.three_task_presets import SETTINGS

ANGLES, TURNS = (-90.0, 180.0), (-90.0, 90.0)  # degrees
SPREADS, POINTS, NOISE = (0.1, 4.0), (2, 200), (0.0, 0.5)
_CLOUD = ("along", "across", "turn")


@dataclass(frozen=True, eq=False)
class Wish:
    """What the user wants to see: a picture, one of its samples. ticket: of the move that it answers, or None."""

    picture: ThreeTask
    sample: int
    ticket: int | None = None


class ThreeTaskControls(ipywidgets.VBox):
    """All that can be chosen; `changed` is called, on the thread of the change, when something was.

    picture, sample: what is chosen at first. seeds: how many samples there are to choose from.
    """

    def __init__(self, picture: ThreeTask, sample: int, seeds: int, changed: Callable[[int | None], None]) -> None:
        self._changed = changed
        self.silent = True
        self.preset = dropdown(
            [("choose one …", ""), *((setting.question, name) for name, setting in SETTINGS.items())],
            "Question",
            "480px",
        )
        self.look = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 8px", flex="1 1 320px"))
        self.boundary = _slider("Boundary of task 1 °", ANGLES, 1.0, "350px", "144px", ".0f")
        self.shared_boundary = _slider("of tasks 2 and 3 °", ANGLES, 1.0, "335px", "128px", ".0f")
        self.noise = _slider("Wrong labels", NOISE, 0.05, "280px", "96px")
        self.sample = _slider("Sample shown", (0, max(seeds - 1, sample)), 1, "290px", "106px")
        self.reset = ipywidgets.Button(
            description="Start over",
            icon="undo",
            tooltip="put clouds, boundaries and counts back",
            layout=ipywidgets.Layout(width="120px"),
        )
        self.samples = tuple(_slider("Points", POINTS, 1, "230px", "46px") for _ in TASKS)
        self.along = tuple(_slider("Along", SPREADS, 0.1, "230px", "42px") for _ in TASKS)
        self.across = tuple(_slider("Across", SPREADS, 0.1, "230px", "48px") for _ in TASKS)
        self.turn = tuple(_slider("Turned °", TURNS, 5.0, "240px", "60px", ".0f") for _ in TASKS)
        super().__init__(self._rows())
        self.take(picture, sample)
        self.silent = False
        for control in self._sliders():
            control.observe(lambda _: self._tell(), "value")
        self.preset.observe(lambda change: self._asked(change["new"]), "value")
        self.reset.on_click(lambda _: self._put_back())

    @property
    def picture(self) -> ThreeTask:
        """What is chosen."""
        first, second, third = (
            Cloud(centre, along=along.value, across=across.value, turn=turn.value)
            for centre, along, across, turn in zip(self.centres, self.along, self.across, self.turn, strict=True)
        )
        return replace(
            self._first,
            clouds=(first, second, third),
            boundary=self.boundary.value,
            shared_boundary=self.shared_boundary.value,
            samples=(self.samples[0].value, self.samples[1].value, self.samples[2].value),
            noise=self.noise.value,
        )

    def wish(self, ticket: int | None = None) -> Wish:
        """What is wanted now."""
        return Wish(self.picture, self.sample.value, ticket)

    def take(self, picture: ThreeTask, sample: int) -> None:
        """Chooses this picture and sample, without a word to `changed`."""
        with self.quietly():
            self._first, self._first_sample = picture, sample
            self.centres = tuple(cloud.centre for cloud in picture.clouds)
            for name in ("boundary", "shared_boundary", "noise"):
                _put(getattr(self, name), getattr(picture, name))
            _put(self.sample, sample)
            for name in _CLOUD:
                for slider, cloud in zip(getattr(self, name), picture.clouds, strict=True):
                    _put(slider, getattr(cloud, name))
            for slider, count in zip(self.samples, picture.samples, strict=True):
                _put(slider, count)

    def move(self, cloud: int, centre: tuple[float, float], ticket: int) -> None:
        """Puts the middle of one cloud elsewhere."""
        if cloud < len(self.centres):
            self.centres = (*self.centres[:cloud], centre, *self.centres[cloud + 1 :])
            self._changed(ticket)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """What is set inside is not told."""
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def choose(self, name: str) -> None:
        """Shows a question and what to look for, without a word to `changed`."""
        with self.quietly():
            self.preset.value = name

    def _rows(self) -> list[ipywidgets.Widget]:
        rows = [
            row(self.preset, self.look),
            row(self.boundary, self.shared_boundary, self.noise),
            row(self.sample, self.reset),
        ]
        for t, name in enumerate(TASKS):
            label = f'<b style="color:{theme.colour(t)}">{name}</b>'
            named = ipywidgets.HTML(label, layout=ipywidgets.Layout(margin="0 8px 0 0", width="48px"))
            rows.append(row(named, self.samples[t], self.along[t], self.across[t], self.turn[t]))
        return rows

    def _sliders(self) -> Iterator[ipywidgets.Widget]:
        yield from (self.boundary, self.shared_boundary, self.noise, self.sample)
        for group in (self.samples, self.along, self.across, self.turn):
            yield from group

    def _tell(self) -> None:
        if not self.silent:
            self._changed(None)

    def _asked(self, name: str) -> None:
        said = f"<b>Look for:</b> {html.escape(SETTINGS[name].look)}" if name else ""
        self.look.value = f'<div style="line-height:1.4">{said}</div>'
        if name and not self.silent:
            self.take(SETTINGS[name].picture, self.sample.value)
            self._changed(None)

    def _put_back(self) -> None:
        self.take(self._first, self._first_sample)
        self._changed(None)


def _slider(name: str, limits: tuple[float, float], step: float, width: str, label: str, readout: str = ".2f") -> Any:
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    shown = {} if isinstance(step, int) else {"readout_format": readout}
    return kind(min=limits[0], max=limits[1], step=step, description=name, **shown, **sized(width, label))


def _put(slider: Any, value: float) -> None:
    """Sets the value, also one beyond the slider's ends."""
    slider.min, slider.max = min(slider.min, value), max(slider.max, value)
    slider.value = value
