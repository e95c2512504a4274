"""Problems made from problems: with some losses multiplied, and with some tasks by themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data.sampler import BatchSampler
from mtlviz.errors import ProblemError
from mtlviz.randomness import derived_seed
from tests.problems import TASKS, crossing, made_data


def test_a_scale_multiplies_the_loss_and_its_gradient_and_no_metric() -> None:
    outputs = torch.randn(8, 3, requires_grad=True)
    targets = torch.randint(0, 3, (8,))
    plain, scaled = (mv.Task("t", loss=F.cross_entropy, metric="accuracy", outputs=3, scale=c) for c in (1, 0.25))
    (by_hand,) = torch.autograd.grad(0.25 * F.cross_entropy(outputs, targets), outputs)
    (grad,) = torch.autograd.grad(scaled.value(outputs, targets), outputs)
    torch.testing.assert_close(grad, by_hand)
    assert scaled.value(outputs, targets) == 0.25 * plain.value(outputs, targets)
    assert scaled.judge == plain.judge


def test_gramians_of_a_scaled_problem_are_dgd() -> None:
    problem = crossing()
    first = [_first(p) for p in (problem, problem.scaled({"kind": 10, "rare": 0.5}).scaled({"kind": 2}))]
    D = np.diag([20, 1, 0.5])
    np.testing.assert_allclose(first[1].losses, D @ first[0].losses, rtol=1e-6)
    np.testing.assert_allclose(first[1].gramian, D @ first[0].gramian @ D, rtol=1e-5)
    assert [task.scale for task in problem.tasks] == [1, 1, 1]
    assert problem.run_info().config == {}
    assert problem.scaled({"size": 3}).run_info({"a": 1}).config == {"scale": {"size": 3}, "a": 1}


def _first(problem: mv.Problem) -> mv.Step:
    return next(record for record in mv.train(problem, steps=1) if isinstance(record, mv.Step))


@pytest.mark.parametrize("scale", [0, -1, math.inf, math.nan, "2", None])
def test_a_scale_that_is_no_number_above_zero_is_told(scale: float) -> None:
    with pytest.raises(ProblemError, match="task 't': scale must be a finite number above 0"):
        mv.Task("t", loss=F.mse_loss, metric="rmse", outputs=1, scale=scale)


def test_a_task_alone_keeps_trunk_head_and_data() -> None:
    problem = crossing()
    alone = problem.alone("size")
    assert [task.name for task in alone.tasks] == ["size"]
    x = made_data(4, 9)[0]
    torch.testing.assert_close(alone.model(x), {"size": problem.model(x)["size"]})
    assert len(problem.tasks) == 3
    log = mv.RunLog.create(None, alone)
    for record in mv.train(alone, steps=3):
        log.append(record)
    assert log.names == ("size",)
    assert log.gramians.shape == (3, 1, 1)
    np.testing.assert_allclose(log.losses[0, 0], _first(problem).losses[1], rtol=1e-6)  # the same first batch


def test_a_task_alone_takes_only_its_own_source() -> None:
    x, y = made_data(64, 0)
    problem = crossing(train={name: (x, target) for name, target in y.items()}, validation={"kind": (x, y["kind"])})
    alone = problem.alone("size")
    assert list(alone.train.by_task) == ["size"]
    assert alone.validation is None
    assert alone.test is problem.test


def _of_their_own() -> mv.Problem:
    """Data per task, of different sizes."""
    sizes = {"kind": 70, "size": 64, "rare": 53}
    train = {name: (made_data(n, n)[0], made_data(n, n)[1][name]) for name, n in sizes.items()}
    return crossing(train=train, monitor={"size": "test", "rare": "test"})


@pytest.mark.parametrize("problem", [crossing(missing=0.3), _of_their_own()], ids=["shared", "per task"])
@pytest.mark.parametrize("names", [["rare"], ["size"], ["rare", "kind"], ["kind", "size", "rare"]])
def test_a_task_sees_the_same_batches_whoever_trains_beside_it(problem: mv.Problem, names: list[str]) -> None:
    some = problem.of_tasks(names)
    assert [task.name for task in some.tasks] == [task.name for task in TASKS if task.name in names]
    whole, part = (BatchSampler(p.train, batch_size=16, seed=3) for p in (problem, some))
    for position in (1, 2, 7, 40):
        all_tasks, own = whole.batch(position), part.batch(position)
        for name in names:
            torch.testing.assert_close(own.targets[name], all_tasks.targets[name])
            torch.testing.assert_close(own.inputs[own.rows[name]], all_tasks.inputs[all_tasks.rows[name]])


def test_streams_of_a_whole_problem_are_what_they_always_were() -> None:
    """Source k of a split is shuffled by the seed of (seed, 1, k, epoch)."""
    problem = _of_their_own()
    batch = BatchSampler(problem.train, batch_size=16, seed=3).batch(1)
    for number, (name, source) in enumerate(problem.train.by_task.items()):
        generator = torch.Generator().manual_seed(derived_seed(3, 1, number, 0))
        rows = torch.randperm(len(source), generator=generator)[:16]  # type: ignore[arg-type]
        torch.testing.assert_close(batch.inputs[batch.rows[name]], source.fetch(rows)[0])  # type: ignore[union-attr]


def test_some_tasks_keep_trunk_heads_order_and_monitors() -> None:
    problem = _of_their_own()
    some = problem.of_tasks(("rare", "kind"))
    x = made_data(4, 9)[0]
    expected = problem.model(x)
    torch.testing.assert_close(some.model(x), {name: expected[name] for name in ("kind", "rare")})
    assert some.monitor == {"rare": "test"}
    assert list(some.train.by_task) == ["kind", "rare"]
    assert (
        repr(problem.of_tasks(["size"]))
        == repr(problem.alone("size"))
        == "Problem('crossing: size alone', tasks=['size'])"
    )
    assert repr(some) == "Problem('crossing: kind + rare', tasks=['kind', 'rare'])"
    assert repr(some.alone("rare").train) == repr(problem.alone("rare").train)
    assert len(problem.tasks) == 3


@pytest.mark.parametrize("names", ["size", [], ["size", "size"]])
def test_tasks_that_are_no_list_of_different_names_are_told(names: list[str]) -> None:
    with pytest.raises(ProblemError, match="needs a list of different names"):
        crossing().of_tasks(names)


def test_unknown_tasks_are_told() -> None:
    names = [task.name for task in TASKS]
    with pytest.raises(ProblemError, match="no task 'sise'") as error:
        crossing().alone("sise")
    assert str(names) in str(error.value)
    with pytest.raises(ProblemError, match="unknown tasks"):
        crossing().scaled({"sise": 2})
