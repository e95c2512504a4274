"""On a GPU: nothing changed, and one wait for the device a recorded step."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import mtlviz as mv
from tests.probe.loops import Net, plain_gramian

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("setting", ["plain", "noise", "effective"])
def test_one_wait_a_recorded_step_and_none_on_the_others(setting: str) -> None:
    net = Net().cuda().eval()
    o = torch.optim.SGD(net.parameters(), lr=0.0)
    effective = o if setting == "effective" else None
    probe = mv.Probe(["a", "b"], net.trunk, every=2, noise=setting == "noise", effective=effective)
    x = torch.randn(16, 6, device="cuda")
    waits = []
    for _ in range(6):
        z = net.trunk(x)
        losses = net.losses(z, x)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            probe.step(losses, features=z)
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(w.message) for w in caught))
        o.zero_grad()
        sum(losses.values()).backward()
        o.step()
    assert waits[1::2] == [0, 0, 0]
    assert max(waits[::2]) <= 1
    wanted = plain_gramian(list(net.losses(net.trunk(x), x).values()), list(net.trunk.parameters()))
    np.testing.assert_allclose(probe.log.gramians[-1], wanted.cpu().numpy(), rtol=1e-4)


def test_training_in_half_precision_is_the_same_with_a_probe() -> None:
    ends = []
    for probed in (False, True):
        torch.manual_seed(0)
        net = Net().cuda()
        o = torch.optim.Adam(net.parameters())
        scaler = torch.amp.GradScaler("cuda")
        probe = mv.Probe(["a", "b"], net.trunk, every=2, scaler=scaler) if probed else None
        for _ in range(8):
            x = torch.randn(16, 6, device="cuda")
            with torch.autocast("cuda", dtype=torch.float16):
                losses = net.losses(net.trunk(x), x)
            if probe is not None:
                probe.step(losses)
            o.zero_grad()
            scaler.scale(sum(losses.values())).backward()
            scaler.step(o)
            scaler.update()
        ends.append([v.clone() for v in net.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
