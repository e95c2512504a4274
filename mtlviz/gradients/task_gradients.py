"""What one batch says about its tasks: losses, and gradients in whatever form they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from mtlviz.gradients.blocks import COLUMNS, Block, gramian_of, jacobian_of


@dataclass(frozen=True)
class TaskGradients:
    """What one batch says about T tasks at the present parameters.

    losses: (T,) 0 where a task is absent. present: (T,) on the host. shared: the gradients of the shared parameters,
    valid until the next batch: a block for each layer, of the n tasks that are present, or the Jacobian itself. heads:
    the gradient of each present task's own loss, per parameter of its head and of its alignment, where it has one.
    used: which shared parameters some task reaches. representation: (T, T) float64 Gramian of ∂L_t/∂z, where the engine
    was asked for it.
    """

    losses: torch.Tensor
    present: tuple[bool, ...]
    shared: torch.Tensor | Sequence[Block]
    heads: Mapping[nn.Parameter, tuple[int, torch.Tensor]]
    used: tuple[bool, ...]
    representation: torch.Tensor | None = None

    @cached_property
    def jacobian(self) -> torch.Tensor:
        """(T, P), a zero row where a task is absent; formed when it is first asked for, and what counts then."""
        if isinstance(self.shared, torch.Tensor):
            return self.shared
        formed = jacobian_of(self.shared)
        if all(self.present):
            return formed
        whole = formed.new_zeros(len(self.present), formed.shape[1])
        whole[self._places(formed.device)] = formed
        return whole

    @property
    def _formed(self) -> bool:
        return "jacobian" in self.__dict__

    def gramians(self, spans: Sequence[slice]) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the layers, whose columns in the Jacobian are the spans."""
        if isinstance(self.shared, torch.Tensor) or self._formed:
            return torch.stack([gramian_of(self.jacobian[:, span]) for span in spans])
        found = torch.stack([block.gramian() for block in self.shared])
        if all(self.present):
            return found
        whole = found.new_zeros(len(found), len(self.present), len(self.present))
        places = self._places(found.device)
        whole[:, places[:, None], places] = found
        return whole

    def weighted(self, weights: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
        """Jᵀw (P,) of weights (T,) float64. exact: summed over the tasks in float64."""
        if isinstance(self.shared, torch.Tensor) or self._formed:
            J = self.jacobian
            if not exact:
                return weights.to(J.dtype) @ J
            return torch.cat([weights @ piece.double() for piece in J.split(COLUMNS, dim=1)]).to(J.dtype)
        if not all(self.present):
            weights = weights[self._places(weights.device)]
        sizes = [block.size for block in self.shared]
        direction = self.losses.new_empty(sum(sizes))
        for block, piece in zip(self.shared, direction.split(sizes), strict=True):
            block.weighted(weights, out=piece, exact=exact)
        return direction

    def _places(self, device: torch.device) -> torch.Tensor:
        """(n,) numbers of the tasks that are present."""
        places = torch.tensor([t for t, there in enumerate(self.present) if there])
        return places.to(device, non_blocking=True)  # so that the host need not wait
