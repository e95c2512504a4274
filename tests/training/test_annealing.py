"""Teachers: which rows their labels are mixed into, what is refused, and what a run remembers of them."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import mtlviz as mv
from mtlviz.data.sampler import BatchSampler
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.training.distillation import soft_labels
from tests.problems import TASKS, crossing, made_data
from tests.training.scheduling import NAMES, quick, recorded

CPU = torch.device("cpu")


def taught(teachers: Any, problem: mv.Problem | None = None, *, annealing: bool = False, **options: Any) -> mv.Training:
    schedule = mv.training.BornAgain(teachers=teachers, annealing=annealing)
    return mv.train(crossing() if problem is None else problem, schedule=schedule, **{"steps": 5} | options)


def everyone(model: SharedTrunk) -> dict[str, SharedTrunk]:
    return dict.fromkeys(NAMES, model)


@pytest.mark.parametrize("apart", [False, True])
def test_rows_that_the_loss_ignores_are_left_out_of_the_true_labels_too(apart: bool) -> None:
    tasks = (mv.Task("kind", loss=partial(F.cross_entropy, ignore_index=1), metric="accuracy", outputs=3), *TASKS[1:])
    x, targets = made_data(256, seed=0)
    train: Any = {name: (x, y) for name, y in targets.items()} if apart else (x, targets)
    validation = made_data(64, seed=1)
    problem = mv.Problem(tasks=tasks, trunk=crossing().model.trunk, train=train, validation=validation)
    annealed = taught(everyone(problem.model), problem, annealing=True, batch_size=32)
    assert len([record for record in annealed if isinstance(record, mv.Step)]) == 5
    own = BatchSampler(problem.train, batch_size=32, seed=0).batch(5)
    soft = annealed.sampler.batch(5)
    used = own.targets["kind"] != 1
    mixed = annealed.updater._batch(5)  # λ = 1: the true labels alone
    assert 0 < len(mixed.targets["kind"]) == int(used.sum()) < len(used)
    assert torch.equal(mixed.targets["kind"].argmax(1), own.targets["kind"][used])
    assert torch.equal(mixed.rows["kind"], soft.rows["kind"])
    assert torch.equal(mixed.targets["size"], own.targets["size"])


def test_training_leaves_the_teachers_as_they_are() -> None:
    problem = crossing(dropout=0.2)
    teacher = copy.deepcopy(problem.model).train()
    seen = []
    teacher.trunk.register_forward_pre_hook(lambda module, _: seen.append((id(module), module.training)))
    list(taught(everyone(teacher), problem))
    assert seen
    assert id(teacher.trunk) not in {module for module, _ in seen}, "the user's own model was moved or switched over"
    assert not any(training for _, training in seen)
    assert all(module.training for module in teacher.modules())


def test_teachers_that_do_not_fit_are_named() -> None:
    problem = crossing()
    with pytest.raises(
        mv.errors.ProblemError, match=r"the teacher of 'size' has no head for it; its heads are \['kind'\]"
    ):
        taught(everyone(problem.model) | {"size": problem.alone("kind").model}, problem)
    x, targets = made_data(32, seed=3)
    pairs = [(row, {name: y[i] for name, y in targets.items()}) for i, row in enumerate(x)]
    loaded = crossing(train=DataLoader(pairs, batch_size=16))
    with pytest.raises(mv.errors.ProblemError, match=r"task 'kind'.* DataLoader"):
        taught(everyone(problem.model), loaded)
    with pytest.raises(mv.errors.ProblemError, match=r"task 'size'.* DataLoader"):
        soft_labels(loaded.model, loaded, "size", device=CPU)
    own = [*TASKS[:2], mv.Task("rare", loss=lambda o, y: (o - y).abs().mean(), metric="roc_auc", outputs=1)]
    unknown = mv.Problem(tasks=own, trunk=problem.model.trunk, train=made_data(64, seed=4))
    calls: list[str] = []
    unknown.model.trunk.register_forward_pre_hook(lambda *_: calls.append("predicted"))
    with pytest.raises(mv.errors.ProblemError, match="task 'rare': nobody knows the soft labels"):
        taught(everyone(unknown.model), unknown)
    assert not calls  # it is told before anything is predicted


def test_a_run_goes_on_with_the_same_teachers_wherever_they_lie_and_with_no_others(tmp_path: Path) -> None:
    problem = crossing()
    start = partial(mv.start, problem, steps=6, validate_every=2)
    start(log=tmp_path / "teachers").wait(60)
    (tmp_path / "teachers").rename(tmp_path / "moved")
    start(log=tmp_path / "others", seed=1).wait(60)
    moved = mv.training.BornAgain(teachers=tmp_path / "moved")
    first = start(schedule=moved, log=tmp_path / "run").wait(60)
    told = first.log.info.config["schedule"]["teachers"]
    assert list(told) == NAMES
    assert str(tmp_path) not in str(told)
    (tmp_path / "moved").rename(tmp_path / "teachers")
    models = {name: mv.training.best_model(tmp_path / "teachers", problem, name) for name in NAMES}
    for same in (tmp_path / "teachers", models):
        again = start(schedule=mv.training.BornAgain(teachers=same), log=tmp_path / "run", resume=True)
        assert again.wait(60).log.state == "finished"
    others = mv.training.BornAgain(teachers=tmp_path / "others")
    with pytest.raises(mv.errors.RunLogError, match=r"another run: schedule\.teachers\.size is '.*' there"):
        start(schedule=others, log=tmp_path / "run", resume=True)


def test_teachers_teach_and_are_annealed_into_the_true_labels() -> None:
    problem = crossing()
    teacher = quick(None, problem, steps=40)
    recorded(teacher)
    teachers = dict.fromkeys(NAMES, teacher.model)
    student = quick(mv.training.BornAgain(teachers=teachers), problem, steps=5)
    log = recorded(student)
    assert (log.steps["phase"] == "distilled").all()
    assert log.info.config["schedule"]["kind"] == "born_again"
    annealed = quick(mv.training.BornAgain(teachers=teachers, annealing=True), problem, steps=5)
    first, *_, last = [record for record in annealed if isinstance(record, mv.Step)]
    plain = quick(None, problem, steps=5)
    np.testing.assert_allclose(first.losses, log.losses[0], rtol=1e-6)  # λ = 0: the teachers alone
    assert last.position == 5
    batch = plain.sampler.batch(5)  # λ = 1: the true labels alone
    mixed = annealed.updater._batch(5)
    torch.testing.assert_close(mixed.targets["size"], batch.targets["size"])
    torch.testing.assert_close(mixed.targets["kind"].argmax(1), batch.targets["kind"])
