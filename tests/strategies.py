"""Hypothesis strategies for valid inputs: Gramians, run infos, records and whole streams of records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mtlviz.convergence import Rule
from mtlviz.runlog import PHASES, Event, Measure, Record, RunInfo, Step, TaskInfo, Validation
from mtlviz.runlog.records import Floats
from tests.analysis.scheduled import scheduled_info, scheduled_records

# A busy machine must not turn a right answer into a failure.
settings.register_profile("mtlviz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mtlviz")

_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_names.filter(lambda k: k != "$float"), inner, max_size=3)
    ),
    max_leaves=6,
)
details = st.dictionaries(_names.filter(lambda k: k not in ("$float", "to")), _json, max_size=3)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def gramians(draw: st.DrawFn, *, tasks: int, largest: int = 12) -> Floats:
    """PSD (T, T) of any rank from 0 on, the tasks' gradients scaled by powers of ten between ±`largest` / 2."""
    rank = draw(st.integers(0, tasks + 2))
    exponents = draw(st.lists(st.integers(-largest // 2, largest // 2), min_size=tasks, max_size=tasks))
    J = np.random.default_rng(draw(seeds)).normal(size=(tasks, rank)) * 10.0 ** np.array(exponents)[:, None]
    return J @ J.T


@st.composite
def hard_gramians(draw: st.DrawFn, *, largest: int = 8) -> Floats:
    """PSD (T, T) of up to `largest` tasks: with copies, opposites, zero rows, dependent rows, scales 1e-15 to 1e15."""
    tasks = draw(st.integers(1, largest))
    J = np.random.default_rng(draw(seeds)).normal(size=(tasks, draw(st.integers(1, tasks + 2))))
    for row in range(1, tasks):
        kind = draw(st.sampled_from(["free", "free", "copy", "opposite", "zero", "near"]))
        near = J[0] + 1e-9 * J[row]
        J[row] = {"free": J[row], "copy": J[0], "opposite": -J[0], "zero": 0 * J[0], "near": near}[kind]
    spread = draw(st.sampled_from([0.0, 1.0, 4.0]))
    J *= 10.0 ** (spread * np.random.default_rng(draw(seeds)).uniform(-1, 1, size=(tasks, 1)))
    return J @ J.T * 10.0 ** draw(st.sampled_from([-15, -8, 0, 8, 15])) * draw(st.sampled_from([0.0, 1.0, 1.0, 1.0]))


@st.composite
def gramians_of_two(draw: st.DrawFn) -> Floats:
    """(2, 2) of lengths from 1e-6 to 1e6 or 0, alike to rounding or not, the cosine anywhere or 1e-16 to 0.1 off ±1."""
    lengths = 10.0 ** np.array([draw(st.floats(-6, 6)), draw(st.floats(-6, 6))])
    if draw(st.booleans()):
        lengths[1] = lengths[0] * (1.0 + draw(st.sampled_from([0.0, 1.0, -1.0])) * 10.0 ** draw(st.floats(-16, 0)) / 2)
    lengths *= draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (1, 1), (0, 1), (1, 0), (0, 0)]))
    near = 1.0 - 10.0 ** draw(st.floats(-16, -1))
    cosine = draw(st.sampled_from([-1.0, -near, 0.0, near, 1.0]) | st.floats(-1, 1))
    first, second = lengths
    return np.array([[first**2, cosine * first * second], [cosine * first * second, second**2]])


