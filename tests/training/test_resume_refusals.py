"""Resuming where something is in the way: other settings, damage, nothing to go on from; a task's best model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import mtlviz as mv
from mtlviz.errors import RunLogError
from mtlviz.runlog import DamagedLogWarning
from mtlviz.training import best_model
from mtlviz.training.checkpoints import InFolder
from mtlviz.training.evaluation import evaluation
from tests.problems import TASKS, crossing
from tests.training.resumed import assert_same_run
from tests.training.test_resumed_runs import START, broken_off

JOINT: dict[str, Any] = {"schedule": mv.training.Joint(patience=1, validate_every=5), "steps": 60}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The folder of a run that failed in its update 27, with checkpoints of the steps 20 and before."""
    broken_off(crossing(), tmp_path / "run", 27, **START)
    return tmp_path / "run"


def _resume(folder: Path, problem: mv.Problem | None = None, **options: Any) -> mv.Run:
    return mv.start(problem or crossing(), log=folder, resume=True, **START | options)


def test_resuming_needs_a_folder_and_nothing_to_replace(tmp_path: Path) -> None:
    for wrong in ({}, {"log": mv.RunLog.create(None, crossing())}, {"log": tmp_path / "run", "overwrite": True}):
        with pytest.raises(ValueError, match="resume=True goes on with the run in a folder: give log="):
            mv.start(crossing(), resume=True, **wrong)
    with pytest.raises(RunLogError, match=r"mv\.start needs a path"):
        mv.start(crossing(), log=3, resume=True)  # type: ignore[arg-type]


def test_a_folder_without_a_run_begins_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        assert _resume(tmp_path / name).wait(60).state == "finished"
    assert_same_run(tmp_path / "new", tmp_path / "empty")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(RunLogError, match="not empty and holds no run"):
        _resume(tmp_path / "photos")


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (
            {"seed": 4},
            r"^\S+ holds another run: weighting_seed is \d+ there and \d+ here; seed is 3 there and 4 here\. ",
        ),
        ({"steps": 70}, r"steps is 35 there and 70 here"),
        ({"weighting": mv.weighting.DWA(window=7)}, r"weighting is 'equal' there and 'dwa' here"),
        (
            {"batch_size": 8, "layers_every": 0},
            r"batch_size is 16 there and 8 here; .*layers_every is 5 there and 0 here",
        ),
        ({"optimizer": partial(torch.optim.Adam, lr=0.5)}, r"learning_rate is 0\.001 there and 0\.5 here"),
        ({**JOINT, "validate_every": None}, r"schedule\.kind is not set there and 'joint' here"),
    ],
)
def test_other_settings_are_refused_one_by_one(broken: Path, options: dict[str, Any], differs: str) -> None:
    before = sorted(broken.rglob("*"))
    with pytest.raises(RunLogError, match=differs):
        _resume(broken, **options)
    assert sorted(broken.rglob("*")) == before
    assert _resume(broken).wait(60).state == "finished"


def test_another_problem_or_model_is_refused(broken: Path) -> None:
    fewer = mv.Problem(name="crossing", tasks=TASKS[:2], trunk=nn.Linear(6, 4), train=crossing().train)
    with pytest.raises(RunLogError, match=r"tasks is \['kind', 'size', 'rare'\] there and \['kind', 'size'\] here"):
        _resume(broken, fewer)
    wider = {"kind": nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 3)), "size": nn.Linear(8, 1), "rare": nn.Linear(8, 1)}
    with pytest.raises(RunLogError, match=r"(?s)step-000000020\.pt is of another run than this: .*heads\.0"):
        _resume(broken, crossing(heads=wider))
    assert mv.RunLog.open(broken).segments == 1


def test_a_damaged_checkpoint_is_left_out_and_named(broken: Path, tmp_path: Path) -> None:
    mv.start(crossing(), log=tmp_path / "whole", **START).wait(60)
    newest = broken / "checkpoints" / "step-000000020.pt"
    assert newest.exists()
    assert len(list(newest.parent.iterdir())) > 1
    newest.write_bytes(newest.read_bytes()[:999])
    with pytest.warns(DamagedLogWarning, match=r"step-000000020\.pt: it is damaged .*It is left out\."):
        run = _resume(broken)
    run.wait(60)
    assert_same_run(broken, tmp_path / "whole")


def test_a_checkpoint_ahead_of_the_log_is_left_out(broken: Path, tmp_path: Path) -> None:
    """As after a power cut that took rows which the system had promised to write."""
    mv.start(crossing(), log=tmp_path / "whole", **START).wait(60)
    mv.RunLog.resume(broken, first_step=16).close()
    with pytest.warns(DamagedLogWarning, match=r"step-000000020\.pt tells of more than the log beside it holds"):
        run = _resume(broken)
    run.wait(60)
    assert_same_run(broken, tmp_path / "whole")


