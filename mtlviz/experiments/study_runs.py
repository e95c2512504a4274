"""One run of a study, in a process of its own: trained, gone on with or found, and judged at its best checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from mtlviz.data.problem import Problem
from mtlviz.experiments.plan import Options
from mtlviz.experiments.recipe import Recipe, said
from mtlviz.experiments.runs import awaited, state
from mtlviz.experiments.study_plan import StudyRun
from mtlviz.experiments.workers import Process, settle
from mtlviz.runlog.folder import CHECKPOINTS
from mtlviz.training.checkpoints import best_model
from mtlviz.training.evaluation import evaluation
from mtlviz.training.run import start

_TESTS = "best_on_test.json"  # beside the checkpoints, and gone with them


def studied(run: StudyRun, recipe: Recipe, options: Options, parent: Process, fresh: bool = False) -> str | None:
    """Trains a run into its folder, or goes on with the half of one; the error that ended it, if any.

    parent: the process that waits for it. Where that is another one, this one computes with a single thread, and ends
    with its parent. Whatever ends a run is returned, and told in its log: the other runs go on.
    """
    settle(parent)
    try:
        problem = recipe.made(run.seed)
        problem = problem.alone(run.task) if run.task else problem
        if fresh or not awaited(run.folder):
            _train(run, problem, options, fresh=fresh)
        _keep_tests(run, problem, options.device)
    except Exception as error:  # noqa: BLE001 - the border of a run: the study tells it and goes on
        return said(error)
    return None


def _train(run: StudyRun, problem: Problem, options: Options, *, fresh: bool) -> None:
    own = {"weighting": run.weighting, "schedule": run.schedule, "steps": run.steps, "seed": run.seed}
    place = {"log": run.folder, "resume": not fresh, "overwrite": fresh}
    training = start(problem, **options.keywords() | own | place)
    try:
        training.wait()
    except BaseException:
        training.stop()
        raise


def _keep_tests(run: StudyRun, problem: Problem, device: str) -> None:
    """Writes the test metric of each task at its best checkpoint, at once or not at all."""
    found: dict[str, float] = {}
    if problem.test is not None:
        for task in problem.tasks:
            if task.name in problem.test.tasks:
                model = best_model(run.folder, problem, task.name).to(torch.device(device))
                found |= evaluation(model, (task,), problem.test, torch.device(device), step=0)
    draft = _tests(run).with_suffix(".new")
    draft.write_text(json.dumps(found), encoding="utf-8")
    os.replace(draft, _tests(run))


def complete(run: StudyRun) -> bool:
    """Whether a run is finished and judged."""
    return _tests(run).exists() and state(run.folder) == "finished"


def best_tests(run: StudyRun) -> dict[str, float]:
    """The test metric of each task at its best checkpoint; none where there is no test data."""
    return json.loads(_tests(run).read_text(encoding="utf-8"))


def _tests(run: StudyRun) -> Path:
    return run.folder / CHECKPOINTS / _TESTS
