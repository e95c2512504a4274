"""When each task has converged: a pure rule over the stream of validations, for live runs and stored logs alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

Phase = Literal["supervised", "distilled", "waiting"]


class Judged(Protocol):
    """What the rule must know of a task."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def direction(self) -> str | None:
        """The way its metric gets better, "max" or "min"."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What counts as convergence.

    A task converges once `patience` validations in a row have not improved on its best by more than `min_delta` (0: any
    gain counts). NaN and infinite values never improve, and a task without a finite value never converges.

    order: None where all tasks learn from the start; else the order in which they are added, one when the one before
    has converged. distils: whether converged tasks learn from soft labels from then on.

    Raises: ValueError naming the setting and the task.
    Source: Lu et al., NAACL 2022 industry track, section 3. Differs: what counts as an improvement is not stated there.
    """

    directions: Mapping[str, str]
    patience: Mapping[str, int]
    min_delta: Mapping[str, float]
    order: tuple[str, ...] | None = None
    distils: bool = True

    def __post_init__(self) -> None:
        for task, n in self.patience.items():
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise ValueError(f"patience counts validations, a whole number from 1; for {task!r} it is {n!r}")
        for task, least in self.min_delta.items():
            if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least < math.inf:
                raise ValueError(f"min_delta must be a finite number from 0; for {task!r} it is {least!r}")
        if self.order is not None and sorted(self.order) != sorted(self.directions):
            raise ValueError(f"order must name each task once: {list(self.directions)}; it is {list(self.order)}")

    @classmethod
    def of(
        cls,
        tasks: Sequence[Judged],
        *,
        patience: int | Mapping[str, int] = 3,
        min_delta: float | Mapping[str, float] = 0.0,
        order: Iterable[str] | None = None,
        distils: bool = True,
    ) -> Rule:
        """The rule for tasks; patience and min_delta are one number for all, or a mapping that names every task."""
        names = [task.name for task in tasks]
        return cls(
            directions={task.name: str(task.direction) for task in tasks},
            patience=_each("patience", patience, names),
            min_delta=_each("min_delta", min_delta, names),
            order=None if order is None else tuple(order),
            distils=distils,
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(self.directions)

    def config(self) -> dict[str, Any]:
        """The settings as JSON values."""
        order = None if self.order is None else list(self.order)
        numbers = {"patience": dict(self.patience), "min_delta": dict(self.min_delta)}
        return numbers | {"order": order, "distils": self.distils}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tasks: Sequence[Judged]) -> Rule:
        """The rule that `config` kept; raises KeyError where a setting is missing."""
        keys = ("patience", "min_delta", "order", "distils")
        return cls.of(tasks, **{key: config[key] for key in keys})

    def improves(self, task: str, value: float, best: float | None) -> bool:
        """Whether a value improves on a task's best, None where there is none."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        gain = value - best if self.directions[task] == "max" else best - value
        return gain > self.min_delta[task]


class Signal(NamedTuple):
    """What the rule says at one moment; becomes an event of the log, field by field."""

    step: int
    position: int
    kind: str  # "convergence", "rewind", "distillation", "task_added" or "step_cap"
    task: str | None = None
    detail: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Watch(NamedTuple):
    """What is known of a task that learns: its best validation, and how many have come since."""

    best: float | None = None
    step: int = 0
    position: int = 0
    waited: int = 0


class _Moment(NamedTuple):
    """The rule's state right after the validations of a step, to go back to."""

    position: int
    watches: dict[str, Watch]
    values: dict[str, float]


