"""A loop with a probe trains exactly as without it."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mtlviz as mv
from tests.probe.loops import Net, batches, plain_gramian, trained


def same(**settings: Any) -> mv.Probe:
    """Trains with and without; the probe that recorded."""
    shared = {key: settings[key] for key in ("make", "optimizer", "steps", "run") if key in settings}
    without, _ = trained(False, **shared)
    with_it, probe = trained(True, **settings)
    assert len(without) == len(with_it)
    for a, b in zip(without, with_it, strict=True):
        assert torch.equal(a, b)
    assert probe is not None
    assert len(probe.log) >= 4
    assert np.isfinite(probe.log.gramians).all()
    return probe


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01)


def test_dropout_batchnorm_and_momentum() -> None:
    same()


def test_adam_and_what_it_makes_of_the_gradients() -> None:
    probe = same(optimizer=adam, effective=lambda o: o)
    assert set(probe.log.measures["name"]) == {"effective_change", "effective_length"}


def test_the_loop_finds_no_grad_where_it_left_none() -> None:
    def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        z = net.trunk(x)
        z.retain_grad()
        losses = net.losses(z, x)
        o.zero_grad()
        if probe is not None:
            probe.step(losses, features=z)
        assert z.grad is None
        assert all(p.grad is None for p in net.parameters())
        sum(losses.values()).backward()
        o.step()

    same(run=run)


def test_autocast_in_bfloat16_also_from_within() -> None:
    def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = net.losses(net.trunk(x), x)
            if probe is not None:
                probe.step(losses)
        o.zero_grad()
        sum(losses.values()).backward()
        o.step()

    same(run=run)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_scaler_leaves_true_norms(scaled: bool) -> None:
    def scaling(scaler: torch.amp.GradScaler) -> Any:
        def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                losses = net.losses(net.trunk(x), x)
            o.zero_grad()
            given = {name: scaler.scale(loss) for name, loss in losses.items()}
            if probe is not None:
                probe.step(given if scaled else losses, scaled=scaled)
            sum(given.values()).backward()
            scaler.step(o)
            scaler.update()

        return run

    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=4)

    own = scaler()
    without, _ = trained(False, run=scaling(scaler()))
    with_it, probe = trained(True, run=scaling(own), scaler=own)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert probe is not None
    off = torch.amp.GradScaler("cpu", enabled=False)
    _, unscaled = trained(True, run=scaling(off), scaler=off)
    assert unscaled is not None
    np.testing.assert_allclose(probe.log.gramians[0], unscaled.log.gramians[0], rtol=0.02)  # of bfloat16
    np.testing.assert_allclose(probe.log.losses[0], unscaled.log.losses[0], rtol=1e-6)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.reentrant = nn.Linear(6, 12), reentrant
        self.second = nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.4), nn.Linear(12, 8), nn.BatchNorm1d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Without the state kept, a second pass forward draws from the loop's own stream.
        return checkpoint(self.second, self.first(x), use_reentrant=self.reentrant, preserve_rng_state=False)


def test_checkpointed_parts_count_nothing_twice() -> None:
    probe = same(make=lambda: Net(Checkpointed(reentrant=False)))
    assert probe.log.info.layers == ("first", "second.0", "second.2", "second.3")


def test_buffers_come_back_before_the_loops_own_backward() -> None:
    net = Net(Checkpointed(reentrant=False))
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    losses = net.losses(net.trunk(x), x)
    before = copy.deepcopy(dict(net.named_buffers()))
    probe.step(losses)
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_reentrant_checkpointing_is_refused() -> None:
    with pytest.raises(mv.errors.ProbeError, match="use_reentrant=False"):
        trained(True, make=lambda: Net(Checkpointed(reentrant=True)))


def test_accumulated_micro_batches_are_one_step() -> None:
    def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        o.zero_grad()
        for part in x.split(4):
            losses = net.losses(net.trunk(part), part)
            if probe is not None:
                probe.step(losses)
            (sum(losses.values()) / 4).backward()
        o.step()

    probe = same(run=run, accumulate=4)
    assert list(probe.log.recorded_steps) == [1, 4, 7, 10]


def test_a_whole_batch_and_its_micro_batches_say_the_same() -> None:
    torch.manual_seed(1)
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
    x = next(batches(1))
    parts = mv.Probe(["a", "b"], net.trunk, accumulate=4)
    for part in x.split(4):
        parts.step(net.losses(net.trunk(part), part))
    whole = mv.Probe(["a", "b"], net.trunk)
    whole.step(net.losses(net.trunk(x), x))
    np.testing.assert_allclose(parts.log.gramians, whole.log.gramians, rtol=1e-4)
    np.testing.assert_allclose(parts.log.losses, whole.log.losses, rtol=1e-6)


def test_a_compiled_trunk() -> None:
    def make() -> Net:
        torch._dynamo.reset()
        net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
        net.trunk = torch.compile(net.trunk, backend="aot_eager")
        return net

    probe = same(make=make, steps=10)
    assert probe.log.info.layers == ("0",)


def test_tied_and_frozen_parameters() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 8)
            self.second.weight = self.first.weight
            self.second.bias.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))

    probe = same(make=lambda: Net(Tied()))
    assert probe.log.info.layers == ("first", "last", "frozen at the start")


def test_what_is_frozen_or_unfrozen_later_counts_as_it_is() -> None:
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)))
    net.trunk[2].requires_grad_(False)
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    for later in (False, True):
        net.trunk[0].requires_grad_(not later)
        net.trunk[2].requires_grad_(later)
        losses = net.losses(net.trunk(x), x)
        probe.step(losses)
        wanted = plain_gramian(list(losses.values()), list(net.trunk[2 if later else 0].parameters()))
        np.testing.assert_allclose(probe.log.gramians[-1], wanted.numpy(), rtol=1e-5)


class Drawing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * torch.rand(())


class Augmenting(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * np.random.rand() * random.random()  # noqa: NPY002


class DrawingTrunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), Augmenting(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Drawing.apply(checkpoint(self.second, self.first(x), use_reentrant=False))


def test_random_states_are_kept_where_a_backward_pass_draws() -> None:
    def make() -> Net:
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        return Net(DrawingTrunk())

    same(make=make)


class Meanwhile(torch.autograd.Function):
    """In its backward pass, another thread does something of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, act: Any) -> torch.Tensor:
        ctx.act = act
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        thread = threading.Thread(target=ctx.act)
        thread.start()
        thread.join()
        return grad, None


