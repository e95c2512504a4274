"""Conflict is told from the noise that two tasks share, at the error rate that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mtlviz as mv
from mtlviz.errors import FrameError, ProbeError
from mtlviz.intervals import mean_interval
from tests.probe.loops import Net, batches, plain_gramian

WINDOW, WINDOWS, B = 12, 120, 12


def planted(product: float, steps: int, *, per_sample: bool = False) -> mv.RunLog:
    """A linear trunk z = W x and losses mean(u_t · z) with E[u_a]·E[u_b] = `product`, and noise of opposite sign in u.

    The parameters stay, so that all steps are draws of the same: ∇L_t = E[u_t] E[x]ᵀ, ‖E[x]‖ = 1.
    """
    torch.manual_seed(1)
    trunk = nn.Linear(3, 4, bias=False)
    probe = mv.Probe(["a", "b"], trunk, every=1, noise=True, layers="whole")
    generator = torch.Generator().manual_seed(11)
    a, b = torch.tensor([1.0, 0, 0, 0]), torch.tensor([product, 1.0, 0, 0])
    for _ in range(steps):
        x = torch.randn(B, 3, generator=generator) + torch.tensor([1.0, 0, 0])
        shared = 2 * torch.randn(B, 4, generator=generator)
        z = trunk(x)
        each = [((a + shared) * z).sum(1), ((b - shared) * z).sum(1)]
        if per_sample:
            probe.step(each)
        else:
            probe.step([loss.mean() for loss in each], features=z)
    return probe.log


@pytest.fixture(scope="module")
def null() -> mv.RunLog:
    return planted(0.0, WINDOW * WINDOWS)


def test_without_conflict_the_test_errs_as_often_as_it_says(null: mv.RunLog) -> None:
    ends = null.recorded_steps[WINDOW - 1 :: WINDOW]
    tests = [mv.analysis.conflict_test(null, step=int(end), window=WINDOW).iloc[0] for end in ends]
    wrong = sum(row["verdict"] != "undecided" for row in tests)
    assert 1 <= wrong <= 13  # 5 % of 120 are 6, with a standard deviation of 2.4
    assert all(row["count"] == WINDOW for row in tests)
    dots = null.gramians[:, 0, 1].reshape(WINDOWS, WINDOW)
    naive = sum(mean_interval(window)[2] < 0 for window in dots)
    assert naive > 0.95 * WINDOWS  # one batch's product finds a conflict that is not there, nearly always


def test_the_halves_product_and_the_floor_are_unbiased(null: mv.RunLog) -> None:
    row = mv.analysis.conflict_test(null, confidence=0.9999).iloc[0]
    assert row["low"] < 0 < row["high"]
    assert row["same_batch"] < -0.5
    floor = mv.analysis.noise_floor(null)
    np.testing.assert_allclose(floor["signal"], [1, 1], rtol=0.1)  # ‖E[u_t]‖ ‖E[x]‖
    # Σ Var(u x) / B = ((‖E u‖² + 4·4) (1 + 3) − ‖E u‖²) / B
    wanted = (17 * 4 - 1) / B
    np.testing.assert_allclose(floor["norm"] ** 2 - floor["signal"] ** 2, [wanted, wanted], rtol=0.1)
    assert (floor["low"] < floor["noise"]).all()
    assert (floor["noise"] < floor["high"]).all()


@pytest.mark.parametrize(("product", "verdict"), [(-8.0, "conflict"), (8.0, "agreement")])
def test_a_planted_conflict_is_found_behind_the_noise(product: float, verdict: str) -> None:
    log = planted(product, 200)
    row = mv.analysis.conflict_test(log).iloc[0]
    assert row["verdict"] == verdict
    assert row["mean"] == pytest.approx(product, rel=0.4)
    assert mv.figures.conflict_test(mv.analysis.conflict_test(log)).data[0].name == verdict
    assert len(mv.figures.noise_floor(mv.analysis.noise_floor(log)).data) == 2


def test_per_sample_losses_say_what_features_say() -> None:
    one, other = (planted(-1.0, 5, per_sample=way) for way in (False, True))
    np.testing.assert_allclose(one.measures["value"], other.measures["value"], rtol=1e-4)
    np.testing.assert_allclose(one.gramians, other.gramians, rtol=1e-4)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"effective": True}])
def test_whole_gradients_are_as_without(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
    o = torch.optim.SGD(net.parameters(), lr=0.1)
    settings = settings | ({"effective": o} if "effective" in settings else {})
    probes = [mv.Probe(["a", "b"], net.trunk, every=1, noise=noise, **settings) for noise in (True, False)]
    for x in batches(4, 15):  # halves of 7 and 8
        for probe in probes:
            z = net.trunk(x)
            probe.step(net.losses(z, x), features=z)
        o.step()
    one, other = (probe.log for probe in probes)
    np.testing.assert_allclose(one.gramians, other.gramians, rtol=1e-4)
    np.testing.assert_allclose(one.layer_gramians[1], other.layer_gramians[1], rtol=1e-4)
    np.testing.assert_allclose(
        *(log.measures.query("name == 'effective_change'")["value"] for log in (one, other)), rtol=1e-4
    )


def test_one_sample_has_no_halves_and_an_absent_task_no_product() -> None:
    net = Net(nn.Linear(6, 8))
    probe = mv.Probe(["a", "b"], net.trunk, every=1, noise=True)
    for x, absent in ((torch.randn(1, 6), ()), (torch.randn(8, 6), ("b",))):
        z = net.trunk(x)
        losses = net.losses(z, x)
        probe.step({name: loss for name, loss in losses.items() if name not in absent}, features=z)
    assert np.isfinite(probe.log.gramians[0]).all()
    assert probe.log.measures[["step", "task", "other"]].to_numpy().tolist() == [[2, "a", "a"]]
    z = net.trunk(x)
    loss = net.losses(z, x)["a"]
    np.testing.assert_allclose(
        probe.log.gramians[1][0, 0], plain_gramian([loss], list(net.trunk.parameters()))[0, 0], rtol=1e-5
    )


def test_what_has_no_halves_is_refused() -> None:
    x = next(batches(1))
    with pytest.raises(ProbeError, match="BatchNorm"):
        _step(Net(), x, features=True)
    _step(Net().eval(), x, features=True)
    outside = nn.BatchNorm1d(1)  # in a head, where the module that is shared does not show it
    net = Net(nn.Linear(6, 8))
    z = net.trunk(x)
    with pytest.raises(ProbeError, match="BatchNorm"):
        mv.Probe(["a", "b"], net.trunk.parameters(), noise=True).step([outside(net.a(z)).sum(), z.sum()], features=z)
    with pytest.raises(ProbeError, match="per-sample losses"):
        _step(net, x, features=False)
    with pytest.raises(ProbeError, match="same samples"):
        mv.Probe(["a", "b"], net.trunk, noise=True).step([z[:3, 0], z[:, 1]])
    flat = net.trunk(x[0])
    with pytest.raises(ProbeError, match="batch first"):
        mv.Probe(["a", "b"], net.trunk, noise=True).step([flat.sum(), flat.mean()], features=flat)


def _step(net: Net, x: torch.Tensor, *, features: bool) -> None:
    z = net.trunk(x)
    mv.Probe(["a", "b"], net.trunk, noise=True).step(net.losses(z, x), features=z if features else None)


def test_logs_without_halves_are_told_apart(null: mv.RunLog) -> None:
    empty = mv.Probe(["a", "b"], nn.Linear(2, 2)).log
    for analysis in (mv.analysis.conflict_test, mv.analysis.noise_floor):
        with pytest.raises(FrameError, match="noise=True"):
            analysis(empty)
        with pytest.raises(FrameError, match="window"):
            analysis(null, window=1)
        with pytest.raises(FrameError, match="confidence"):
            analysis(null, confidence=95)
        with pytest.raises(FrameError, match="RunLog"):
            analysis(null.measures)
    with pytest.raises(FrameError, match="effective=optimizer"):
        mv.analysis.effective_change(empty)
