"""Runs that broke off and are resumed in the same process: every method, schedule, kind of data and reader."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mtlviz as mv
from mtlviz.training.checkpoints import InFolder
from tests.problems import TASKS, crossing, made_data
from tests.training.resumed import assert_same_run
from tests.training.test_run import _Stops

START: dict[str, Any] = {"steps": 35, "validate_every": 10, "layers_every": 5, "batch_size": 16, "seed": 3}


class _BrokenError(Exception):
    pass


@contextmanager
def broken_at(step: int) -> Iterator[None]:
    """Inside, a run fails where the log is given the update `step`."""
    append = mv.RunLog.append

    def breaking(log: mv.RunLog, record: mv.runlog.Record) -> None:
        append(log, record)
        if isinstance(record, mv.Step) and record.step == step:
            raise _BrokenError

    mv.RunLog.append = breaking  # type: ignore[method-assign]
    try:
        yield
    finally:
        mv.RunLog.append = append  # type: ignore[method-assign]


def broken_off(problem: mv.Problem, folder: Path, step: int, **options: Any) -> None:
    with broken_at(step), pytest.raises(_BrokenError):
        mv.start(problem, log=folder, resume=True, **options).wait(60)


def assert_resumes(tmp_path: Path, *, problem: mv.Problem, at: tuple[int, ...] = (14, 27), **options: Any) -> mv.Run:
    """A run that breaks off after those updates and goes on each time ends as one that does not."""
    given = START | options
    whole = mv.start(problem, log=tmp_path / "whole", **given).wait(60)
    for step in at:
        broken_off(problem, tmp_path / "resumed", step, **given)
    run = mv.start(problem, log=tmp_path / "resumed", resume=True, **given).wait(60)
    assert_same_run(tmp_path / "resumed", tmp_path / "whole")
    assert run.log.segments == 1 + len(at)
    for one, two in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not run.model.training
    return run


@pytest.mark.parametrize("name", ["dwa", "famo", "gradnorm", "rlw", "emtl", "graddrop", "adatask"])
def test_every_kind_of_method_goes_on_as_it_would_have(tmp_path: Path, name: str) -> None:
    assert_resumes(tmp_path, problem=crossing(dropout=0.3, missing=0.3), weighting=name)


def _normalised() -> mv.Problem:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
    return mv.Problem(tasks=TASKS, trunk=trunk, train=made_data(128, 0), validation=made_data(64, 1))


def test_running_statistics_momentum_and_rates_go_on(tmp_path: Path) -> None:
    run = assert_resumes(
        tmp_path,
        problem=_normalised(),
        optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=40),
    )
    assert run.model.trunk[1].num_batches_tracked == 35


def _apart(**parts: Any) -> mv.Problem:
    """Data of its own for each task, of three sizes."""
    sizes = {"kind": 120, "size": 60, "rare": 30}
    splits = {
        name: {t: (data[0], data[1][t]) for t, n in sizes.items() for data in [made_data(n, seed)]}
        for name, seed in (("train", 0), ("validation", 1))
    }
    return mv.Problem(tasks=TASKS, trunk=crossing(dropout=0.2).model.trunk, **splits, **parts)


def test_data_apart_and_lowered_shares_go_on(tmp_path: Path) -> None:
    schedule = mv.training.Joint(patience=1, validate_every=5, converged_share=0.3, rewarm=2)
    run = assert_resumes(
        tmp_path,
        problem=_apart(sampling=mv.data.Proportional(power=0.5)),
        schedule=schedule,
        steps=60,
        validate_every=None,
        at=(11, 23),
        optimizer=partial(torch.optim.Adam, lr=0.05),
    )
    assert "distillation" in run.log.events["kind"].tolist()


@pytest.mark.parametrize("schedule", [mv.training.Sequential, mv.training.Continual])
def test_sequences_go_on(tmp_path: Path, schedule: Any) -> None:
    run = assert_resumes(
        tmp_path,
        problem=crossing(dropout=0.2),
        schedule=schedule(patience=1, validate_every=5, order=["size", "rare", "kind"]),
        steps=90,
        validate_every=None,
        at=(12, 18, 31),
        optimizer=partial(torch.optim.Adam, lr=0.05),
    )
    assert run.log.events["kind"].tolist().count("task_added") >= 2


def test_born_again_students_go_on(tmp_path: Path) -> None:
    problem = crossing(dropout=0.2)
    mv.start(problem, log=tmp_path / "teachers", **START).wait(60)
    schedule = mv.training.BornAgain(teachers=tmp_path / "teachers", annealing=True)
    assert_resumes(tmp_path, problem=problem, schedule=schedule)


def test_a_stopped_run_goes_on_and_its_time_too(tmp_path: Path) -> None:
    run = mv.start(crossing(), log=tmp_path / "run", steps=1_000_000, validate_every=5, resume=True)
    while run.step < 12:
        run.join(0.001)
    run.stop()
    run.wait(20)
    assert run.state == "stopped"
    at = run.log.steps
    run = mv.start(crossing(), log=tmp_path / "run", steps=1_000_000, validate_every=5, resume=True)
    run.pause()
    run.resume()
    while run.step < at["step"].max() + 12:
        run.join(0.001)
    run.stop()
    assert run.wait(20).state == "stopped"
    log = mv.RunLog.open(tmp_path / "run")
    assert log.events["kind"].tolist()[-1] == "stop"
    assert log.events["kind"].tolist().count("stop") == 1, "that of the first life came after its last checkpoint"
    assert (np.diff(log.steps.drop_duplicates("step")["time"]) > 0).all()
    assert (log.steps["time"].iloc[: len(at) // 2] == at["time"].iloc[: len(at) // 2]).all()
    assert log.segments == 2
    assert mv.RunLog.open(tmp_path / "run", segments=1).steps.equals(at)


def test_notes_after_a_rewind_tell_where_the_run_stands() -> None:
    schedule, ready = mv.training.Joint(patience=1, validate_every=5), threading.Event()
    fast = partial(torch.optim.Adam, lr=0.05)
    training = mv.train(crossing(), schedule=schedule, steps=60, optimizer=fast)
    training.__class__ = _Stops
    training.at, training.press = "rewind", lambda: (ready.wait(10), run.stop())
    run = mv.Run(training, mv.RunLog.create(None, training))
    ready.set()
    rewind, stop = run.wait(20).log.events.iloc[-2:].itertuples()
    assert (rewind.kind, stop.kind) == ("rewind", "stop")
    assert stop.position == rewind.detail["to"] < stop.step


def test_a_finished_run_is_given_back_as_it_is(tmp_path: Path) -> None:
    whole = mv.start(crossing(), log=tmp_path / "run", **START).wait(60)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    run = mv.start(crossing(), log=tmp_path / "run", resume=True, **START)
    assert run.wait(20).state == "finished"
    assert (run.step, run.steps, run.log.state, run.log.segments) == (35, 35, "finished", 1)
    run.pause()
    run.stop()
    assert run.state == "finished"
    for one, two in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not run.model.training
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_figures_and_the_report_tell_of_a_resumed_run(tmp_path: Path) -> None:
    options = START | {"schedule": mv.training.Joint(patience=1, validate_every=5), "validate_every": None}
    broken_off(crossing(), tmp_path / "run", 14, **options)
    run = mv.start(crossing(), log=tmp_path / "run", resume=True, **options).wait(60)
    log = mv.RunLog.open(tmp_path / "run")
    assert len(log.steps) == 3 * run.step
    assert not log.steps.duplicated(["step", "task"]).any()
    assert not log.validations.duplicated(["step", "task"]).any()
    page = mv.report.report(log)
    assert "finished" in page
    assert mv.analysis.run_summary(log)["steps"].iloc[0] == run.step
    assert mv.report.report(run.log).count("<tr") == page.count("<tr")


def test_the_best_and_the_last_checkpoints_stay(tmp_path: Path) -> None:
    run = mv.start(crossing(), log=tmp_path / "run", **START).wait(60)
    log = mv.RunLog.open(tmp_path / "run")
    kept = InFolder(tmp_path / "run", tasks=log.names)
    best = set()
    for task in log.tasks:
        own = log.validations[log.validations["task"] == task.name].reset_index()
        best.add(int(own["step"][own["value"].idxmax() if task.direction == "max" else own["value"].idxmin()]))
    assert set(kept.steps()) == best | {run.step}
