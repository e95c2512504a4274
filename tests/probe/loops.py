"""Training loops of a user's own, with and without a probe, for the tests of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

import mtlviz as mv


class Net(nn.Module):
    """A trunk with dropout and BatchNorm, and a head for each of two tasks."""

    def __init__(self, trunk: nn.Module | None = None) -> None:
        super().__init__()
        own = (nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 8), nn.Tanh())
        self.trunk = nn.Sequential(*own) if trunk is None else trunk
        self.a, self.b = nn.Linear(8, 1), nn.Linear(8, 1)

    def losses(self, z: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "a": (self.a(z)[:, 0] - x[:, 0]).square().mean(),
            "b": (self.b(z)[:, 0] - 3 * x[:, 1]).abs().mean(),
        }


def batches(steps: int, size: int = 16) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        yield torch.randn(size, 6, generator=generator)


def trained(
    with_probe: bool,
    *,
    make: Callable[[], Net] = Net,
    optimizer: Callable[..., torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    steps: int = 12,
    run: Callable[..., None] | None = None,
    **settings: Any,
) -> tuple[list[torch.Tensor], mv.Probe | None]:
    """The parameters, buffers and optimizer state after a loop, then the probe's; `run` does a step."""
    torch.manual_seed(0)
    net = make()
    o = optimizer(net.parameters())
    settings = {key: value(o) if key in ("effective", "optimizer") else value for key, value in settings.items()}
    probe = mv.Probe(["a", "b"], net.trunk, every=3, **settings) if with_probe else None
    for x in batches(steps):
        (run or plain)(net, o, x, probe)
    if probe is not None:
        probe.close()
    state = [v for s in o.state_dict()["state"].values() for v in s.values() if isinstance(v, torch.Tensor)]
    return [*net.state_dict().values(), *state, torch.get_rng_state()], probe


def plain(net: Net, o: torch.optim.Optimizer, x: torch.Tensor, probe: mv.Probe | None) -> None:
    losses = net.losses(net.trunk(x), x)
    if probe is not None:
        probe.step(losses)
    o.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    o.step()


def plain_gramian(
    losses: Sequence[torch.Tensor | None], parameters: Sequence[torch.Tensor], retain: bool = True
) -> torch.Tensor:
    """(T, T) in double precision, each gradient by a call of its own."""
    rows = []
    for loss in losses:
        grads = [None] * len(parameters)
        if loss is not None:
            grads = torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double() for g, p in pairs]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T
