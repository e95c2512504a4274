"""Small runs that the log's tests share."""

from __future__ import annotations

import numpy as np

from mtlviz.runlog import Event, Measure, Record, RunInfo, RunLog, Step, TaskInfo, Validation

TASKS = ("left", "right")
INFO = RunInfo(
    problem="hand",
    tasks=(TaskInfo("left", "accuracy", "max"), TaskInfo("right", "pr_auc", "min", samples={"train": 9})),
    layers=("conv", "fc"),
    config={"weighting": "equal", "seed": 0},
)


def step(number: int, position: int | None = None, *, layers: bool = False, tasks: int = 2) -> Step:
    """A step whose every number follows from its number, so that a reader can tell a right row from a wrong one."""
    J = np.random.default_rng(number).normal(size=(2, tasks, 3))
    parts = J @ J.transpose(0, 2, 1)
    return Step(
        step=number,
        position=number if position is None else position,
        time=number / 4,
        losses=np.arange(tasks) + number / 8,
        weights=np.full(tasks, 1.0 / number),
        gramian=parts.sum(axis=0),
        samples=np.arange(tasks) + number,
        learning_rate=0.1 / number,
        phases=("supervised",) * tasks,
        layers=parts if layers else None,
    )


def info(tasks: int) -> RunInfo:
    """A run of so many tasks."""
    return RunInfo("many", tuple(TaskInfo(f"task {i}", "accuracy", "max") for i in range(tasks)))


def story(count: int) -> list[Record]:
    """A run of `count` steps with every kind of record, among them a rewind half way."""
    records: list[Record] = [Event(0, 0, "start")]
    back = 0
    for number in range(1, count + 1):
        records.append(step(number, number - back, layers=number % 3 == 0))
        if number % 4 == 0:
            records += [Validation(number, number - back, task, "accuracy", number / 100) for task in TASKS]
            records.append(Measure(number, "affinity", number / 7, "left", "right", "fc"))
        if number == count // 2:
            back = 2
            records.append(Event(number, number - back, "rewind", "left", {"to": number - back, "best": float("nan")}))
    return records


def filled(log: RunLog, records: list[Record]) -> RunLog:
    """The log with the records appended."""
    for record in records:
        log.append(record)
    return log
