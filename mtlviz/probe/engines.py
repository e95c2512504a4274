"""Which engine measures what a probe shares: by layers where it is a module, by whole gradients otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from mtlviz.gradients.general import General
from mtlviz.gradients.layerwise import Layerwise
from mtlviz.gradients.ranks import Ranks


class Engine(Protocol):
    """Measures losses that live in a graph, and leaves graph, `.grad` and parameters as they are."""

    @property
    def name(self) -> str:
        """The path that it takes, in words."""
        ...

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What is shared."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Its precision."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        ...

    def watch(self) -> None:
        """The next forward passes will be measured."""

    def rest(self) -> None:
        """They will not; whatever was kept of others is let go."""

    def gramians(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(K, T, T) float64 Gramians, NaN where a loss is None."""
        ...


class Grouped(Layerwise):
    """The layerwise engine, its layers added up in groups.

    groups: name -> parameters; those of a module's own stand in one group.
    """

    def __init__(
        self, module: nn.Module, groups: Mapping[str, Sequence[nn.Parameter]], *, ranks: Ranks | None = None
    ) -> None:
        super().__init__(module, frozen=True, ranks=ranks)
        of = {id(p): place for place, parameters in enumerate(groups.values()) for p in parameters}
        self._groups = len(groups)
        place = torch.tensor([of[id(layer.parameters[0])] for layer in self.parts])
        self._place = place.to(self.device, non_blocking=True)  # so that the host need not wait

    def gramians(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(K, T, T) of the K groups; see `Layerwise.gramians`."""
        layers = super().gramians(losses, features)
        if self._groups == len(layers):
            return layers
        return layers.new_zeros(self._groups, *layers.shape[1:]).index_add_(0, self._place, layers)


def engine_of(
    module: nn.Module | None,
    groups: Mapping[str, Sequence[nn.Parameter]],
    *,
    by: str,
    holds: bool,
    ranks: Ranks | None = None,
) -> Engine:
    """The engine for shared parameters in groups; layers of a TorchScript module cannot be watched from outside.

    by: the grouping. holds: whether the Jacobian itself is needed. ranks: over which Gramians are of the sum.
    """
    scripted = module is not None and any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    if module is None or by == "tensors" or holds or scripted:
        return General(groups, ranks=ranks)
    return Grouped(module, groups, ranks=ranks)
