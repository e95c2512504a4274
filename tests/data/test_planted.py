"""Planted problems hold the tasks that the generator made, train to what the exact fit says, and say what they need."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import mtlviz as mv
from mtlviz.data.planted import RELATED, TURNED
from mtlviz.errors import ProblemError, TransferError
from mtlviz.transfer import shared_fit, three_sources


def rows(split: Any, task: str) -> tuple[np.ndarray, np.ndarray]:
    source = split.by_task[task]
    return source.inputs.numpy(), source.targets.numpy()


def test_its_data_are_those_of_the_generator_and_parts_differ() -> None:
    problem = mv.data.planted("related", seed=3, validation=40, test=50)
    assert problem.name == "planted: related"
    for task, (x, y) in RELATED.sample(3).items():
        found = rows(problem.train, task)
        np.testing.assert_allclose(found[0], x, rtol=1e-6)
        np.testing.assert_allclose(found[1], y, rtol=1e-4, atol=1e-6)
        held = rows(problem.validation, task)[0], rows(problem.test, task)[0]
        assert (len(held[0]), len(held[1])) == (40, 50)
        assert np.abs(held[0] - held[1][:40]).min() > 0
    assert [task.judge.label for task in problem.tasks] == ["RMSE"] * 4


def test_classes_and_relu_teachers_have_their_losses_and_trunks() -> None:
    labels = mv.data.planted(three_sources(kind="classification"), width=3)
    assert set(np.unique(rows(labels.train, "target")[1])) == {0.0, 1.0}
    assert labels.tasks[0].loss_name == "binary_cross_entropy_with_logits"
    relu = mv.data.planted(three_sources(teacher="relu"), width=3)
    assert [type(m).__name__ for m in relu.model.trunk] == ["Linear", "ReLU"]
    assert relu.model.represent(torch.randn(5, 20)).shape == (5, 3)
    for problem in (labels, relu):
        recorded = [record for record in mv.train(problem, steps=2) if isinstance(record, mv.Step)]
        assert np.isfinite(recorded[-1].losses).all()


def test_the_same_seed_is_the_same_problem() -> None:
    first, again, other = (mv.data.planted("turned", seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    np.testing.assert_array_equal(rows(first.train, "turned")[0], rows(again.train, "turned")[0])
    assert not np.array_equal(rows(first.train, "turned")[0], rows(other.train, "turned")[0])


def test_full_batches_train_to_the_exact_fit() -> None:
    data = {name: TURNED.sample(0)[name] for name in ("upright", "turned")}
    for width, near in ((2, 0.01), (1, 0.5)):  # through one direction a descent may end in a valley of its own
        problem = mv.data.planted("turned", width=width, seed=0).of_tasks(data)
        training = mv.train(problem, steps=250, batch_size=200, optimizer=partial(torch.optim.Adam, lr=0.05))
        losses = [record.losses.sum() for record in training if isinstance(record, mv.Step)]
        exact = shared_fit(data, rank=width).loss / 200
        assert exact * (1 - 1e-4) <= losses[-1] <= exact * (1 + near)


def exact_errors(tasks: tuple[str, ...], rank: int = 1) -> np.ndarray:
    """The target's error over ten seeds, trained exactly with these tasks of equal weight."""
    errors = []
    for seed in range(10):
        data = RELATED.sample(seed)
        fit = shared_fit({n: data[n] for n in tasks}, rank=rank, weights={n: 1 / len(data[n][1]) for n in tasks})
        errors.append(RELATED.planted(seed)["target"].risk(fit.theta("target")))
    return np.array(errors)


def test_the_related_tasks_help_hurt_and_do_little_as_planted() -> None:
    alone = exact_errors(("target",))
    changes = {other: exact_errors(("target", other)) - alone for other in ("helper", "rival", "stranger")}
    intervals = {other: mv.intervals.mean_interval(change)[1:] for other, change in changes.items()}
    assert intervals["helper"][1] < 0 < intervals["rival"][0]
    assert changes["helper"].mean() < changes["stranger"].mean() < changes["rival"].mean()
    np.testing.assert_allclose(exact_errors(("target", "rival"), rank=2), alone, rtol=1e-3)  # Proposition 1


def test_a_rotation_of_the_inputs_makes_the_turned_tasks_one() -> None:
    data, planted = TURNED.sample(0), TURNED.planted(0)
    first = planted["upright"]
    aligned = {}
    for name, (x, y) in data.items():
        rotation = np.linalg.solve(first.root, planted[name].root).T  # R_i = Q_i Q_1ᵀ
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(10), atol=1e-9)
        aligned[name] = x @ rotation, y
    alone = shared_fit(data, rank=3).loss
    assert shared_fit(aligned).loss == pytest.approx(alone, rel=0.1)  # but for the noise that more numbers can follow
    assert shared_fit(data).loss > 8 * alone


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tasks": "relatd"}, ProblemError, "did you mean 'related'"),
        ({"tasks": 3}, ProblemError, "one of related, turned or PlantedTasks; got int"),
        ({"width": 0}, TransferError, "width must be a whole number from 1"),
        ({"seed": -1}, TransferError, "seed must be a whole number from 0"),
        ({"validation": 0}, TransferError, "validation must be a whole number from 1"),
    ],
)
def test_bad_arguments_are_told(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mv.data.planted(**arguments)