@pytest.mark.parametrize("layers", ["layers", "tensors"])
def test_what_another_thread_trains_meanwhile_counts(layers: str) -> None:
    other = Net(Checkpointed(reentrant=False))
    x = next(batches(1))

    def step() -> None:
        sum(other.losses(other.trunk(x), x).values()).backward()

    alone = copy.deepcopy(other)
    for _ in range(2):  # tasks of the probed loop
        sum(alone.losses(alone.trunk(x), x).values()).backward()
    net = Net(Checkpointed(reentrant=False))
    probe = mv.Probe(["a", "b"], net.trunk, layers=layers)
    losses = net.losses(net.trunk(x), x)
    before = copy.deepcopy(dict(net.named_buffers()))
    probe.step({name: Meanwhile.apply(loss, step) for name, loss in losses.items()})
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    wanted = dict(alone.named_buffers())
    assert wanted["trunk.second.0.num_batches_tracked"] == 4  # forward, and again in each backward pass
    for name in ("trunk.second.0.num_batches_tracked", "trunk.second.0.running_mean"):
        assert torch.equal(dict(other.named_buffers())[name], wanted[name]), name


def test_checkpointed_heads_outside_of_what_is_shared_count_nothing_twice() -> None:
    def make() -> Net:
        net = Net()
        net.a = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 1))
        return net

    def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        z = net.trunk(x)
        losses = {"a": checkpoint(net.a, z, use_reentrant=False).square().mean(), "b": net.losses(z, x)["b"]}
        if probe is not None:
            probe.step(losses)
        o.zero_grad()
        sum(losses.values()).backward()
        o.step()

    same(make=make, run=run)
