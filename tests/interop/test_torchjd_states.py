"""States of TorchJD's objects: a rewind and a resumed run go on from them to the last bit."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd
from torchjd import aggregation, scalarization
from torchjd.linalg import PSDMatrix

import mtlviz as mv
from mtlviz.errors import WeightingError
from mtlviz.training.checkpoints import InFolder
from mtlviz.training.packing import packed, unpacked
from tests.problems import crossing
from tests.training.resumed import assert_same_state

STATEFUL: dict[str, Callable[[], Any]] = {
    "CRMOGMWeighting": lambda: aggregation.CRMOGMWeighting(aggregation.ExcessMTLWeighting(n_warmup_steps=2), alpha=0.5),
    "ExcessMTL": functools.partial(aggregation.ExcessMTL, n_warmup_steps=6),  # in the middle of the warm-up
    "ExcessMTLWeighting": aggregation.ExcessMTLWeighting,
    "GradVac": aggregation.GradVac,
    "GradVacWeighting": aggregation.GradVacWeighting,
    "MoDoWeighting": functools.partial(aggregation.MoDoWeighting, gamma=0.5),
    "NashMTL": functools.partial(aggregation.NashMTL, 3, update_weights_every=2),
    "PCD": aggregation.PCD,
    "PCDWeighting": aggregation.PCDWeighting,
    "SDMGradWeighting": aggregation.SDMGradWeighting,
    "DWA": scalarization.DWA,
    "FAMO": functools.partial(scalarization.FAMO, 3, lr=0.5),
    "IMTLL": functools.partial(scalarization.IMTLL, 3),
    "UW": functools.partial(scalarization.UW, 3),
}


def test_every_stateful_object_of_torchjd_is_tried() -> None:
    found = {
        name
        for module in (aggregation, scalarization)
        for name, part in vars(module).items()
        if isinstance(part, type) and issubclass(part, torchjd.Stateful)
    }
    assert found <= set(STATEFUL)


def training(weighting: Any, **options: Any) -> Any:
    """A run of 10 updates; 2 batches an epoch."""
    given = {"steps": 10, "validate_every": 5, "layers_every": 0, "batch_size": 128} | options
    return mv.train(crossing(), weighting=weighting, optimizer=functools.partial(torch.optim.Adam, lr=0.05), **given)


def weights_of(records: Any) -> list[list[float]]:
    return [record.weights.tolist() for record in records if isinstance(record, mv.Step)]


@pytest.mark.parametrize("name", STATEFUL)
def test_it_goes_on_as_it_would_have(name: str, tmp_path: Path) -> None:
    kept, whole, weights = InFolder(tmp_path, tasks=["kind", "size", "rare"]), training(STATEFUL[name]()), []
    for record in whole:
        if isinstance(record, mv.Validation) and record.task == "rare" and record.step < 10:  # the last of a round
            kept.save(record.step, whole.state_dict())
        weights += weights_of([record])
    assert len({tuple(row) for row in weights}) > 1
    for step in (0, 5):
        fresh, used = training(STATEFUL[name]()), training(STATEFUL[name]())
        used.weighting.load_state_dict(unpacked(packed(whole.state_dict()["weighting"])))
        for other in (fresh, used):
            other.load_state_dict(kept.load(step))
            assert weights_of(other) == weights[step:]
            for part in ("weighting", "model", "optimizer"):
                assert_same_state(packed(other.state_dict()[part]), packed(whole.state_dict()[part]))


@pytest.mark.parametrize("name", ["DWA", "FAMO", "NashMTL"])
def test_a_rewind_brings_its_state_back(name: str) -> None:
    run = training(
        STATEFUL[name](), schedule=mv.training.Joint(patience=1, validate_every=5), validate_every=None, steps=60
    )
    states, rewinds = {}, 0
    for record in run:
        if isinstance(record, mv.Validation) and record.task == "rare":
            states[record.step] = packed(run.state_dict()["weighting"])
        if isinstance(record, mv.Event) and record.kind == "rewind":
            rewinds += 1
            assert_same_state(packed(run.state_dict()["weighting"]), states[record.detail["step"]])
            assert record.detail["step"] < record.step
    assert rewinds > 1


def test_a_schedule_in_which_tasks_wait_is_named_where_every_task_is_needed() -> None:
    waiting = {"schedule": mv.training.Sequential(order="small", validate_every=2), "validate_every": None}
    for given in (aggregation.GradVac(), aggregation.ConstantWeighting(torch.ones(3))):
        with pytest.raises(
            WeightingError, match=r"no schedule in which tasks wait \(Sequential, Continual\).*at step 1"
        ):
            list(training(given, **waiting))


class Remembering(aggregation.Weighting[PSDMatrix], torchjd.Stateful):
    """A weighting of a user's own."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.memory, self.scaled = memory, torch.nn.functional.relu

    def reset(self) -> None:
        self.memory.clear()

    def forward(self, gramian: torch.Tensor, /) -> torch.Tensor:
        key = (len(gramian), gramian.dtype, gramian.device)
        self.memory.setdefault("seen", []).append((key, {1: gramian.diagonal().clone()}))
        return self.scaled(sum(of[1] for _, of in self.memory["seen"])) ** -0.5


def test_a_state_of_ones_own_is_kept_or_refused_by_name() -> None:
    one, two = (training(Remembering({}), steps=5) for _ in range(2))
    weights_of(one)
    two.weighting.load_state_dict(unpacked(packed(one.weighting.state_dict())))
    assert_same_state(two.weighting.given.memory, one.weighting.given.memory)
    assert len(one.weighting.given.memory["seen"]) == 5
    refused = training(Remembering(deque()))
    with pytest.raises(WeightingError, match=r"Remembering\.memory is or has a collections\.deque\. Neither a rewind"):
        refused.weighting.state_dict()
