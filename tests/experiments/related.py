"""Three linear tasks whose relations are planted: two of one function, and one of a function orthogonal to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.randomness import seeded

INPUTS = 8
NAMES = ("target", "friend", "foe")


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.1)


QUICK: dict[str, Any] = {
    "steps": 40,
    "validate_every": 20,
    "batch_size": 32,
    "optimizer": adam,
    "jobs": 1,
    "progress": False,
}


def related(seed: int = 0, width: int = 1, *, names: tuple[str, ...] = NAMES) -> mv.Problem:
    """Data of its own for each task; the target has few and noisy ones. Through width 1 all take one direction."""
    generator = torch.Generator().manual_seed(seed)
    functions = {"target": torch.eye(INPUTS)[0], "friend": torch.eye(INPUTS)[0], "foe": torch.eye(INPUTS)[1]}

    def data(count: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, INPUTS, generator=generator)
        noise = 1.0 if name == "target" else 0.1
        return x, x @ functions[name] + noise * torch.randn(count, generator=generator)

    train = {name: data(16 if name == "target" else 128, name) for name in NAMES}
    held_out = [{name: data(128, name) for name in NAMES} for _ in range(2)]
    with seeded(seed):
        trunk, heads = line(width), {name: nn.Linear(width, 1) for name in NAMES}
    return mv.Problem(
        name="related",
        tasks=[mv.Task(name, loss=F.mse_loss, metric="rmse", outputs=1) for name in names],
        trunk=trunk,
        heads={name: heads[name] for name in names},
        train={name: train[name] for name in names},
        validation={name: held_out[0][name] for name in names},
        test={name: held_out[1][name] for name in names},
        seed=seed,
    )


def line(width: int) -> nn.Module:
    return nn.Linear(INPUTS, width, bias=False)
