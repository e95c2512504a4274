"""The split on which a task's validations are measured, and the sampling, as parts of a problem."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mtlviz as mv
from mtlviz.data import Proportional
from mtlviz.errors import ProblemError
from tests.problems import crossing, made_data

X, Y = made_data(40, 0)
OWN = {name: (X, y) for name, y in Y.items()}
WITHOUT_RARE = {"kind": (X, Y["kind"]), "size": (X, Y["size"])}


def test_tasks_are_monitored_on_validation_unless_another_split_is_named() -> None:
    assert crossing().monitor == {}
    assert crossing(validation=WITHOUT_RARE).monitor == {}  # as before: the task goes without
    problem = crossing(validation=WITHOUT_RARE, monitor={"rare": "test", "kind": "train", "size": "validation"})
    assert problem.monitor == {"rare": "test", "kind": "train"}
    assert problem.run_info({"a": 1}).config == {"monitored_on": {"rare": "test", "kind": "train"}, "a": 1}
    assert crossing().run_info().config == {}


def test_problems_made_from_a_problem_keep_what_concerns_them() -> None:
    problem = crossing(train=OWN, monitor={"rare": "test", "kind": "train"}, sampling=Proportional(floor=0.1))
    told = {
        "monitored_on": {"rare": "test", "kind": "train"},
        "sampling": {"kind": "proportional", "power": 1.0, "floor": 0.1},
    }
    assert problem.run_info().config == told
    assert problem.scaled({"size": 2}).run_info().config == {"scale": {"size": 2.0}} | told
    assert problem.distilled({"rare": torch.rand(40)}).run_info().config == told
    alone = problem.alone("rare")
    assert alone.monitor == {"rare": "test"}
    assert alone.sampling == problem.sampling
    assert problem.alone("size").monitor == {}
    assert problem.monitor == {"rare": "test", "kind": "train"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"monitor": {"rair": "test"}}, "monitor: unknown task 'rair'; did you mean 'rare'"),
        ({"monitor": {"rare": "tset"}}, "monitor of 'rare': unknown split 'tset'; did you mean 'test'"),
        (
            {"monitor": {"rare": "test"}, "test": None},
            "'rare' is to be monitored on 'test', but the problem has no test",
        ),
        ({"monitor": {"rare": "test"}, "test": WITHOUT_RARE}, "on 'test', which has no labelled sample for it"),
        (
            {"monitor": {"rare": "test"}, "test": (X, Y | {"rare": torch.full((40,), torch.nan)})},
            "on 'test', which has no labelled sample for it",
        ),
        ({"monitor": {"rare": "validation"}, "validation": WITHOUT_RARE}, "on 'validation', which has no labelled"),
        ({"monitor": "test"}, r"monitor must be \{task: split\}, got 'test'"),
        ({"sampling": "proportional", "train": OWN}, "sampling must be an mtlviz.data.Proportional or None"),
        ({"sampling": Proportional()}, "train: sampling needs data per task"),
        ({"sampling": Proportional(floor=0.4), "train": OWN}, "floor=0.4 for each of 3 tasks is more than a batch"),
        (
            {"sampling": Proportional(), "train": OWN | {"size": DataLoader(TensorDataset(X, Y["size"]))}},
            "task 'size' comes from a DataLoader",
        ),
    ],
)
def test_what_cannot_be_is_told(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        crossing(**parts)


def test_a_loader_is_taken_at_its_word() -> None:
    """Nobody knows what a shared DataLoader labels before it is read."""
    rows = [(x, {name: y[i] for name, y in Y.items()}) for i, x in enumerate(X)]
    assert crossing(test=DataLoader(rows, batch_size=8), monitor={"rare": "test"}).monitor == {"rare": "test"}


def test_a_run_of_proportional_batches_says_so() -> None:
    problem = crossing(train=OWN, sampling=Proportional(power=0.5))
    info = mv.train(problem, steps=1, batch_size=8).run_info()
    assert info.config["sampling"] == {"kind": "proportional", "power": 0.5, "floor": 0.0}
