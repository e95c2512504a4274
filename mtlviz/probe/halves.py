"""Two halves of a batch, whose gradients have noise of their own: what is left of their product is signal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mtlviz.errors import ProbeError
from mtlviz.gradients.general import cotangents
from mtlviz.randomness import derived_seed
from mtlviz.runlog.records import Floats


class Halves:
    """Splits the losses of T tasks into the parts that two halves A, B of the samples make: 2T losses, A first.

    With g_tᴬ, g_tᴮ the mean gradients over the halves, g_t = α_A g_tᴬ + α_B g_tᴮ with α the halves' shares of the
    batch. The samples are split at random, by a generator of its own that leaves all others alone.
    """

    def __init__(self) -> None:
        self._splits = 0
        self.reset()

    def reset(self) -> None:
        """A new step begins."""
        self.samples = [0, 0]  # of A and of B

    def of(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None) -> list[torch.Tensor | None]:
        """2T numbers with a graph: the parts of the halves, by rows of ∂L_t/∂z or of per-sample losses (B,)."""
        size = len(features) if features is not None else next((len(x) for x in losses if x is not None), 0)
        self._splits += 1
        order = np.random.default_rng(derived_seed(7, self._splits)).permutation(size)
        mask = torch.zeros(size, dtype=torch.bool)
        mask.index_fill_(0, torch.from_numpy(order[: size // 2]), True)
        self.samples[0] += size // 2
        self.samples[1] += size - size // 2
        device = next((tensor.device for tensor in (features, *losses) if tensor is not None), mask.device)
        if device.type == "cuda":  # a plain copy would wait for the device
            mask = mask.pin_memory()
        on_device = mask.to(device, non_blocking=True)
        if features is None:
            return [_part(loss, which) for which in (on_device, ~on_device) for loss in losses]
        rows = cotangents(losses, features)
        on_device = on_device.view(-1, *[1] * (features.dim() - 1))
        return [_carried(row, features, which) for which in (on_device, ~on_device) for row in rows]

    def products(self, cube: Floats) -> Floats:
        """(T, T) of ½(g_aᴬ·g_bᴮ + g_aᴮ·g_bᴬ) from Gramians (K, 2T, 2T) of the parts; NaN with a half empty."""
        whole = cube.sum(axis=0)
        T = len(whole) // 2
        a, b = (count / max(1, sum(self.samples)) for count in self.samples)
        across = whole[:T, T:] / (a * b) if a > 0 and b > 0 else np.full((T, T), np.nan)
        return (across + across.T) / 2


def _part(loss: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor | None:
    return None if loss is None else (loss * rows).sum() / len(loss)


def _carried(cotangent: torch.Tensor | None, z: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
    """A number whose gradient is that of z, carried on from the cotangent's rows."""
    return None if cotangent is None else (z * (cotangent * rows)).sum()


def check_halves(module: nn.Module | None, features: torch.Tensor | None) -> None:
    """Looks whether a batch can be split at all; what is in the graph is looked at elsewhere.

    Raises: ProbeError for batch statistics in the trunk, or features without a row a sample.
    """
    if features is not None and features.dim() < 2:
        raise ProbeError(
            f"noise=True needs features with the batch first, (B, ...); got {tuple(features.shape)}. Give z with a row "
            "per sample, or per-sample losses"
        )
    for name, part in module.named_modules() if module is not None else ():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise ProbeError(
                f"noise=True needs a trunk without batch statistics, but {name or 'it'} is a {type(part).__name__} in "
                "training mode: each sample depends on the others. Freeze it (eval()), use GroupNorm or LayerNorm, or "
                "leave noise out"
            )
