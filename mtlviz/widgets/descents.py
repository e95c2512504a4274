"""The descents behind the Pareto lab: only those trajectories are computed that are not known yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mtlviz import pareto
from mtlviz.pareto import Descent, Landscape, Moment, Objectives
from mtlviz.pareto.methods import labelled
from mtlviz.pareto.result import Ends
from mtlviz.runlog.records import Floats
from mtlviz.weighting.method import Weighting

POINTS = 1000  # kept of each trajectory: the eye sees no more, and each move of a start computes with them
AT_ONCE = 6_000_000  # steps of all trajectories that are computed before anybody asks whether they are still wanted

Start = tuple[float, float]
Weightings = Mapping[str, "str | Weighting"]


@dataclass(frozen=True, eq=False)
class Settings:
    """What is to be descended: `methods` by their labels, from `starts`, on `problem` with its scale and offset."""

    methods: tuple[str, ...]
    problem: Objectives
    starts: tuple[Start, ...]
    steps: int
    lr: float
    optimizer: str

    @classmethod
    def of(cls, descent: Descent) -> Settings:
        """The settings of a descent."""
        starts = tuple((float(x1), float(x2)) for x1, x2 in descent.starts)
        return cls(descent.methods, descent.problem, starts, descent.steps, descent.lr, descent.optimizer)

    @property
    def base(self) -> tuple[object, ...]:
        """What a trajectory depends on beside its method and its start."""
        problem = (type(self.problem), self.problem.constants().tobytes(), self.problem.scale, self.problem.offset)
        return *problem, self.steps, self.lr, self.optimizer


@dataclass(frozen=True)
class Work:
    """What was computed at one go, and how long it took."""

    methods: int
    starts: int
    steps: int
    seconds: float


class _Row(NamedTuple):
    """One trajectory, as `Descent` and `Ends` hold many."""

    x: Floats
    weights: Floats
    code: int
    last: int
    conflicts: int
    late: Floats


class Descents:
    """Keeps the trajectories of the newest descent, one of every step, and landscapes; for one thread at a time.

    weightings: what each label stands for, methods with settings of their own among them.
    """

    def __init__(self, weightings: Weightings) -> None:
        self.weightings = dict(weightings)
        self.work: Work | None = None
        self._notes: dict[str, tuple[str, ...]] = {}
        self._pattern: Descent | None = None  # the newest that was computed
        self._base: tuple[object, ...] = ()
        self._rows: dict[tuple[str, Start], _Row] = {}
        self._newest: tuple[tuple[object, ...], Descent] | None = None
        self._followed: tuple[tuple[object, ...], Descent] | None = None
        self._landscapes: dict[tuple[object, ...], Landscape] = {}

    @property
    def notes(self) -> Mapping[str, tuple[str, ...]]:
        """What each method that was descended says of its settings, by label; nothing warns of it here."""
        return MappingProxyType(self._notes)

    def descent(self, settings: Settings, unwanted: Callable[[], bool] = lambda: False) -> Descent | None:
        """The descent with these settings; None if it became `unwanted` while it was computed.

        Raises: as `mtlviz.pareto.descend` does.
        """
        key = (*settings.base, settings.methods, settings.starts)
        if self._newest is not None and self._newest[0] == key:
            return self._newest[1]
        if settings.base != self._base:
            self._rows, self._base = {}, settings.base
        began, methods, starts = time.perf_counter(), set[str](), set[Start]()
        for some, places in self._missing(settings):
            if methods and unwanted():
                return None
            self._keep(self._descended(settings, some, places, POINTS))
            methods |= set(some)
            starts |= set(places)
        if methods:
            self.work = Work(len(methods), len(starts), settings.steps, time.perf_counter() - began)
        self._newest = key, self._assembled(settings)
        return self._newest[1]

    def first(self, methods: Mapping[str, Weighting], starts: Any, problem: str | Objectives, **run: Any) -> Descent:
        """The descent that `mtlviz.pareto.descend` makes of these arguments, and is then known. Raises: as it does."""
        began = time.perf_counter()
        descent = pareto.descend(methods, starts, problem, points=POINTS, warn=False, **run)
        self._base = Settings.of(descent).base
        self._keep(descent)
        self.work = Work(len(descent.methods), len(descent.starts), descent.steps, time.perf_counter() - began)
        return descent

    def moment(self, settings: Settings, method: str, start: int, step: int) -> Moment:
        """What every method would do at this step of the trajectory of `method` from the start of this index.

        Raises: as `mtlviz.pareto.probe` does.
        """
        place = settings.starts[start]
        key = (*settings.base, method, place)
        if self._followed is None or self._followed[0] != key:
            self._followed = key, self._descended(settings, [method], [place], None)
        path = self._followed[1].x[0, 0]
        there = int(np.isfinite(path[:, 0]).sum())  # NaN only follows the end
        walked = path[: min(step + 1, there)] if there else np.array([place])
        return pareto.probe(self._named(settings.methods), walked, settings.problem)

    def landscape(self, problem: Objectives) -> Landscape:
        """The landscape of the problem, the same one whatever the scale: it is in own units."""
        key = (type(problem), problem.constants().tobytes())
        if key not in self._landscapes:
            if len(self._landscapes) >= 12:  # sliders of a problem's shape leave many behind
                self._landscapes.pop(next(iter(self._landscapes)))
            self._landscapes[key] = problem.landscape()
        return self._landscapes[key]

    def _missing(self, settings: Settings) -> Iterator[tuple[list[str], list[Start]]]:
        """Methods and starts whose trajectories are not known, in portions."""
        unknown = {
            start: tuple(name for name in settings.methods if (name, start) not in self._rows)
            for start in settings.starts
        }
        alike = sorted((start for start in unknown if unknown[start]), key=unknown.__getitem__)
        for methods, group in groupby(alike, key=unknown.__getitem__):
            starts = list(group)
            portion = max(AT_ONCE // (len(starts) * settings.steps), 1)
            for first in range(0, len(methods), portion):
                yield list(methods[first : first + portion]), starts

    def _descended(
        self, settings: Settings, methods: Sequence[str], starts: Sequence[Start], points: int | None
    ) -> Descent:
        return pareto.descend(
            self._named(methods),
            starts,
            settings.problem,
            steps=settings.steps,
            lr=settings.lr,
            optimizer=settings.optimizer,
            points=points,
            warn=False,  # from a worker's thread it would come under whatever cell is the newest, at each move
        )

    def _named(self, methods: Sequence[str]) -> Weightings:
        return {name: self.weightings[name] for name in methods}

    def _keep(self, descent: Descent) -> None:
        ends = descent.ends
        for m, method in enumerate(descent.methods):
            if method not in self._notes:
                self._notes[method] = labelled(self._named([method]))[method].notes(2)
            for n, (x1, x2) in enumerate(descent.starts):
                code, last, conflicts = (int(part[m, n]) for part in (ends.code, ends.last, ends.conflicts))
                row = _Row(descent.x[m, n], descent.weights[m, n], code, last, conflicts, ends.late[m, n])
                self._rows[method, (float(x1), float(x2))] = row
        self._pattern = descent

    def _assembled(self, settings: Settings) -> Descent:
        assert self._pattern is not None  # rows are there, so that they were kept
        pairs = [[(method, start) for start in settings.starts] for method in settings.methods]
        rows = [[self._rows[pair] for pair in line] for line in pairs]
        self._rows = {pair: self._rows[pair] for line in pairs for pair in line}
        x, weights, code, last, conflicts, late = (
            np.array([[row[part] for row in line] for line in rows]) for part in range(len(_Row._fields))
        )
        return replace(
            self._pattern,
            problem=settings.problem,
            methods=settings.methods,
            starts=np.array(settings.starts),
            x=x,
            weights=weights,
            ends=Ends(code, last, conflicts, late),
        )
