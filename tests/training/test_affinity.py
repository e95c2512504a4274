"""Inter-task affinity: what it is, by hand; that measuring it changes nothing; and where it is not defined."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import mtlviz as mv
from mtlviz.errors import RunLogError
from mtlviz.randomness import derived_seed, seeded
from mtlviz.runlog.records import Measure, Record, Step
from tests.problems import TASKS, crossing, made_data
from tests.training.scheduling import NAMES, quick, recorded
from tests.training.test_resumed_runs import START, assert_resumes, broken_off
from tests.training.test_unsaved_buffers import Counting


class Alive(nn.Module):
    """A trunk whose output depends on random numbers, on the batch, and on buffers that each pass forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.counting = Counting()
        self.norm = nn.BatchNorm1d(4)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))
        self.dropout = nn.Dropout(0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.tanh(self.spectral(self.norm(self.counting(x)))))


def chain() -> nn.Module:
    """A trunk of layers whose gradients are taken by hand, and need not be formed."""
    parts = {"inward": nn.Linear(6, 128), "bent": nn.Tanh(), "dropout": nn.Dropout(0.4), "outward": nn.Linear(128, 128)}
    return nn.Sequential(OrderedDict(parts))


class Noisy(Dataset[Any]):
    """Samples with noise from torch's default generator, from which dropout draws too."""

    def __init__(self) -> None:
        self.x, self.targets = made_data(64, 0)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] + 0.1 * torch.randn(6), {name: y[index] for name, y in self.targets.items()}


def alive(make: Callable[[], nn.Module] = Alive, **parts: Any) -> mv.Problem:
    x, targets = made_data(256, 0)
    for number, y in enumerate(targets.values()):  # batches without one or two of the tasks
        y[torch.arange(256) % 5 != number] = torch.nan if y.is_floating_point() else -100
    with seeded(0):
        trunk = make()
    return mv.Problem(tasks=TASKS, trunk=trunk, **({"train": (x, targets), "validation": made_data(64, 1)} | parts))


def affinities(records: list[Record]) -> list[Measure]:
    return [r for r in records if isinstance(r, Measure) and r.name == "affinity"]


def by_hand(model: nn.Module, problem: mv.Problem, batch: Any, seed: int, rate: dict[str, float]) -> dict[Any, float]:
    """Z of every ordered pair, on copies of the model, by autograd."""

    def losses(there: Any) -> dict[str, torch.Tensor]:
        with seeded(seed):
            z = there.trunk(batch.inputs)
            tasks = [task for task in problem.tasks if task.name in batch.rows]
            own = {t.name: there.head(t.name)(z[batch.rows[t.name]]) for t in tasks}
            return {t.name: t.value(own[t.name], batch.targets[t.name]) for t in tasks}

    found = {}
    start = copy.deepcopy(model)
    for source in losses(copy.deepcopy(start)):
        there: Any = copy.deepcopy(start)
        before = losses(there)
        before[source].backward()
        moved: Any = copy.deepcopy(start)
        with torch.no_grad():
            for (name, p), q in zip(moved.trunk.named_parameters(), there.trunk.parameters(), strict=True):
                if q.grad is not None:
                    p -= rate[name.split(".")[0]] * q.grad
        for target, after in losses(moved).items():
            found[source, target] = 1 - after.item() / before[target].item()
    return found


@pytest.mark.parametrize("make", [Alive, chain])
def test_it_is_the_change_of_a_loss_after_a_step_along_one_gradient(make: Callable[[], nn.Module]) -> None:
    rate = {"counting": 0.05, "norm": 0.2, "spectral": 0.1, "inward": 0.2, "outward": 0.1}

    def groups(parameters: Any) -> torch.optim.Optimizer:
        free = dict(enumerate(parameters))
        names = [name.split(".")[1] for name, _ in training_model.named_parameters()]
        made = [{"params": [p], "lr": rate.get(names[i], 0.3)} for i, p in free.items()]
        return torch.optim.Adam(made, lr=1.0)

    problem = alive(make)
    training_model = problem.model
    training = mv.train(problem, steps=6, batch_size=8, affinity_every=2, optimizer=groups, seed=7)
    expected, found = {}, {}
    model = copy.deepcopy(training.model)
    for record in training:
        if isinstance(record, Step) and record.step % 2 == 0:
            seed, batch = derived_seed(7, 2, record.step), training.sampler.batch(record.step)
            hand = by_hand(model, problem, batch, seed, rate)
            expected |= {(record.step, *pair): value for pair, value in hand.items()}
        if isinstance(record, Measure):
            found[record.step, record.task, record.other] = record.value
        model = copy.deepcopy(training.model)
    assert list(found) == list(expected)
    assert len({step for step, *_ in found}) == 3
    assert {target for _, _, target in found} == set(NAMES)
    for place, value in found.items():
        assert value == pytest.approx(expected[place], rel=2e-3, abs=1e-6), place
    assert min(abs(value) for value in found.values()) > 1e-6


def everything(training: mv.Training) -> list[Any]:
    """All that a training went through and ended with, but for the clock and the affinities."""
    told = []
    for record in training:
        if isinstance(record, Step):
            told.append((record.step, *(a.tobytes() for a in (record.losses, record.weights, record.gramian))))
        elif not (isinstance(record, Measure) and record.name == "affinity"):
            told.append(repr(record))
    state = training.state_dict()
    numbers = {name: value.tolist() for name, value in training.model.state_dict().items()}
    buffers = {name: b.tolist() for name, b in training.model.named_buffers()}
    return [*told, repr({k: v for k, v in state.items() if k != "time"}), numbers, buffers]


