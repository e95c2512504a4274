"""Small problems that several tests train on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.randomness import seeded


class Crossing(nn.Module):
    """A trunk as a user may write it: a skip connection, a normalisation, a buffer, dropout, a frozen layer."""

    def __init__(self, inputs: int = 6, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.inward = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width)
        self.middle = nn.Linear(width, width)
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("shift", torch.linspace(-1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.tanh(self.inward(x) + self.shift)
        return self.frozen(self.dropout(z + F.gelu(self.middle(self.norm(z)))))


TASKS = (
    mv.Task("kind", loss=F.cross_entropy, metric="accuracy", outputs=3),
    mv.Task("size", loss=F.mse_loss, metric="rmse", outputs=1),
    mv.Task("rare", loss=F.binary_cross_entropy_with_logits, metric="roc_auc", outputs=1),
)


def made_data(count: int, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Inputs (count, 6) and targets that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    return x, {
        "kind": x[:, :3].argmax(dim=1),
        "size": x[:, 0] * x[:, 3] + 0.1 * torch.randn(count, generator=generator),
        "rare": (x[:, 4] + x[:, 5] > 1).float(),
    }


def crossing(*, missing: float = 0.0, dropout: float = 0.0, seed: int = 0, **parts: Any) -> mv.Problem:
    """Three tasks on a hand-written trunk; `missing` is the share of training labels that each task lacks."""
    x, targets = made_data(256, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, y in targets.items():
        absent = torch.rand(len(y), generator=generator) < missing
        y[absent] = torch.nan if y.is_floating_point() else -100
        targets[name] = y
    with seeded(seed):  # which takes turns with the runs that train meanwhile; torch's own fork_rng does not
        trunk = Crossing(dropout=dropout)
    given = {"train": (x, targets), "validation": made_data(128, seed + 2), "test": made_data(128, seed + 3)} | parts
    return mv.Problem(name="crossing", tasks=TASKS, trunk=trunk, seed=seed, **given)
