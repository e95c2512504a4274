"""The controls of the Pareto lab: what is to be descended, and what of it is to be shown."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets

from mtlviz.figures.pareto_planes import CONTOURS
from mtlviz.pareto import PROBLEMS, Objectives
from mtlviz.pareto.loop import OPTIMIZERS
from mtlviz.pareto.methods import REFUSED
from mtlviz.weighting import METHODS
from mtlviz.widgets.descents import Settings, Start
from mtlviz.widgets.pareto_presets import PRESETS
from mtlviz.widgets.rows import dropdown, row, sized

STEPS = (100, 300, 1_000, 3_000, 5_000, 10_000, 20_000, 35_000, 50_000, 100_000)
RATES = (*(float(f"{digit}e{power}") for power in range(-5, 0) for digit in (1, 2, 3, 5, 7)), 1.0)
_TENTH = (1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.24, 2.5, 2.8, 3.15, 3.55, 4, 4.5, 5, 5.6, 6.3, 7.1, 8, 9)  # Renard's R20
SCALES = (*(float(f"{digit}e{power}") for power in (-2, -1, 0, 1) for digit in _TENTH), 100.0)
CONDITIONINGS = (*(scale for scale in SCALES if scale >= 1), *(10 * scale for scale in SCALES if scale > 10))
OFFSETS = tuple(half / 2 for half in range(101))
ANGLES = tuple(map(float, range(181)))
SHAPES = ("angle", "conditioning")  # settings that some problems have

_FRAMES = 50  # of the time scrubber's play button


@dataclass(frozen=True, eq=False)
class Wish:
    """What the user wants to see. step: None shows the end. ticket: of the move of a start that it answers, or None."""

    settings: Settings
    contours: str
    step: int | None
    followed: tuple[str, int]  # method, index of the start
    ticket: int | None = None


class ParetoControls(ipywidgets.VBox):
    """All that can be chosen; `changed` is called, on the thread of the change, when something was.

    settings, contours: what is chosen at first. labels: the methods to choose among, beside those of `METHODS`.
    load: is given a method's name before it is chosen for the first time.
    """

    def __init__(
        self,
        settings: Settings,
        contours: str,
        changed: Callable[[int | None], None],
        load: Callable[[str], None],
    ) -> None:
        self._changed, self._load = changed, load
        self.silent = True
        self.starts: tuple[Start, ...] = ()
        self._problem = settings.problem
        self.problems: dict[str, Objectives] = dict(PROBLEMS) | {settings.problem.name: settings.problem}
        self.methods = {name: _method(name) for name in dict.fromkeys((*METHODS, *settings.methods))}
        self.preset = dropdown(
            [("choose one …", ""), *((preset.question, name) for name, preset in PRESETS.items())], "Question", "480px"
        )
        self.look = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 8px", flex="1 1 320px"))
        self.problem = dropdown([(problem.title, name) for name, problem in self.problems.items()], "Problem", "330px")
        self.contours = dropdown(CONTOURS, "Contours", "160px")
        self.optimizer = dropdown(OPTIMIZERS, "Optimizer", "150px")
        self.steps = _choice("Steps", STEPS, "250px", "44px")
        self.lr = _choice("Learning rate", RATES, "310px", "88px")
        self.scale = tuple(_choice(f"Scale of loss {t}", SCALES, "320px", "98px") for t in (1, 2))
        self.offset = _choice(
            "Offset", OFFSETS, "260px", "44px", "added to both losses, for methods that need them above 0"
        )
        self.angle = _choice("Angle °", ANGLES, "270px", "50px")
        self.conditioning = _choice("Conditioning", CONDITIONINGS, "300px", "92px")
        self.reset = ipywidgets.Button(
            description="Starts back",
            icon="undo",
            tooltip="put the starts back",
            layout=ipywidgets.Layout(width="120px"),
        )
        self.play = ipywidgets.Play(interval=120, layout=ipywidgets.Layout(width="auto"))
        self.time = ipywidgets.IntSlider(description="Step", **sized("auto", "36px", flex="1 1 260px"))
        self.method = dropdown((), "Arrows along", "250px", "90px")
        self.start = dropdown((), "from start", "140px", "72px")
        self._link = ipywidgets.jslink((self.play, "value"), (self.time, "value"))
        self.when = row(self.play, self.time, self.method, self.start)
        super().__init__(self._rows())
        self.take(settings, contours)
        self.silent = False
        self._observe()

    @property
    def settings(self) -> Settings:
        """What is to be descended; no method may be chosen."""
        chosen = tuple(name for name, button in self.methods.items() if button.value)
        return Settings(chosen, self._problem, self.starts, self.steps.value, self.lr.value, self.optimizer.value)

    def wish(self, ticket: int | None = None) -> Wish:
        """What is wanted now."""
        step = None if self.time.value >= self.time.max else self.time.value
        return Wish(self.settings, self.contours.value, step, (self.method.value, self.start.value or 0), ticket)

    def take(self, settings: Settings, contours: str) -> None:
        """Chooses these settings, without a word to `changed`."""
        with self.quietly():
            problem = settings.problem
            self.problems[problem.name] = problem
            for name, button in self.methods.items():
                button.value = name in settings.methods
            self.problem.value, self.contours.value, self.optimizer.value = problem.name, contours, settings.optimizer
            _put(self.steps, settings.steps)
            _put(self.lr, settings.lr)
            for slider, factor in zip(self.scale, problem.scale, strict=True):
                _put(slider, factor)
            _put(self.offset, problem.offset)
            self._take_shape(problem)
            self._problem, self.starts, self._first_starts = problem, settings.starts, settings.starts
            self._follow_settings()
            self.time.value = self.time.max

    def move(self, start: int, place: Start, ticket: int) -> None:
        """Puts one start elsewhere."""
        if start < len(self.starts):
            self.starts = (*self.starts[:start], place, *self.starts[start + 1 :])
            self._changed(ticket)

    def close(self) -> None:
        """Closes every control too."""
        self._link.close()
        for child in (*_inside(self), *_inside(self.when), self.when):
            child.close()
        super().close()

    def _rows(self) -> list[ipywidgets.Widget]:
        label = ipywidgets.Label("Methods", layout=ipywidgets.Layout(margin="0 8px 0 0"))
        return [
            row(self.preset, self.look),
            row(label, *self.methods.values()),
            row(self.problem, self.contours, self.reset, self.angle, self.conditioning),
            row(*self.scale, self.offset),
            row(self.lr, self.optimizer, self.steps),
        ]

    def _observe(self) -> None:
        for name, button in self.methods.items():
            button.observe(lambda change, name=name: self._toggled(name, change["new"]), "value")
        plain = (self.contours, self.optimizer, self.lr, self.time, self.method, self.start)
        for control in plain:
            control.observe(lambda _: self._tell(), "value")
        self.steps.observe(lambda _: self._tell(), "value")
        for control in (*self.scale, self.offset, self.angle, self.conditioning):
            control.observe(lambda _: self._rescaled(), "value")
        self.problem.observe(lambda change: self._turned(change["new"]), "value")
        self.reset.on_click(lambda _: self._put_back())
        self.preset.observe(lambda change: self._say_what_to_look_for(change["new"]), "value")

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """What is set inside is not told."""
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def _tell(self) -> None:
        if not self.silent:
            with self.quietly():
                self._follow_settings()
            self._changed(None)

    def _toggled(self, name: str, chosen: bool) -> None:
        if chosen:
            self._load(name)
        self._tell()

    def _rescaled(self) -> None:
        """Another scale, offset or shape of the same problem."""
        if self.silent:
            return
        shape = {name: getattr(self, name).value for name in SHAPES if hasattr(self._problem, name)}
        scale = tuple(slider.value for slider in self.scale)
        if any(getattr(self._problem, name) != value for name, value in shape.items()):
            self._problem = replace(self._problem, **shape)
        self._problem = self._problem.scaled(scale, self.offset.value)
        self._tell()

    def _turned(self, name: str) -> None:
        """Another problem, with its own starts and usual scale."""
        if self.silent:
            return
        problem = self.problems[name]
        starts = tuple((float(x1), float(x2)) for x1, x2 in problem.starts)
        settings = replace(self.settings, problem=problem.scaled(problem.usual_scale), starts=starts)
        self.take(settings, self.contours.value)
        self._tell()

    def _say_what_to_look_for(self, name: str) -> None:
        self.look.value = (
            f'<div style="line-height:1.4"><b>Look for:</b> {html.escape(PRESETS[name].look)}</div>' if name else ""
        )

    def _put_back(self) -> None:
        self.starts = self._first_starts
        self._tell()

    def _take_shape(self, problem: Objectives) -> None:
        for name in SHAPES:
            control = getattr(self, name)
            control.layout.display = None if hasattr(problem, name) else "none"
            if hasattr(problem, name):
                _put(control, getattr(problem, name))

    def _follow_settings(self) -> None:
        """Lets the scrubber and the arrows choose among what there is."""
        at_end = self.time.value >= self.time.max
        steps = self.steps.value
        for part in (self.time, self.play):
            part.max = steps
            part.step = max(steps // (_FRAMES * (10 if part is self.time else 1)), 1)
        if at_end:
            self.time.value = steps
        chosen = [name for name, button in self.methods.items() if button.value]
        _offer(self.method, chosen)
        _offer(self.start, [(str(n + 1), n) for n in range(len(self.starts))])


def _inside(box: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    for child in getattr(box, "children", ()):
        yield from _inside(child)
        yield child


def _method(name: str) -> ipywidgets.ToggleButton:
    refused = name in REFUSED
    return ipywidgets.ToggleButton(
        value=False,
        description=name,
        disabled=refused,
        tooltip=f"{name}: its update is no weighted sum of the task gradients" if refused else f"descend with {name}",
        layout=ipywidgets.Layout(width="auto", height="26px"),
    )


def _choice(
    name: str, values: Sequence[float], width: str, label: str, tip: str | None = None
) -> ipywidgets.SelectionSlider:
    """A slider over these numbers exactly, where a logarithmic one would round 0.005 to 10 ** -2.3."""
    return ipywidgets.SelectionSlider(options=_written(values), description=name, tooltip=tip, **sized(width, label))


def _put(slider: ipywidgets.SelectionSlider, value: float) -> None:
    """Sets the value, also one that the slider does not have so far."""
    known = [number for _, number in slider.options]
    if value not in known:
        slider.options = _written(sorted([*known, value]))
    slider.value = value


def _written(values: Sequence[float]) -> list[tuple[str, float]]:
    return [(f"{value:,}" if isinstance(value, int) else f"{value:.4g}", value) for value in values]


def _offer(dropdown: ipywidgets.Dropdown, options: Sequence[Any]) -> None:
    """Sets the options; what was chosen stays, where it still can be."""
    if list(dropdown.options) != list(options):
        before = dropdown.value
        dropdown.options = options
        values = [option[1] if isinstance(option, tuple) else option for option in options]
        if values:
            dropdown.value = before if before in values else values[0]