@pytest.mark.parametrize("make", [Alive, chain])
@pytest.mark.parametrize("weighting", ["equal", "mgda", "uncertainty", "famo", "graddrop", "adatask"])
def test_measuring_it_never_changes_what_is_computed(weighting: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(5)
    expected, ends = torch.rand(3), []
    torch.manual_seed(5)
    for every in (0, 1, 3):
        options: dict[str, Any] = {"steps": 15, "batch_size": 8, "validate_every": 8, "weighting": weighting}
        ends.append(everything(mv.train(alive(make), affinity_every=every, **options)))
    assert torch.equal(torch.rand(3), expected)
    assert ends[1] == ends[0]
    assert ends[2] == ends[0]


@pytest.mark.parametrize("make", [Alive, chain])
@pytest.mark.parametrize("data", ["tensors", "noisy"])
def test_a_step_of_no_length_changes_no_loss_at_all(data: str, make: Callable[[], nn.Module]) -> None:
    still = partial(torch.optim.SGD, lr=0.0)
    parts: dict[str, Any] = {} if data == "tensors" else {"train": Noisy()}
    records = affinities(
        list(mv.train(alive(make, **parts), steps=5, batch_size=16, affinity_every=1, optimizer=still))
    )
    assert len(records) >= 20
    assert {record.value for record in records} == {0.0}


def test_absent_tasks_have_no_row_and_every_ordered_pair_of_the_others_has_one() -> None:
    records = list(mv.train(crossing(missing=0.9), steps=12, batch_size=4, affinity_every=3))
    steps = {r.step: r for r in records if isinstance(r, Step)}
    pairs: dict[int, list[Any]] = {3: [], 6: [], 9: [], 12: []}
    for record in affinities(records):
        pairs[record.step].append((record.task, record.other))
    for step, found in pairs.items():
        there = [name for name, count in zip(NAMES, steps[step].samples, strict=True) if count]
        assert found == [(a, b) for a in there for b in there]
    assert 0 < sum(map(len, pairs.values())) < 36


def refusing(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if outputs.abs().max() > 1e9:
        raise ValueError("outputs out of range")
    return F.mse_loss(outputs, targets)


def nothing_moves(losses: Any, gramian: Any) -> Any:
    return np.zeros(len(losses))


def test_what_is_not_defined_is_nan_and_never_ends_the_run() -> None:
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    tasks = [
        mv.Task("fine", loss=F.mse_loss, metric="rmse", outputs=1),
        mv.Task("other", loss=lambda z, y: F.mse_loss(z, y) - 100, metric="rmse", outputs=1),
    ]

    def measured(**options: Any) -> list[float]:
        problem = mv.Problem(tasks=tasks, trunk=nn.Linear(3, 2), train=(x, {"fine": x[:, 0], "other": x[:, 1]}))
        found = affinities(list(mv.train(problem, steps=2, affinity_every=2, **options)))
        assert [(r.task, r.other) for r in found] == [(i.name, j.name) for i in tasks for j in tasks]
        return [r.value for r in found]

    assert np.isnan(measured()).tolist() == [False, True, False, True]  # a loss below 0 has no part that falls
    far = {"optimizer": partial(torch.optim.SGD, lr=1e30), "weighting": nothing_moves}
    assert np.isnan(measured(**far)).all()  # where no loss is finite
    tasks[1] = mv.Task("other", loss=refusing, metric="rmse", outputs=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert np.isnan(measured(**far)).all()
    assert len(told) == 2
    assert all(re.search("No affinity of task '(fine|other)': .* outputs out of range", str(w.message)) for w in told)


def test_schedules_wait_rewind_and_distil_as_they_do_without_it() -> None:
    schedule = mv.training.Sequential(patience=1, order=["size", "kind", "rare"])
    plain = recorded(quick(schedule))
    log = recorded(quick(schedule, affinity_every=2))
    for name in ("steps", "validations", "events"):
        one, two = getattr(plain, name), getattr(log, name)
        pd.testing.assert_frame_equal(
            one.drop(columns="time", errors="ignore"), two.drop(columns="time", errors="ignore")
        )
    measures = log.measures.query("name == 'affinity'")
    present = log.steps[log.steps.samples > 0].set_index("step")
    assert (log.events.kind == "rewind").any()
    assert (log.steps.phase == "waiting").any()
    for step, own in measures.groupby("step"):
        there = list(present.loc[[step], "task"])
        assert present.loc[[step], "position"].iloc[0] % 2 == 0
        assert list(zip(own.task, own.other, strict=True)) == [(a, b) for a in there for b in there]


def test_a_resumed_run_has_the_affinities_of_one_that_nobody_killed(tmp_path: Path) -> None:
    run = assert_resumes(tmp_path, problem=alive(), affinity_every=4)
    assert len(run.log.measures.query("name == 'affinity'")) > 30


def test_a_run_is_resumed_with_its_own_setting_also_one_from_before_there_was_any(tmp_path: Path) -> None:
    broken_off(crossing(), tmp_path / "run", 14, **START)
    with pytest.raises(RunLogError, match="affinity_every is 0 there and 5 here"):
        mv.start(crossing(), log=tmp_path / "run", resume=True, affinity_every=5, **START)
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    assert content["config"].pop("affinity_every") == 0
    path.write_text(json.dumps(content))
    assert mv.start(crossing(), log=tmp_path / "run", resume=True, **START).wait(60).log.state == "finished"


@pytest.mark.parametrize("every", [-1, 1.5, True, None])
def test_anything_but_a_count_is_refused(every: Any) -> None:
    with pytest.raises(ValueError, match="affinity_every must be a whole number from 0"):
        mv.train(crossing(), affinity_every=every)
