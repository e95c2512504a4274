"""A TorchJD loop under a probe: its own Jacobians and weights stand in the log, and it trains as without."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchjd import aggregation
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad, mtl_backward

import mtlviz as mv
from mtlviz.errors import ProbeError
from mtlviz.interop.torchjd import jacobian
from tests.probe.loops import Net, batches, plain_gramian, trained


def smooth() -> Net:
    torch.manual_seed(2)
    return Net(nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8)))


class Loop:
    """TorchJD's loop for shared parameters and heads; keeps what it weighed with, and the Gramians of a plain loop."""

    def __init__(self, aggregator: aggregation.Aggregator) -> None:
        self.aggregator = aggregator
        self.weights: list[Any] = []
        self.gramians: list[np.ndarray] = []

    def __call__(self, net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        z = net.trunk(x)
        losses = net.losses(z, x)
        if probe is not None:
            self.gramians.append(plain_gramian(list(losses.values()), list(net.trunk.parameters())).numpy())
        mtl_backward(list(losses.values()), features=z)
        taken = jacobian(probe) if probe is not None else None
        weights = jac_to_grad(net.trunk.parameters(), self.aggregator)
        assert not any(hasattr(p, "jac") for p in net.parameters())
        if probe is not None:
            assert (taken is not None) == probe.recording
            self.weights.append(weights)
            told = [math.nan] * 2 if weights is None else weights
            probe.step(losses, weights=told, jacobian=taken)
        o.step()
        o.zero_grad()


@pytest.mark.parametrize("layers", ["whole", "layers"])
def test_torchjds_own_weights_and_gradients_are_logged(layers: str) -> None:
    loop = Loop(aggregation.UPGrad())
    without, _ = trained(False, make=smooth, run=Loop(aggregation.UPGrad()))
    with_it, probe = trained(True, make=smooth, run=loop, layers=layers)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert probe is not None
    assert list(probe.log.steps["step"].unique()) == [1, 4, 7, 10]
    wanted = torch.stack(loop.weights)[::3].numpy()
    np.testing.assert_allclose(probe.log.steps["weight"].to_numpy().reshape(-1, 2), wanted, rtol=1e-6)
    np.testing.assert_allclose(probe.log.gramians, loop.gramians[::3], rtol=1e-5)
    if layers == "layers":
        assert probe.log.info.layers == ("0", "2")
        np.testing.assert_allclose(probe.log.layer_gramians[1].sum(axis=1), loop.gramians[::3], rtol=1e-5)


def test_an_aggregator_that_does_not_weigh_leaves_no_weights() -> None:
    _, probe = trained(True, make=smooth, run=Loop(aggregation.GradDrop()))
    assert probe is not None
    assert probe.log.steps["weight"].isna().all()
    assert np.isfinite(probe.log.gramians).all()


def test_what_the_optimizer_makes_of_torchjds_gradients() -> None:
    loop = Loop(aggregation.UPGrad())
    plain = lambda parameters: torch.optim.SGD(parameters, lr=0.05)  # noqa: E731
    _, probe = trained(True, make=smooth, run=loop, optimizer=plain, effective=lambda o: o)
    assert probe is not None
    found = probe.log.measures.query("name == 'effective_change'")["value"].to_numpy().reshape(-1, 2)
    wanted = [-0.05 * G @ w.double().numpy() for G, w in zip(loop.gramians[::3], loop.weights[::3], strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_micro_batches_are_taken_as_their_mean() -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk, accumulate=3)
    rows = []
    for x in batches(2):  # the update has 2 calls, though 3 were announced
        losses = net.losses(net.trunk(x), x)
        backward(list(losses.values()), inputs=list(net.trunk.parameters()))
        taken = jacobian(probe)
        assert taken is not None
        rows.append(torch.cat([part.flatten(1) for part in taken if part is not None], dim=1).double())
        for parameter in net.trunk.parameters():
            del parameter.jac
        probe.step(losses, jacobian=taken, last=len(rows) == 2)
    mean = (rows[0] + rows[1]) / 2
    np.testing.assert_allclose(probe.log.gramians[0], (mean @ mean.T).numpy(), rtol=1e-5)
    assert probe.updates == 1


def test_autogram_loops_hand_over_their_weights_before_backward() -> None:
    def run(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
        if net not in engines:
            engines[net] = Engine(net.trunk, batch_dim=None)
        losses = torch.stack(list(net.losses(net.trunk(x), x).values()))
        weights = weighting(engines[net].compute_gramian(losses))
        if probe is not None:
            probe.step(losses, weights=weights)
            logged.append(weights)
        losses.backward(weights)
        o.step()
        o.zero_grad()

    weighting, logged, engines = aggregation.UPGradWeighting(), list[torch.Tensor](), dict[Net, Engine]()
    without, _ = trained(False, make=smooth, run=run)
    with_it, probe = trained(True, make=smooth, run=run)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert probe is not None
    wanted = torch.stack(logged)[::3].numpy()
    np.testing.assert_allclose(probe.log.steps["weight"].to_numpy().reshape(-1, 2), wanted, rtol=1e-6)


def test_what_does_not_fit_is_told() -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    losses = net.losses(net.trunk(x), x)
    with pytest.raises(ProbeError, match=r"after TorchJD's backward\(\)"):
        jacobian(probe)
    good = [torch.ones(2, *p.shape) for p in probe.parameters]
    for bad, said in (
        (good[:-1], "for each of the 4 probe.parameters"),
        (torch.ones(2, 3), "a sequence of tensors"),
        ([*good[:-1], torch.ones(3, 8)], r"must be \(2, 8\).*got \(3, 8\)"),
        ([*good[:-1], 1.0], "got float"),
    ):
        with pytest.raises(ProbeError, match=said):
            probe.step(losses, jacobian=bad)
        probe = mv.Probe(["a", "b"], net.trunk, every=1)
    with pytest.raises(ProbeError, match="not as b, a"):
        probe.step({"b": losses["b"], "a": losses["a"]}, jacobian=good)
    with pytest.raises(ProbeError, match="give the probe accumulate="):
        probe.step(losses, last=False)
    with pytest.raises(ProbeError, match="noise=True takes gradients of half batches"):
        mv.Probe(["a", "b"], net.trunk, noise=True).step(losses, jacobian=good)
