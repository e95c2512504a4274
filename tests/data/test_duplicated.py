"""Duplication: counting rows more often gives the batches of data in which they stand more often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data import BatchSampler, Proportional
from mtlviz.errors import ProblemError
from tests.problems import crossing

TASKS = [mv.Task(name, loss=F.mse_loss, metric="rmse", outputs=1) for name in ("small", "large")]


def _problem(small: int = 20, sampling: Proportional | None = None, copies: int = 1) -> mv.Problem:
    x = torch.arange(120.0)[:, None] * torch.ones(3)
    data = {"small": (x[:small].repeat(copies, 1), x[:small, 0].repeat(copies)), "large": (x, x[:, 0])}
    return mv.Problem(tasks=TASKS, trunk=nn.Linear(3, 2), train=data, sampling=sampling)


def _shared_out() -> mv.Problem:
    return _problem(sampling=Proportional())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0, 2), st.sampled_from([0.0, 0.3]))
def test_a_weight_gives_the_shares_of_so_many_copies(copies: int, power: float, floor: float) -> None:
    plain = Proportional(power=power, floor=floor)
    written = plain.of_split(_problem(copies=copies).train)
    assert _problem(sampling=plain).duplicated({"small": copies}).sampling.of_split(_problem().train) == written


def test_rows_come_as_often_as_those_of_data_with_copies() -> None:
    plain = Proportional()
    counted = _problem(sampling=plain).duplicated({"small": 3})
    written = _problem(sampling=plain, copies=3)
    rows = []
    for problem in (counted, written):
        sampler = BatchSampler(problem.train, batch_size=12, seed=0, sampling=problem.sampling)
        batches = [sampler.batch(position) for position in range(1, 16)]  # the 180 rows of one pass over the copies
        assert {len(batch.inputs) for batch in batches} == {12}
        values = torch.cat([batch.targets["small"] for batch in batches if "small" in batch.targets]).tolist()
        rows.append(Counter(values))
        assert sum(len(batch.targets["large"]) for batch in batches) == 120
    assert rows[0] == rows[1] == Counter({float(row): 3 for row in range(20)})


def test_duplication_adds_up_and_is_told_in_the_log() -> None:
    problem = _problem(sampling=Proportional(power=0.5)).duplicated({"small": 2}).duplicated({"small": 3, "large": 0.5})
    told = {"kind": "proportional", "power": 0.5, "floor": 0.0, "weights": {"small": 6.0, "large": 0.5}}
    assert problem.run_info().config["sampling"] == told
    assert problem.of_tasks(["large"]).run_info().config["sampling"] == told
    for _ in mv.train(problem.of_tasks(["large"]), steps=2, batch_size=4):
        pass
    assert "weights" not in Proportional().config()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: crossing().duplicated({"size": 2}), r"a weight on its loss: use problem.scaled\(\{task"),
        (lambda: _problem().duplicated({"small": 2}), "every task gets batch_size rows .* sampling=mv.data"),
        (lambda: _shared_out().duplicated({"smal": 2}), "unknown task 'smal'; did you mean 'small'"),
        (lambda: _shared_out().duplicated({"small": 0}), "'small' needs a finite number above 0, got 0"),
        (lambda: _shared_out().duplicated(2), r"duplicated must be \{task: number above 0\}, got 2"),
        (lambda: _problem(sampling=Proportional(weights={"big": 2})), "weights: unknown task 'big'"),
        (lambda: Proportional(weights={"small": float("inf")}), "Proportional: weights: task 'small' needs a finite"),
        (lambda: Proportional(weights={"small": True}), "Proportional: weights: task 'small' needs a finite"),
    ],
)  # fmt: skip
def test_duplication_that_cannot_be_is_told(act: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        act()
