"""Buffers that a model's state leaves out go back with a rewind, and go on with a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import mtlviz as mv
from mtlviz.randomness import seeded
from tests.problems import TASKS, made_data
from tests.training.scheduling import quick
from tests.training.test_resumed_runs import assert_resumes


class Counting(torch.nn.Module):
    """A layer with buffers that its state leaves out: it adds the mean of the last batches, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.register_buffer("cache", None, persistent=False)
        self.register_buffer("numbers", torch.zeros(1).expand(5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.inner(x)
        if self.training:
            self.mean.mul_(0.5).add_(z.detach().mean(0))
            self.cache = torch.ones(1) if self.cache is None else torch.cat([self.cache, self.cache[-1:] + 1])
        return torch.tanh(z) + self.mean


def counting() -> mv.Problem:
    with seeded(0):
        trunk = Counting()
    return mv.Problem(tasks=TASKS, trunk=trunk, train=made_data(256, 0), validation=made_data(128, 2))


def test_a_rewind_and_a_resume_bring_back_buffers_that_no_state_holds(tmp_path: Path) -> None:
    training, means = quick(mv.training.Joint(patience=1), counting()), {}
    trunk: Any = training.model.trunk
    for record in training:
        if isinstance(record, mv.Validation) and record.task == "rare":
            means[record.step] = trunk.mean.clone()
        if isinstance(record, mv.Event) and record.kind == "rewind":
            to = record.detail["to"]
            assert (0 if trunk.cache is None else len(trunk.cache)) == to < record.position + record.step
            assert torch.equal(trunk.mean, means[record.detail["step"]])
            assert not torch.equal(trunk.mean, means[record.step])
    assert trunk.cache is not None
    whole = mv.start(counting(), log=tmp_path / "mean", steps=35, validate_every=10, batch_size=16, seed=3).wait(60)
    again = assert_resumes(tmp_path, problem=counting())
    assert torch.equal(again.model.trunk.mean, whole.model.trunk.mean)
