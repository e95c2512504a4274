"""The problems and the methods of the descent once more: torch with autograd, and weights from the papers' formulas.

Nothing here comes from mtlviz. The toy is written as in the code that CAGrad's and Nash-MTL's authors published.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mtlviz.runlog.records import Floats

Losses = Callable[[torch.Tensor], torch.Tensor]


def toy(x: torch.Tensor) -> torch.Tensor:
    """The losses (..., 2) at x (..., 2), as in the authors' code, scale (1, 1)."""
    x1, x2 = x[..., 0], x[..., 1]
    f1 = torch.clamp((0.5 * (-x1 - 7) - torch.tanh(-x2)).abs(), 0.000005).log() + 6
    f2 = torch.clamp((0.5 * (-x1 + 3) + torch.tanh(-x2) + 2).abs(), 0.000005).log() + 6
    c1 = torch.clamp(torch.tanh(x2 * 0.5), 0)
    f1_sq = ((-x1 + 7).pow(2) + 0.1 * (-x2 - 8).pow(2)) / 10 - 20
    f2_sq = ((-x1 - 7).pow(2) + 0.1 * (-x2 - 8).pow(2)) / 10 - 20
    c2 = torch.clamp(torch.tanh(-x2 * 0.5), 0)
    return torch.stack([f1 * c1 + f1_sq * c2, f2 * c1 + f2_sq * c2], dim=-1)


def fonseca_fleming(x: torch.Tensor) -> torch.Tensor:
    """1 − exp(−Σ (x_i ∓ 1/√n)²), n = 2."""
    centre = 2**-0.5
    return torch.stack([1 - torch.exp(-((x - centre) ** 2).sum(-1)), 1 - torch.exp(-((x + centre) ** 2).sum(-1))], -1)


def quadratics(angle: float, conditioning: float) -> Losses:
    """½ (x − m_t)ᵀ A_t (x − m_t), A_t = Σ eigenvalue · v vᵀ, the flat eigenvector at ± angle / 2 to the x1 axis."""
    minima, shapes = bowls(angle, conditioning)
    m, a = torch.from_numpy(minima), torch.from_numpy(shapes)

    def losses(x: torch.Tensor) -> torch.Tensor:
        away = x[..., None, :] - m
        return 0.5 * torch.einsum("...ti,tij,...tj->...t", away, a, away)

    return losses


def bowls(angle: float, conditioning: float) -> tuple[Floats, Floats]:
    """The minima (2, 2) and matrices (2, 2, 2) of the quadratics."""
    shapes = []
    for half in (np.deg2rad(angle) / 2, -np.deg2rad(angle) / 2):
        flat, steep = np.array([np.cos(half), np.sin(half)]), np.array([-np.sin(half), np.cos(half)])
        shapes.append(np.outer(flat, flat) / np.sqrt(conditioning) + np.outer(steep, steep) * np.sqrt(conditioning))
    return np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array(shapes)


def value_and_gradients(losses: Losses, x: Floats) -> tuple[Floats, Floats]:
    """The losses (..., 2) and, by autograd, their gradients (..., 2, 2) at x (..., 2)."""
    at = torch.tensor(np.stack([x, x]), dtype=torch.float64, requires_grad=True)  # a copy for each loss: one backward
    values = losses(at)
    (rows,) = torch.autograd.grad(values[0, ..., 0].sum() + values[1, ..., 1].sum(), at)
    return values[0].detach().numpy(), np.moveaxis(rows.numpy(), 0, -2)


def equal(g: Floats) -> Floats:
    """Nash-MTL's LS: all weights 1. g (..., 2, 2): rows are task gradients."""
    return np.ones(g.shape[:-1])


def mgda(g: Floats) -> Floats:
    """Sener and Koltun, Algorithm 1: γ = clip(((g₂ − g₁)·g₂) / ‖g₁ − g₂‖², 0, 1)."""
    apart = g[..., 1, :] - g[..., 0, :]
    first = np.clip((apart * g[..., 1, :]).sum(-1) / (apart**2).sum(-1), 0.0, 1.0)
    return np.stack([first, 1 - first], axis=-1)