def test_damaged_soft_labels_send_the_run_back_to_where_it_had_none(tmp_path: Path) -> None:
    options = START | JOINT | {"validate_every": None, "optimizer": partial(torch.optim.Adam, lr=0.05)}
    whole = mv.start(crossing(), log=tmp_path / "whole", **options).wait(60)
    events = whole.log.events
    at = int(events.loc[events["kind"] == "distillation", "step"].iloc[0])
    broken_off(crossing(), tmp_path / "run", at + 3, **options)
    soft = min((tmp_path / "run" / "checkpoints").glob("soft-*"))
    soft.write_bytes(b"no file of torch")
    with pytest.warns(DamagedLogWarning, match=rf"{soft.name}: it is damaged"):
        run = mv.start(crossing(), log=tmp_path / "run", resume=True, **options)
    run.wait(60)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_without_a_checkpoint_updates_are_not_thrown_away(broken: Path) -> None:
    for file in (broken / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(RunLogError, match=r"did 27 updates, but has no checkpoint to go on from.*overwrite=True"):
        _resume(broken)
    assert len(mv.RunLog.open(broken)) == 27


def test_a_run_that_is_being_written_is_refused(tmp_path: Path) -> None:
    run = mv.start(crossing(), log=tmp_path / "run", steps=10**6, validate_every=5)
    while run.step < 6:
        run.join(0.001)
    with pytest.raises(RunLogError, match="is being written by another log"):
        mv.start(crossing(), log=tmp_path / "run", steps=10**6, validate_every=5, resume=True)
    run.stop()
    assert run.wait(20).log.segments == 1


def test_a_loader_begins_again_and_that_is_said(tmp_path: Path) -> None:
    rows = [
        (x, {"kind": k, "size": s}) for x, k, s in zip(torch.randn(40, 6), [0, 1] * 20, torch.randn(40), strict=True)
    ]
    problem = mv.Problem(tasks=TASKS[:2], trunk=nn.Linear(6, 4), train=DataLoader(rows, batch_size=8))
    broken_off(problem, tmp_path / "run", 27, **START)
    with pytest.warns(UserWarning, match="DataLoader, whose place and order no checkpoint holds"):
        run = _resume(tmp_path / "run", problem)
    assert run.wait(60).step == 35


def test_the_best_model_of_a_task_scores_its_best(tmp_path: Path) -> None:
    problem = crossing()
    options = {"validate_every": 5, "steps": 40, "optimizer": partial(torch.optim.Adam, lr=0.1)}
    run = mv.start(problem, log=tmp_path / "run", **options).wait(60)
    for task in problem.tasks:
        own = run.log.validations[run.log.validations["task"] == task.name]["value"]
        best = own.max() if task.direction == "max" else own.min()
        for source in (tmp_path / "run", str(tmp_path / "run"), run):
            model = best_model(source, problem, task.name)
            assert not model.training
            assert _score(model, problem, task) == best
    with pytest.raises(ValueError, match="unknown task 'sise'; did you mean 'size'"):
        best_model(run, problem, "sise")
    with pytest.raises(ValueError, match="needs the problem that the run trained, got NoneType"):
        best_model(run, None, "size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the folder of a run, or the run itself; got int"):
        best_model(3, problem, "size")  # type: ignore[arg-type]


def _score(model: Any, problem: mv.Problem, task: mv.Task) -> float:
    return evaluation(model, [task], problem.validation, torch.device("cpu"), step=0)[task.name]


def test_the_best_model_of_a_converged_task_is_the_one_it_was_distilled_from(tmp_path: Path) -> None:
    problem = crossing()
    options = START | JOINT | {"validate_every": None, "optimizer": partial(torch.optim.Adam, lr=0.05)}
    for log in (tmp_path / "run", None):
        run = mv.start(problem, log=log, **options).wait(60)
        event = next(e for e in run.log.events.itertuples() if e.kind == "convergence")
        task = next(task for task in problem.tasks if task.name == event.task)
        assert _score(best_model(run, problem, task.name), problem, task) == event.detail["best"]


def test_what_has_no_best_model_is_named(tmp_path: Path) -> None:
    run = mv.start(crossing(), **START).wait(60)
    with pytest.raises(RunLogError, match="No checkpoint of a validation of the task 'size' is kept by this run"):
        best_model(run, crossing(), "size")
    mv.start(crossing(validation=None), log=tmp_path / "run", **START).wait(60)
    assert InFolder(tmp_path / "run", tasks=()).steps() == [35]
    with pytest.raises(RunLogError, match="No checkpoint of a validation of the task 'size' is kept by the run in"):
        best_model(tmp_path / "run", crossing(), "size")
    mv.start(crossing(), log=tmp_path / "other", **START).wait(60)
    narrow = mv.Problem(tasks=TASKS, trunk=nn.Linear(6, 4), train=crossing().train)
    with pytest.raises(RunLogError, match=r"The problem's model is not that of the run in .*other"):
        best_model(tmp_path / "other", narrow, "size")
