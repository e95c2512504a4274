"""The layers of a module: its parameters that train, grouped by the module that owns them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layer:
    """Parameters, under the name of the module that owns them.

    tied: whether one of them is also a parameter of another module.
    """

    name: str
    module: nn.Module
    parameters: tuple[nn.Parameter, ...]
    tied: bool

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(p.numel() for p in self.parameters)


def layers_of(module: nn.Module, *, frozen: bool = False) -> tuple[Layer, ...]:
    """The layers of a module in its own order; a tied parameter belongs to the first that owns it.

    frozen: count in what does not train now, but may later.
    """
    owners = Counter(id(p) for part in module.modules() for p in part._parameters.values() if p is not None)
    seen: set[int] = set()
    layers: dict[str, Layer] = {}
    for path, part in module.named_modules():
        every = [p for p in part.parameters(recurse=False) if frozen or p.requires_grad]
        own = [p for p in every if id(p) not in seen]
        if own:
            seen.update(map(id, own))
            name = path or type(part).__name__
            while name in layers:  # a child may be called what its parent's class is called
                name += " (inner)"
            tied = any(owners[id(p)] > 1 for p in every)
            layers[name] = Layer(name, part, tuple(own), tied)
    return tuple(layers.values())


def spans_of(layers: Sequence[Layer]) -> dict[str, slice]:
    """Each layer's columns in a Jacobian (T, P) of all of them."""
    spans, start = {}, 0
    for layer in layers:
        spans[layer.name] = slice(start, start + layer.size)
        start += layer.size
    return spans
