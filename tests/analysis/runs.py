"""A run small enough to work out by hand, which the tests of analyses, figures and report share."""

from __future__ import annotations

import numpy as np

from mtlviz.runlog import Event, Record, RunInfo, RunLog, Step, TaskInfo, Validation
from mtlviz.runlog.records import Floats

INFO = RunInfo(
    problem="hand",
    tasks=(
        TaskInfo("a", "accuracy", "max", samples={"train": 100}),
        TaskInfo("b", "rmse", "min", samples={"train": 50}),
        TaskInfo("c", "accuracy", "max"),
    ),
    layers=("conv", "fc"),
    config={"weighting": "equal"},
)
NAN = float("nan")


def step(
    number: int,
    J: Floats,
    losses: list[float],
    weights: list[float],
    *,
    position: int | None = None,
    layers: bool = True,
) -> Step:
    """A step with the gradients J (T, P): the first coordinate is layer one, the rest layer two; NaN rows: absent."""
    parts = np.stack([J[:, :1] @ J[:, :1].T, J[:, 1:] @ J[:, 1:].T])
    absent = np.isnan(losses)
    return Step(
        step=number,
        position=number if position is None else position,
        time=number / 2,
        losses=np.array(losses),
        weights=np.array(weights),
        gramian=J @ J.T,
        samples=np.where(absent, 0, 8),
        learning_rate=0.1,
        phases=("supervised",) * len(losses),
        layers=parts if layers else None,
    )


THREE_STEPS: list[Record] = [
    Event(0, 0, "start"),
    Validation(0, 0, "a", "accuracy", 0.1),
    Validation(0, 0, "b", "rmse", 3.0),
    # norms 5, 1, 5; ⟨a,b⟩ = -5, the others 0; relative rates 2, 3, 1; shares 20/41, -4/41, 25/41
    step(1, np.array([[3.0, 4.0], [-0.6, -0.8], [4.0, -3.0]]), [10.0, 3.0, 5.0], [1.0, 1.0, 1.0]),
    # c absent; norms 2, 1; ⟨a,b⟩ = 0; relative rates 2, 2; shares 1/2, 1/2
    step(2, np.array([[2.0, 0.0], [0.0, 1.0], [NAN, NAN]]), [4.0, 2.0, NAN], [1.0, 2.0, 0.0]),
    Validation(2, 2, "a", "accuracy", 0.9),
    Validation(2, 2, "b", "rmse", 1.0),
    # c without gradient; norms √2, 1, 0; ⟨a,b⟩ = -1; relative rates √2, 4, -; no update, so no shares
    step(3, np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]), [2.0, 4.0, 7.0], [0.0, 0.0, 1.0]),
    Validation(3, 3, "a", "accuracy", 0.9),
    Validation(3, 3, "b", "rmse", 2.0),
    Event(3, 3, "finish"),
]


def hand() -> RunLog:
    """The three steps above."""
    return filled(INFO, THREE_STEPS)


def rewound() -> RunLog:
    """Five steps, of which the third and fourth were thrown away: a conflicts with b there, and nowhere else."""
    agree, fight = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    records: list[Record] = [step(n, agree, [n, n, n], [1, 1, 1]) for n in (1, 2)]
    records += [step(n, fight, [n, n, n], [1, 1, 1]) for n in (3, 4)]
    records += [Validation(2, 2, "a", "accuracy", 0.5), Validation(4, 4, "a", "accuracy", 0.99)]
    records += [Event(4, 2, "rewind", None, {"to": 2}), step(5, agree, [5, 5, 5], [1, 1, 1], position=3)]
    return filled(INFO, [*records, Validation(5, 3, "a", "accuracy", 0.6)])


def filled(info: RunInfo, records: list[Record]) -> RunLog:
    """A log in memory with the records."""
    log = RunLog.create(None, info)
    for record in records:
        log.append(record)
    return log


def long_run(count: int, *, tasks: int = 5, names: list[str] | None = None, layers: bool = True) -> RunLog:
    """The log of `made`."""
    return filled(*made(count, names=names or [f"task {i}" for i in range(tasks)], layers=layers))


def made(count: int, *, names: list[str], seed: int = 0, layers: bool = True) -> tuple[RunInfo, list[Record]]:
    """A made run with everything that a log can hold: absent tasks, a rewind, layers, validations of three metrics."""
    rng = np.random.default_rng(seed)
    metrics = ("accuracy (%)", "(1 − RMSE) × 100", "PR-AUC × 100")
    kinds = tuple(
        TaskInfo(name, metrics[i % 3], "max", samples={"train": 100 * (i + 1)}) for i, name in enumerate(names)
    )
    records: list[Record] = [Event(0, 0, "start")]
    back, base = 0, rng.normal(size=(len(names), 12)) + 0.2
    for n in range(1, count + 1):
        J = base * np.exp(-n / count) + rng.normal(size=base.shape)
        losses = np.exp(-2 * n / count + rng.normal(scale=0.2, size=len(names))) * 2.0 ** -np.arange(len(names))
        absent = (rng.random(len(names)) < 0.2) & (np.arange(len(names)) % 2 == 1)
        J[absent], losses[absent] = NAN, NAN
        weights = np.where(absent, 0.0, 1 + 0.5 * np.sin(6 * n / count + np.arange(len(names))))
        records.append(step(n, J, list(losses), list(weights), position=n - back, layers=layers and n % 5 == 0))
        if n % max(1, count // 12) == 0:
            for i, task in enumerate(kinds):
                value = 100 * (1 - np.exp(-3 * n / count) * (0.5 + 0.1 * i)) + rng.normal()
                records.append(Validation(n, n - back, task.name, task.metric, value))
        if n == 2 * count // 3:
            back = count // 10
            records.append(Event(n, n - back, "rewind", names[0], {"to": n - back}))
    info = RunInfo(
        "made", kinds, layers=("conv", "fc") if layers else (), config={"weighting": "equal", "steps": count}
    )
    return info, records
