"""Trunks by hand and by autograd, layers by factors and by rows, heads stacked and alone: one truth in every form."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data.splits import Batch
from mtlviz.gradients import SharedGradients, chain, heads
from mtlviz.models import SharedTrunk

WIDE, NARROW = 60, 4


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(WIDE, WIDE), nn.LayerNorm(WIDE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(torch.tanh(self.inner(x)))


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "wide chain": lambda: nn.Sequential(nn.Linear(6, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE, bias=False), nn.Tanh()),
    "deep chain": lambda: nn.Sequential(
        nn.Identity(),
        nn.Sequential(nn.Linear(6, NARROW), nn.ELU(inplace=True), nn.LeakyReLU()),
        nn.Linear(NARROW, WIDE),
    ),
    "one layer": lambda: nn.Linear(6, WIDE),
    "skipping": lambda: nn.Sequential(nn.Linear(6, WIDE), nn.ReLU(inplace=True), Skipping(), Skipping()),
    "frozen below": lambda: nn.Sequential(nn.Linear(6, WIDE).requires_grad_(False), nn.ReLU(), nn.Linear(WIDE, WIDE)),
    "convolving": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 20, 3), nn.ReLU(), nn.Conv1d(20, 30, 4), nn.Flatten(), nn.Linear(30, WIDE)
    ),
}
LOSSES = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits)
KINDS: dict[str, tuple[Any, int, Callable[[int], torch.Tensor]]] = {
    **{loss.__name__: (loss, 1, lambda B: torch.rand(B, dtype=torch.float64)) for loss in LOSSES},
    "mse of two": (F.mse_loss, 2, lambda B: torch.rand(B, 2, dtype=torch.float64)),
    "cross entropy": (F.cross_entropy, 3, lambda B: torch.randint(0, 3, (B,))),
    "own": (lambda o, y: (o - y).abs().pow(1.5).mean(), 1, lambda B: torch.rand(B, dtype=torch.float64)),
}


@st.composite
def situations(draw: st.DrawFn) -> tuple[SharedTrunk, list[mv.Task], Batch]:
    """A model in float64, tasks of which some are alike, and a batch that some are absent from or label in part."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    trunk = TRUNKS[draw(st.sampled_from(list(TRUNKS)))]()
    B = draw(st.sampled_from([4, 12, 90]))
    count = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=2))
    tasks, rows, targets, made = [], dict[str, Any](), dict[str, torch.Tensor](), dict[str, nn.Module]()
    for t in range(count):
        loss, outputs, y = KINDS[kinds[t % len(kinds)]]
        scale = draw(st.sampled_from([1.0, 3.0]))
        name = f"task {t}"
        metric = "accuracy" if loss is F.cross_entropy else "rmse"
        tasks.append(mv.Task(name, loss=loss, metric=metric, outputs=outputs, scale=scale))
        made[name] = nn.Linear(WIDE, outputs, bias=draw(st.booleans()))
        which = draw(st.sampled_from([slice(0, B), slice(0, B), slice(0, B // 2), torch.arange(0, B, 2), None]))
        if which is not None:
            rows[name], targets[name] = which, y(B)[which]
    model = SharedTrunk(trunk, made).double()
    return model, tasks, Batch(torch.randn(B, 6, dtype=torch.float64), rows, targets)


def losses_of(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> list[torch.Tensor | None]:
    z = model.represent(batch.inputs)
    return [
        task.value(model.head(task.name)(z[batch.rows[task.name]]), batch.targets[task.name])
        if task.name in batch.rows
        else None
        for task in tasks
    ]


def plain(losses: list[torch.Tensor | None], parameters: list[nn.Parameter]) -> torch.Tensor:
    """J (T, P), zeros where a task is absent."""
    J = torch.zeros(len(losses), sum(p.numel() for p in parameters), dtype=torch.float64)
    for row, loss in zip(J, losses, strict=True):
        if loss is not None:
            row.copy_(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)]))
    return J


@settings(max_examples=60, deadline=None)
@given(situations(), st.booleans(), st.booleans(), st.sampled_from(["sum", "weighted"]), st.booleans())
def test_every_form_says_what_a_plain_loop_says(
    situation: tuple[SharedTrunk, list[mv.Task], Batch], whole: bool, exact: bool, kind: str, factors: bool
) -> None:
    model, tasks, batch = situation
    twin = copy.deepcopy(model)
    with pytest.MonkeyPatch.context() as patch:
        if factors:
            patch.setattr("mtlviz.gradients.ghost.costs", lambda *_, **__: (0.0, 1.0))
        engine = SharedGradients(model, tasks, jacobian=whole)
        found = engine.of(batch)
        losses = losses_of(twin, tasks, batch)
        parameters = [p for layer in twin.layers().values() for p in layer]
        J = plain(losses, parameters)
        for loss, ours in zip(losses, found.losses, strict=True):
            torch.testing.assert_close(ours, torch.zeros_like(ours) if loss is None else loss.detach())
        for span, gramian in zip(engine.layer_spans().values(), engine.layer_gramians(found), strict=True):
            torch.testing.assert_close(gramian, J[:, span] @ J[:, span].T, rtol=1e-9, atol=1e-13)
        weights = torch.linspace(-1, 2, len(tasks), dtype=torch.float64)
        engine.set_grad(found, weights, heads=kind, exact=exact)
        torch.testing.assert_close(found.jacobian, J, rtol=1e-9, atol=1e-13)
    assert not whole or "ghost" not in engine.name.replace("0 ghost", "")
    if not batch.rows:
        return
    torch.testing.assert_close(grads_of(model.trunk), grads_of(twin.trunk, J.T @ weights), rtol=1e-9, atol=1e-12)
    for number, (task, loss) in enumerate(zip(tasks, losses, strict=True)):
        own, theirs = list(model.head(task.name).parameters()), list(twin.head(task.name).parameters())
        if loss is None:
            assert all(p.grad is None for p in own)
            continue
        scale = 1.0 if kind == "sum" else float(weights[number])
        for p, grad in zip(own, torch.autograd.grad(loss, theirs, retain_graph=True), strict=True):
            torch.testing.assert_close(p.grad, scale * grad, rtol=1e-9, atol=1e-13)


def grads_of(trunk: nn.Module, expected: torch.Tensor | None = None) -> torch.Tensor:
    return (
        torch.cat([p.grad.flatten() for p in trunk.parameters() if p.requires_grad]) if expected is None else expected
    )


def made(trunk: nn.Module, count: int = 3) -> tuple[SharedGradients, Batch]:
    torch.manual_seed(0)
    tasks = [mv.Task(f"task {t}", loss=F.mse_loss, metric="rmse", outputs=1) for t in range(count)]
    model = SharedTrunk(trunk, {task.name: nn.Linear(WIDE, 1) for task in tasks})
    targets = {task.name: torch.randn(8) for task in tasks}
    return SharedGradients(model, tasks), Batch(torch.randn(8, 6), {t: slice(0, 8) for t in targets}, targets)


@pytest.mark.parametrize("kind", chain._ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_an_activation_by_hand_is_that_of_autograd(kind: type[nn.Module]) -> None:
    module, h = kind(), torch.linspace(-4, 4, 40, dtype=torch.float64)
    torch.manual_seed(1)
    leaf = h.clone().requires_grad_()
    expected = module(leaf)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    torch.manual_seed(1)
    value, ours = chain._bent(module, h)
    assert torch.equal(value, expected.detach())
    torch.testing.assert_close(ours, slope)


@pytest.mark.parametrize("name", KINDS)
def test_stacked_heads_are_the_heads_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, outputs, y = KINDS[name]
    metric = "accuracy" if loss is F.cross_entropy else "rmse"
    tasks = [mv.Task(f"task {t}", loss=loss, metric=metric, outputs=outputs, scale=2.5) for t in range(3)]
    model = SharedTrunk(nn.Linear(6, WIDE), {task.name: nn.Linear(WIDE, outputs) for task in tasks}).double()
    z, targets = torch.randn(9, WIDE, dtype=torch.float64), {task.name: y(9) for task in tasks}
    if loss is F.cross_entropy:
        targets["task 1"][2:5] = -100  # no class
    rows = {task.name: slice(0, 9) for task in tasks}
    taken = heads.Heads(model, list(rows))
    together = taken(tasks, z, rows, targets)
    assert (together.together is None) == (name == "own")
    monkeypatch.setattr(heads, "stacks", lambda *_: [])
    alone = taken(tasks, z, rows, targets)
    torch.testing.assert_close(together.losses, alone.losses)
    torch.testing.assert_close(torch.stack(together.cotangents), torch.stack(alone.cotangents))
    assert together.grads.keys() == alone.grads.keys()
    for parameter, (number, grad) in alone.grads.items():
        assert together.grads[parameter][0] == number
        torch.testing.assert_close(together.grads[parameter][1], grad)


def test_what_is_more_than_a_chain_is_left_to_autograd() -> None:
    engine, batch = made(TRUNKS["wide chain"]())
    engine.of(batch)
    assert engine.name == "by hand (1 ghost, 1 rows)"
    seen: list[int] = []
    handle = engine.model.trunk[0].register_forward_hook(lambda *_: seen.append(1))
    engine.of(batch)
    assert engine.name.startswith("layerwise")
    assert seen == [1]
    handle.remove()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert engine._chain is not None
        assert not engine._chain.takes(batch.inputs)
    engine.of(batch)
    assert engine.name.startswith("by hand")


@pytest.mark.parametrize("trunk", ["wide chain", "skipping"])
def test_no_tensor_of_a_step_outlives_it(trunk: str) -> None:
    engine, batch = made(TRUNKS[trunk]())
    found = engine.of(batch)
    engine.set_grad(found, torch.ones(3, dtype=torch.float64), heads="sum")
    kept = [weakref.ref(x) for block in found.shared for x in vars(block).values() if isinstance(x, torch.Tensor)]
    inputs = weakref.ref(batch.inputs)
    assert len(kept) > 2
    del found, batch
    gc.collect()
    assert inputs() is None
    assert not any(ref() is not None for ref in kept)
    assert len(engine._engine.tape) == 0