@st.composite
def rounded_gramians(draw: st.DrawFn, *, largest: int = 12) -> Floats:
    """Symmetric (T, T), T from 2, of dependent gradients: rounded to float32, or off by up to 1e-7 of each entry.

    The rounding decides where nothing else does, so a matrix may be indefinite.
    """
    tasks = draw(st.integers(2, largest))
    rng = np.random.default_rng(draw(seeds))
    J = rng.normal(size=(tasks, draw(st.integers(1, tasks))))
    kind = draw(st.sampled_from(["as is", "stationary", "copies", "opposite", "lengths"]))
    if kind == "stationary":
        J -= J.mean(axis=0)
    elif kind in ("copies", "opposite"):
        J[tasks // 2 :] = J[: tasks - tasks // 2] * rng.uniform(0.2, 5) * (1 if kind == "copies" else -1)
    elif kind == "lengths":
        J *= 10.0 ** rng.uniform(-4, 4, size=(tasks, 1))
    exact, noise = J @ J.T, rng.normal(size=(tasks, tasks))
    size = draw(st.sampled_from([None, 1e-7, 1e-10, 1e-13]))
    if size is None:
        return exact.astype(np.float32).astype(np.float64)
    return exact * (1 + size * (noise + noise.T) / 2)


@st.composite
def wide_gramians(draw: st.DrawFn) -> Floats:
    """(T, T) with T up to 40 of any rank, with repeated, opposite and zero rows, and G's diagonal over 30 decades."""
    tasks, extra = draw(st.integers(1, 40) if draw(st.booleans()) else st.integers(1, 6)), draw(st.integers(-20, 20))
    rng = np.random.default_rng(draw(seeds))
    j = rng.normal(size=(tasks, max(tasks + extra, 1)))
    j += draw(st.sampled_from([0.0, 1, 3])) * rng.normal(size=j.shape[1])
    half = tasks // 2
    kind = draw(st.sampled_from(["as is", "repeated", "opposite", "zero", "parallel"]))
    if tasks > 1:
        j[-1] = {"repeated": j[0], "opposite": -3 * j[0], "zero": 0 * j[0]}.get(kind, j[-1])
        if kind == "parallel":
            j[half:] = j[: tasks - half] * rng.choice([-1, 1, 2], size=(tasks - half, 1))
    spread = draw(st.sampled_from([0.0, 2.0, 7.5]))
    j *= 10.0 ** (rng.uniform(-spread, spread, size=(tasks, 1)) + draw(st.sampled_from([-7.5, 0.0, 7.5])))
    return j @ j.T


@st.composite
def run_infos(draw: st.DrawFn, *, tasks: tuple[int, int] = (1, 4), layers: tuple[int, int] = (0, 2)) -> RunInfo:
    """Run infos of any names, with between `tasks` tasks and `layers` layers."""
    names = draw(st.lists(_names, min_size=tasks[0], max_size=tasks[1], unique=True))
    return RunInfo(
        problem=draw(_names),
        tasks=tuple(TaskInfo(name, "accuracy", draw(st.sampled_from(["max", "min"]))) for name in names),
        layers=tuple(draw(st.lists(_names, min_size=layers[0], max_size=layers[1], unique=True))),
        config=draw(details),
    )


@st.composite
def steps(draw: st.DrawFn, info: RunInfo, *, step: int, position: int) -> Step:
    """A step of the run, some tasks absent, with or without layer Gramians."""
    T, K = len(info.tasks), len(info.layers)
    absent = np.array(draw(st.lists(st.booleans(), min_size=T, max_size=T))) & draw(st.booleans())
    rng = np.random.default_rng(draw(seeds))
    parts = np.stack([draw(gramians(tasks=T)) for _ in range(max(K, 1))])
    parts[:, absent, :] = parts[:, :, absent] = np.nan
    return Step(
        step=step,
        position=position,
        time=step / 8,
        losses=np.where(absent, np.nan, rng.exponential(size=T)),
        weights=np.where(absent, 0.0, rng.normal(size=T)),
        gramian=parts.sum(axis=0),
        samples=np.where(absent, 0, rng.integers(1, 99, size=T)),
        learning_rate=float(rng.random()),
        phases=tuple(draw(st.sampled_from(PHASES)) for _ in range(T)),
        layers=parts if K and draw(st.booleans()) else None,
    )


@dataclass
class Clock:
    """Where a stream of records stands."""

    step: int = 0
    position: int = 0


@st.composite
def records(draw: st.DrawFn, info: RunInfo, clock: Clock) -> Record:
    """The next record of a run; moves the clock."""
    names = [task.name for task in info.tasks]
    kind = draw(st.sampled_from(["step", "step", "step", "step", "validation", "event", "rewind", "measure"]))
    if kind == "step":
        gap = draw(st.sampled_from([1, 1, 1, 3]))
        clock.step, clock.position = clock.step + gap, clock.position + gap
        return draw(steps(info, step=clock.step, position=clock.position))
    if kind == "validation":
        value = draw(st.floats())
        return Validation(clock.step, clock.position, draw(st.sampled_from(names)), draw(_names), value)
    if kind == "rewind":
        clock.position = draw(st.integers(0, clock.position))
        return Event(clock.step, clock.position, "rewind", None, {**draw(details), "to": clock.position})
    task = draw(st.none() | st.sampled_from(names))
    if kind == "event":
        what = draw(st.sampled_from(["start", "pause", "resume", "convergence", "error"]) | _names)
        if what == "rewind":
            what = "rewound"
        return Event(clock.step, clock.position, what, task, draw(details))
    layer = draw(st.none() | st.sampled_from(info.layers)) if info.layers else None
    return Measure(draw(st.integers(0, 99)), draw(_names), draw(st.floats()), task, draw(st.sampled_from(names)), layer)


@st.composite
def streams(
    draw: st.DrawFn, *, tasks: tuple[int, int] = (1, 4), layers: tuple[int, int] = (0, 2), most: int = 30
) -> tuple[RunInfo, list[Record]]:
    """A run info and a stream of up to `most` records of that run, in an order in which a log takes them."""
    info, clock = draw(run_infos(tasks=tasks, layers=layers)), Clock()
    return info, [draw(records(info, clock)) for _ in range(draw(st.integers(0, most)))]


@st.composite
def scheduled_streams(draw: st.DrawFn, *, tasks: tuple[int, int] = (1, 4)) -> tuple[RunInfo, list[Record]]:
    """A run info and the records of a run with a schedule, with rewinds: few values, so that ties and NaN abound."""
    names = [f"t{i}" for i in range(draw(st.integers(*tasks)))]
    rule = Rule.of(
        [TaskInfo(name, "", draw(st.sampled_from(["max", "min"]))) for name in names],
        patience={name: draw(st.integers(1, 4)) for name in names},
        min_delta=draw(st.sampled_from([0.0, 0.0, 1.0])),
        order=draw(st.none() | st.permutations(names)),
        distils=draw(st.booleans()),
    )
    every, seed, missing = draw(st.integers(1, 3)), draw(seeds), draw(st.sampled_from([0.0, 0.3]))

    def value(task: str, position: int, phase: str, rewinds: int) -> float:
        rng = np.random.default_rng([seed, names.index(task), position, rewinds])
        return float("nan") if rng.random() < missing else float(rng.integers(0, 6))

    info = scheduled_info(names, rule, every=every)
    silent = draw(st.sampled_from([[], [], names[:1]]))
    return info, list(scheduled_records(info, rule, value, every=every, most=draw(st.integers(0, 50)), silent=silent))