def pcgrad(g: Floats) -> Floats:
    """v_i = g_i − min(g_i·g_j, 0) / ‖g_j‖² g_j; the sum of both."""
    inner = np.minimum((g[..., 0, :] * g[..., 1, :]).sum(-1), 0.0)
    return np.stack([1 - inner / (g[..., t, :] ** 2).sum(-1) for t in range(2)], axis=-1)


def imtl_g(g: Floats) -> Floats:
    """Liu et al.: w₂ = g₁·(u₁ − u₂) / ((g₁ − g₂)·(u₁ − u₂)), w₁ = 1 − w₂."""
    units = g / np.linalg.norm(g, axis=-1, keepdims=True)
    between = units[..., 0, :] - units[..., 1, :]
    second = (g[..., 0, :] * between).sum(-1) / ((g[..., 0, :] - g[..., 1, :]) * between).sum(-1)
    return np.stack([1 - second, second], axis=-1)


def nash_mtl(g: Floats) -> Floats:
    """G α = 1/α for two tasks: both α_t ‖g_t‖ are one k, and k² (1 + cos) = 1."""
    lengths = np.linalg.norm(g, axis=-1)
    cosine = (g[..., 0, :] * g[..., 1, :]).sum(-1) / lengths.prod(-1)
    return 1 / (lengths * np.sqrt(1 + cosine)[..., None])


def cagrad(g: Floats, c: float = 0.4) -> Floats:
    """Liu et al., Algorithm 1: min over w in [0, 1] of g_w·g₀ + c ‖g₀‖ ‖g_w‖, by bisection on its slope."""
    mean, apart = g.mean(axis=-2), g[..., 0, :] - g[..., 1, :]
    radius = c * np.linalg.norm(mean, axis=-1)
    tilt, curve = (apart * mean).sum(-1), (apart**2).sum(-1)
    cross, square = (apart * g[..., 1, :]).sum(-1), (g[..., 1, :] ** 2).sum(-1)
    low, high = np.zeros(g.shape[:-2]), np.ones(g.shape[:-2])
    for _ in range(46):
        w = (low + high) / 2  # g_w = g₂ + w (g₁ − g₂)
        uphill = tilt + radius * (cross + w * curve) / np.sqrt(square + w * (2 * cross + w * curve)) > 0
        low, high = np.where(uphill, low, w), np.where(uphill, w, high)
    both = np.stack([w, 1 - w], axis=-1)
    pull = radius / np.linalg.norm((both[..., None] * g).sum(-2), axis=-1)
    return 0.5 + pull[..., None] * both


WEIGHTS: dict[str, Callable[[Floats], Floats]] = {
    "equal": equal,
    "mgda": mgda,
    "pcgrad": pcgrad,
    "cagrad": cagrad,
    "imtl_g": imtl_g,
    "nash_mtl": nash_mtl,
}


def descent(
    methods: list[str],
    starts: Floats,
    losses: Losses,
    scale: tuple[float, float],
    steps: int,
    optimizer: str,
    lr: float,
) -> tuple[Floats, Floats]:
    """The points and weights (M, N, steps + 1, 2) of torch.optim's Adam or SGD on Σ w_t scale_t L_t.

    One tensor holds the points of all methods and starts: both optimizers work entry by entry.
    """
    x = torch.tensor(np.broadcast_to(starts, (len(methods), *np.shape(starts))).copy(), requires_grad=True)
    chosen = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]([x], lr=lr)
    path, weights = [], []
    for step in range(steps + 1):
        path.append(x.detach().numpy().copy())
        g = value_and_gradients(losses, path[-1])[1] * np.array(scale)[:, None]
        weights.append(np.stack([WEIGHTS[name](g[m]) for m, name in enumerate(methods)]))
        if step < steps:
            x.grad = torch.from_numpy((weights[-1][..., None] * g).sum(-2))
            chosen.step()
    return np.stack(path, axis=2), np.stack(weights, axis=2)
