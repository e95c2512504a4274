"""Checkpoints: what goes in comes out, files are whole or not there, and what cannot be kept or read is named."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter, OrderedDict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mtlviz as mv
from mtlviz.errors import RunLogError
from mtlviz.training.checkpoints import Checkpoints, InFolder, InMemory, best_model
from tests.problems import Crossing, crossing
from tests.training.resumed import assert_same_state


@pytest.fixture(params=["memory", "folder"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    return InMemory() if request.param == "memory" else InFolder(tmp_path, tasks=["a/b", "c"])


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
tensors = st.builds(
    lambda shape, dtype, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
)
arrays = st.builds(
    lambda shape, dtype: np.arange(math.prod(shape)).reshape(shape).astype(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["float64", "float32", "int64", "bool", "int8"]),
)
states = st.recursive(
    plain | tensors | arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3).map(OrderedDict)
        | st.lists(st.integers(0, 5), max_size=4).map(Counter)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(states)
def test_any_state_comes_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    for kept in (InMemory(), InFolder(tmp_path_factory.mktemp("run"), tasks=["a"])):
        kept.save(7, {"state": state})
        assert_same_state(kept.load(7), {"state": state})


SCHEDULERS = {
    "multi_step": partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[2, 2, 5], gamma=0.3),
    "one_cycle": partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=30),
    "restarts": partial(torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, T_0=3),
    "lambda": partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 0.9**step),
    "cyclic": partial(torch.optim.lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.1, cycle_momentum=False),
    "sequence": lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3),
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4]),
        ],
        milestones=[3],
    ),
}
OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, amsgrad=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "rmsprop": partial(torch.optim.RMSprop, centered=True, momentum=0.5),
}


class _Learner:
    """A model with an optimizer and a scheduler, and a step of learning that depends on all their state."""

    def __init__(self, optimizer: str, scheduler: str) -> None:
        self.model = nn.Sequential(Crossing(), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.optimizer: torch.optim.Optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)

    def learn(self, seed: int) -> None:
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.scheduler.step()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_schedulers_go_on_as_they_would_have(
    checkpoints: Checkpoints, optimizer: str, scheduler: str
) -> None:
    one = _Learner(optimizer, scheduler)
    for seed in range(4):
        one.learn(seed)
    checkpoints.save(4, one.state_dict())
    two = _Learner(optimizer, scheduler)
    two.load_state_dict(checkpoints.load(4))
    assert_same_state(two.scheduler.state_dict(), one.scheduler.state_dict())
    for seed in range(4, 9):
        one.learn(seed)
        two.learn(seed)
    assert_same_state(two.model.state_dict(), one.model.state_dict())
    assert_same_state(two.optimizer.state_dict(), one.optimizer.state_dict())
    assert checkpoints.load(4)["model"]._metadata == one.model.state_dict()._metadata


@pytest.mark.parametrize("name", ["dwa", "famo", "gradnorm", "rlw", "uncertainty", "emtl"])
def test_weightings_go_on_as_they_would_have(checkpoints: Checkpoints, name: str) -> None:
    one, two = mv.weighting.METHODS[name](), mv.weighting.METHODS[name]()
    J = np.random.default_rng(0).normal(size=(60, 3, 4))
    losses = np.random.default_rng(1).uniform(0.5, 2, size=(60, 3))
    for step in range(60):
        if step == 52:  # past two windows of DWA
            checkpoints.save(52, {"weighting": one.state_dict()})
            two.load_state_dict(checkpoints.load(52)["weighting"])
        weights = one(losses[step], J[step] @ J[step].T)
        one.observe(losses[step] * 0.9)
        if step >= 52:
            np.testing.assert_array_equal(two(losses[step], J[step] @ J[step].T), weights)
            two.observe(losses[step] * 0.9)


def test_what_is_kept_is_a_copy(checkpoints: Checkpoints) -> None:
    tensor, array = torch.zeros(10), np.zeros(3)
    checkpoints.save(1, {"tensor": tensor[2:4], "array": array, "parameter": nn.Parameter(tensor[:1])})
    tensor += 1
    array += 1
    for _ in range(2):
        state = checkpoints.load(1)
        assert state["tensor"].tolist() == [0, 0]
        assert state["array"].tolist() == [0, 0, 0]
        assert type(state["parameter"]) is torch.Tensor
        state["tensor"] += 1
        state["array"] += 1


def test_a_file_holds_tensors_and_plain_values_only(tmp_path: Path) -> None:
    kept = InFolder(tmp_path, tasks=["a"])
    kept.save(12, {"numbers": np.arange(3.0), "one": np.float64(2.5), "view": torch.zeros(1000, 1000)[0, :2]})
    path = tmp_path / "checkpoints" / "step-000000012.pt"
    assert path.stat().st_size < 10_000, "a view must not bring along what it is a view of"
    state = torch.load(path, weights_only=True)["state"]
    assert torch.equal(state["numbers"]["$numpy"], torch.arange(3.0, dtype=torch.float64))
    assert type(state["one"]) is float
    assert kept.steps() == [12]


class _Other:
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"optimizer": {"state": {0: {"step": _Other()}}}}, r"optimizer\.state\.0\.step is or has a _Other"),
        ({"scheduler": {"lambdas": [None, lambda: 1]}}, r"scheduler\.lambdas\.1 is or has a function"),
        ({"a": {"b": ({1, 2},)}}, r"a\.b\.0 is or has a set"),
        ({"a": {torch.float32: 1}}, r"a is or has the key torch\.float32"),
        ({"a": {"$numpy": 1}}, r"a is or has the key '\$numpy'"),
        ({"a": np.array(["x"])}, r"a is or has an array of <U1"),
        ({"a": np.array([None])}, r"a is or has an array of object"),
        ({"a": np.datetime64("2026-01-01")}, r"a is or has a datetime64"),
        ({"a": torch.eye(2).to_sparse()}, r"a is or has a tensor of layout torch\.sparse_coo"),
        ({"a": torch.zeros(2, device="meta")}, "a is or has a tensor of .* on meta"),
        ({(1, 2): 1}, r"the state is or has the key \(1, 2\)"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(checkpoints: Checkpoints, value: Any, place: str) -> None:
    checkpoints.save(3, {"fine": 1})
    with pytest.raises(RunLogError, match=place):
        checkpoints.save(3, value)
    assert checkpoints.load(3) == {"fine": 1}


def test_pruning_keeps_what_is_named_and_soft_labels(checkpoints: Checkpoints) -> None:
    for step in (0, 5, 10, 1_234_567_890):
        checkpoints.save(step, {"step": step})
    labels = torch.rand(7, 3)
    checkpoints.save_soft("a/b", 5, labels)
    assert checkpoints.steps() == [0, 5, 10, 1_234_567_890]
    checkpoints.prune({5, 1_234_567_890, 77})
    assert checkpoints.steps() == [5, 1_234_567_890]
    assert checkpoints.load(1_234_567_890) == {"step": 1_234_567_890}
    with pytest.raises(RunLogError, match=r"step.*10"):
        checkpoints.load(10)
    assert torch.equal(checkpoints.load_soft("a/b", 5), labels)
    with pytest.raises(RunLogError, match="soft"):
        checkpoints.load_soft("c", 5)
    checkpoints.save_soft("a/b", 5, labels + 1)
    assert torch.equal(checkpoints.load_soft("a/b", 5), labels + 1)


def test_the_log_is_flushed_first(tmp_path: Path) -> None:
    seen = []
    kept = InFolder(tmp_path, tasks=["a"])
    kept.flush = lambda: seen.append(kept.steps())
    kept.save(0, {})
    kept.save(5, {})
    assert seen == [[], [0]]


class _Dropping:
    """Checkpoints of a run that trains on: each time that one is chosen, it has just been dropped for the next."""

    def __init__(self, kept: Checkpoints, times: int) -> None:
        self.kept, self.times = kept, times
        self.loaded: list[int] = []

    def steps(self) -> list[int]:
        return self.kept.steps()

    def load(self, step: int) -> dict[str, Any]:
        self.loaded.append(step)
        if len(self.loaded) <= self.times:
            self.kept.prune(set(self.kept.steps()) - {step})
        return self.kept.load(step)


def _rising(kept: Checkpoints, problem: mv.Problem, count: int) -> mv.RunLog:
    """The log of a run whose validations only get better, and checkpoints of them all."""
    log = mv.RunLog.create(None, mv.train(problem, steps=1))
    for step in range(count):
        log.append(mv.Validation(step, step, "kind", "accuracy", step / 100))
        kept.save(step, {"model": problem.model.state_dict(), "buffers": {}})
    return log


def test_the_best_model_is_chosen_anew_where_the_run_dropped_it(checkpoints: Checkpoints) -> None:
    problem = crossing()
    log = _rising(checkpoints, problem, 6)
    dropping: Any = _Dropping(checkpoints, 3)
    run: Any = SimpleNamespace(log=log, training=SimpleNamespace(checkpoints=dropping))
    best_model(run, problem, "kind")
    assert dropping.loaded == [5, 4, 3, 2]
    dropping.times = 9
    with pytest.raises(RunLogError, match="No checkpoint of a validation of the task 'kind' is kept by this run"):
        best_model(run, problem, "kind")
    assert checkpoints.steps() == []


def test_threads_may_save_prune_and_ask_at_once(checkpoints: Checkpoints) -> None:
    raised: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                for step in checkpoints.steps()[-1:]:
                    with contextlib.suppress(RunLogError):  # dropped in between
                        assert checkpoints.load(step) == {"step": step}
        except Exception as error:  # noqa: BLE001 - a thread's own would only be printed
            raised.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in range(40):
        checkpoints.save(step, {"step": step})
        checkpoints.prune({step, step - 1, *range(0, step, 10)})
    done.set()
    for thread in threads:
        thread.join()
    assert not raised