class Convergence:
    """Follows a run: takes its validations round by round and says who has converged, and where to go back to.

    A convergence rewinds the run to the best validation of the task that converged. Of several that are out of patience
    at one validation, the one with the earliest best goes first, with those whose best is that very validation; the
    others get back the counters and best scores that they had there, and go on. Converged tasks stay converged,
    so there are at most T rewinds. A task that is added starts from the value that was measured where it is added.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.converged: dict[str, int] = {}  # task -> step of its best validation, in the order of convergence
        self._waiting = list(rule.order or ())
        self._watches = {} if rule.order else {task: Watch() for task in rule.tasks}
        self._moments: dict[int, _Moment] = {}

    @property
    def phases(self) -> dict[str, Phase]:
        """What each task does now."""
        after: Phase = "distilled" if self.rule.distils else "supervised"
        phases: dict[str, Phase] = dict.fromkeys(self.rule.tasks, "supervised")
        waiting: Phase = "waiting"
        return phases | dict.fromkeys(self.converged, after) | dict.fromkeys(self._waiting, waiting)

    @property
    def done(self) -> bool:
        """Whether every task has converged."""
        return len(self.converged) == len(self.rule.tasks)

    def _open(self) -> dict[str, int]:
        return {task: watch.step for task, watch in self._watches.items() if watch.best is not None}

    def begin(self) -> list[Signal]:
        """Adds the first task of a sequence, before anything was done."""
        return [self._add(0, 0, {})] if self._waiting else []

    def validation(self, step: int, position: int, values: Mapping[str, float]) -> list[Signal]:
        """What follows from one round of validations, a value per task; NaN or missing where it has none."""
        for task, watch in self._watches.items():
            value = float(values.get(task, math.nan))
            if self.rule.improves(task, value, watch.best):
                self._watches[task] = Watch(value, step, position)
            elif watch.best is not None:
                self._watches[task] = watch._replace(waited=watch.waited + 1)
        self._moments[step] = _Moment(position, dict(self._watches), dict(values))
        late = {t: w for t, w in self._watches.items() if w.best is not None and w.waited >= self.rule.patience[t]}
        signals = self._converge(step, position, late) if late else []
        reachable = self._reachable()
        self._moments = {at: moment for at, moment in self._moments.items() if at in reachable}
        return signals

    def _converge(self, step: int, position: int, late: Mapping[str, Watch]) -> list[Signal]:
        earliest = min(watch.position for watch in late.values())
        going = {task: watch for task, watch in late.items() if watch.position == earliest}
        signals = []
        for task, watch in going.items():
            detail = {"best": watch.best, "best_step": watch.step, "best_position": watch.position}
            detail["patience"] = self.rule.patience[task]
            signals.append(Signal(step, position, "convergence", task, detail))
            self.converged[task] = watch.step
        to_step = next(iter(going.values())).step
        moment = self._moments[to_step]
        self._watches = {task: watch for task, watch in moment.watches.items() if task not in self.converged}
        to = {"to": earliest, "step": to_step, "tasks": list(going)}
        signals.append(Signal(step, earliest, "rewind", None, to))
        if self.rule.distils and not self.done:
            signals += [Signal(step, earliest, "distillation", task) for task in going]
        if self._waiting and not self._watches:
            signals.append(self._add(step, to_step, moment.values))
        return signals

    def _add(self, step: int, measured: int, values: Mapping[str, float]) -> Signal:
        """The next task of a sequence begins from what it scored in the validations of the step `measured`."""
        task = self._waiting.pop(0)
        position = self._moments[measured].position if measured in self._moments else 0
        value = float(values.get(task, math.nan))
        self._watches[task] = Watch(value, measured, position) if math.isfinite(value) else Watch()
        if measured in self._moments:
            self._moments[measured].watches[task] = self._watches[task]
        return Signal(step, position, "task_added", task)

    def end(self, step: int, position: int) -> list[Signal]:
        """What to say when the run has done all the steps that it may; tasks without a finite value are named."""
        if self.done:
            return []
        left = [task for task in self.rule.tasks if task not in self.converged]
        blind = [task for task, watch in self._watches.items() if watch.best is None]
        detail = {"unconverged": left} | ({"never_finite": blind} if blind else {})
        return [Signal(step, position, "step_cap", None, detail)]

    def needed(self) -> frozenset[int]:
        """The steps of the validations whose checkpoints are some task's best, or may still be gone back to."""
        return self._reachable() | frozenset(self.converged.values())

    def _reachable(self) -> frozenset[int]:
        """The steps to whose state a convergence may go back.

        A best score may have been restored by a rewind, and bring back older ones in turn.
        """
        found: set[int] = set()
        open_ = set(self._open().values())
        while open_:
            step = open_.pop()
            found.add(step)
            older = self._moments[step].watches.items()
            open_ |= {w.step for t, w in older if w.best is not None and t not in self.converged} - found
        return frozenset(found)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        moments = {
            step: [moment.position, {t: list(w) for t, w in moment.watches.items()}, dict(moment.values)]
            for step, moment in self._moments.items()
        }
        watches = {task: list(watch) for task, watch in self._watches.items()}
        waiting = list(self._waiting)
        return {"converged": dict(self.converged), "waiting": waiting, "watches": watches, "moments": moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.converged, self._waiting = dict(state["converged"]), list(state["waiting"])
        self._watches = {task: Watch(*watch) for task, watch in state["watches"].items()}
        self._moments = {
            int(step): _Moment(position, {t: Watch(*w) for t, w in watches.items()}, dict(values))
            for step, (position, watches, values) in state["moments"].items()
        }


def _each(name: str, value: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """A setting of every task, from one value or a mapping."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(tasks, value)
    if wrong := [task for task in value if task not in tasks]:
        raise ValueError(f"{name} names unknown tasks {wrong}; the tasks are {list(tasks)}")
    if missing := [task for task in tasks if task not in value]:
        raise ValueError(f"{name} needs a number for every task; missing: {missing}")
    return {task: value[task] for task in tasks}
