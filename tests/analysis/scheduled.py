"""Runs with a schedule, without a trainer: the rule decides over made validations, and a log is written accordingly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mtlviz.convergence import Convergence, Rule, Signal
from mtlviz.runlog import Event, Record, RunInfo, RunLog, Step, TaskInfo, Validation
from tests.analysis.runs import filled

Value = Callable[[str, int, str, int], float]
"""A task's metric at a position, in its phase there; the last argument counts the rewinds so far."""


def scheduled_records(
    info: RunInfo, rule: Rule, value: Value, *, every: int, most: int, silent: Sequence[str] = ()
) -> Iterator[Record]:
    """The records of a run of up to `most` updates that validates at each `every`-th position.

    Tasks named in `silent` are never validated.
    """
    follows, T, time = Convergence(rule), len(info.tasks), 0.0
    step = position = rewinds = 0

    def validated() -> Iterator[Record]:
        nonlocal position, rewinds
        values = {
            t.name: value(t.name, position, follows.phases[t.name], rewinds) for t in info.tasks if t.name not in silent
        }
        for task in info.tasks:
            if task.name in values:
                yield Validation(step, position, task.name, task.metric, values[task.name])
        for signal in follows.validation(step, position, values):
            yield _event(signal)
            if signal.kind == "rewind":
                position, rewinds = signal.position, rewinds + 1

    yield Event(0, 0, "start")
    yield from map(_event, follows.begin())
    yield from validated()
    while step < most and not follows.done:
        phases = tuple(follows.phases[task.name] for task in info.tasks)
        step, position, time = step + 1, position + 1, time + 0.01
        waits = np.array([phase == "waiting" for phase in phases])
        gramian = np.where(waits[:, None] | waits, np.nan, np.eye(T))
        losses = np.where(waits, np.nan, np.exp(-position / 200) + 0.1)
        samples = np.where(waits, 0, 8)
        yield Step(step, position, time, losses, (~waits).astype(np.float64), gramian, samples, 0.1, phases)
        if position % every == 0 or step == most:
            yield from validated()
    yield from map(_event, follows.end(step, position))
    yield Event(step, position, "finish")


def _event(signal: Signal) -> Event:
    return Event(*signal)


def scheduled_info(
    names: Sequence[str], rule: Rule, *, every: int, kind: str = "joint", metrics: Sequence[str] = ("accuracy (%)",)
) -> RunInfo:
    """What such a run's log says of itself."""
    tasks = tuple(
        TaskInfo(name, metrics[i % len(metrics)], rule.directions[name], samples={"train": 100 * (i + 1)})
        for i, name in enumerate(names)
    )
    schedule = {"kind": kind, "validate_every": every, "converged_share": 1.0, "rewarm": 0} | rule.config()
    return RunInfo("made", tasks, config={"weighting": "equal", "schedule": schedule})


def rising_and_falling(names: Sequence[str], *, every: int, seed: int = 0) -> Value:
    """Each task peaks at a position of its own; a distilled one stays there; one that waits is near chance."""
    places = {name: i for i, name in enumerate(names)}

    def value(task: str, position: int, phase: str, rewinds: int) -> float:
        place = places[task]
        peak = every * (3 + 2.3 * (place * 7 % len(names)) ** 0.9)
        noise = np.random.default_rng([seed, place, position, rewinds]).normal(scale=0.15)
        if phase == "waiting":
            return 12.0 + noise
        learnt = 88 - 60 * np.exp(-2.5 * min(position, peak) / peak) - place % 5
        overfit = 0.0 if phase == "distilled" else 5 * max(0.0, position - peak) / peak
        return learnt - overfit + noise

    return value


def scheduled_run(
    names: Sequence[str] = ("size", "kind", "place"),
    *,
    patience: int = 3,
    every: int = 50,
    most: int = 10_000,
    order: Sequence[str] | None = None,
    distils: bool = True,
    metrics: Sequence[str] = ("accuracy (%)",),
    seed: int = 0,
) -> RunLog:
    """The log of a run in which each task peaks at a time of its own."""
    tasks = [TaskInfo(name, "", "max") for name in names]
    rule = Rule.of(tasks, patience=patience, order=order, distils=distils)
    kind = "joint" if order is None else "sequential" if distils else "continual"
    info = scheduled_info(names, rule, every=every, kind=kind, metrics=metrics)
    value = rising_and_falling(names, every=every, seed=seed)
    return filled(info, list(scheduled_records(info, rule, value, every=every, most=most)))
