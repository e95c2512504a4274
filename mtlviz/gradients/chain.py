"""Chains of Linear layers and elementwise activations: cotangents of all tasks by hand, without a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mtlviz.gradients.blocks import Block, Ghost, Rows
from mtlviz.gradients.ghost import cheaper
from mtlviz.gradients.hooks import hooked
from mtlviz.gradients.layers import Layer

AT_ONCE = 1 << 17  # numbers of the cotangents that pass a layer together: half a megabyte, which stays in the cache
_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Tanhshrink, nn.Dropout),
    nn.Identity,
)


@dataclass(frozen=True)
class Passed:
    """A pass forward. z: what came out. inputs: X_l (B, in) of each Linear. slopes: a'_l (B, out) of all that is
    elementwise behind it, None where nothing is."""

    z: torch.Tensor
    inputs: list[torch.Tensor]
    slopes: list[torch.Tensor | None]


class Chain:
    """Carries T cotangents through h_l = a_l(X_l W_lᵀ + b_l) by D_{l−1} = (D_l W_l) ∘ a'_{l−1}.

    The values are those of the modules themselves. A few cotangents pass a layer together, as many as stay in the
    cache: with small layers the calls are dear, with large ones memory is.

    modules: as `chain_of` gives them. layers: of the Linears among these, in order.
    """

    def __init__(self, trunk: nn.Module, modules: Sequence[nn.Module], layers: Sequence[Layer]) -> None:
        self.modules, self.layers, self._all = tuple(modules), tuple(layers), tuple(trunk.modules())
        self.linears = [module for module in modules if isinstance(module, nn.Linear)]

    def takes(self, inputs: torch.Tensor) -> bool:
        """Whether it is a chain for these inputs: (B, in) numbers of the weights' own dtype, nothing cast or hooked."""
        weight = self.linears[0].weight
        return (
            inputs.dim() == 2
            and inputs.shape[1] == weight.shape[1]
            and inputs.dtype == weight.dtype
            and not inputs.requires_grad
            and not torch.is_autocast_enabled(inputs.device.type)
            and not any(map(hooked, self._all))
            and all(p.requires_grad and not p._backward_hooks for layer in self.layers for p in layer.parameters)
        )

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> Passed:
        """z and all that the way back needs, of inputs (B, in)."""
        inputs: list[torch.Tensor] = []
        slopes: list[torch.Tensor | None] = []
        for module in self.modules:
            if isinstance(module, nn.Linear):
                inputs.append(x)
                slopes.append(None)
                x = F.linear(x, module.weight, module.bias)
            elif not inputs:
                x = module(x)
            elif type(module) is not nn.Identity:
                x, slope = _bent(module, x)
                before = slopes[-1]
                slopes[-1] = slope if before is None else before * slope
        return Passed(x, inputs, slopes)

    def ghosts(self, B: int, n: int, *, whole: bool) -> list[bool]:
        """Which layers keep factors for n tasks and B inputs; the others keep rows. whole: rows for every layer."""
        return [not whole and cheaper(layer, B, n, weighted=True) for layer in self.layers]

    @torch.no_grad()
    def blocks(
        self, passed: Passed, cotangents: torch.Tensor, ghosts: Sequence[bool], rows: torch.Tensor
    ) -> list[Block]:
        """A block for each layer from cotangents (n, B, ·) of z; rows: (n, P') to write the layers' rows into."""
        n, B = cotangents.shape[:2]
        spans, start = [], 0
        for layer, ghost in zip(self.layers, ghosts, strict=True):
            spans.append(slice(start, start + (0 if ghost else layer.size)))
            start = spans[-1].stop
        kept = [
            rows.new_empty(n, B, linear.out_features) if ghost else None
            for linear, ghost in zip(self.linears, ghosts, strict=True)
        ]
        some = max(1, AT_ONCE // (B * max(linear.out_features for linear in self.linears)))
        for begin in range(0, n, some):
            now = slice(begin, begin + some)
            into = [rows[now, span] for span in spans]
            self._back(passed, cotangents[now], into, [None if k is None else k[now] for k in kept])
        bias = [linear.bias is not None for linear in self.linears]
        return [
            Rows(rows[:, span]) if D is None else Ghost(X, D, biased)
            for span, X, D, biased in zip(spans, passed.inputs, kept, bias, strict=True)
        ]

    def _back(
        self,
        passed: Passed,
        D: torch.Tensor,
        rows: Sequence[torch.Tensor],
        kept: Sequence[torch.Tensor | None],
    ) -> None:
        """One way back of some tasks (c, B, ·): keeps a layer's cotangents, or writes its rows (c, P_k)."""
        for number in reversed(range(len(self.linears))):
            linear, slope, keep = self.linears[number], passed.slopes[number], kept[number]
            if slope is not None:
                D = torch.mul(D, slope, out=keep)
            elif keep is not None:
                D = keep.copy_(D)
            if keep is None:
                _write_rows(D, passed.inputs[number], linear, rows[number])
            if number:
                D = torch.matmul(D, linear.weight)


def _write_rows(D: torch.Tensor, X: torch.Tensor, linear: nn.Linear, rows: torch.Tensor) -> None:
    """D_tᵀ X, and the sums of D_t for the bias, of some tasks (c, B, out) as their rows (c, P_k)."""
    size = linear.weight.numel()
    into = rows[:, :size].view(D.shape[0], *linear.weight.shape)
    if D.shape[0] == 1:
        torch.mm(D[0].T, X, out=into[0])
    else:
        torch.bmm(D.transpose(1, 2), X.expand(D.shape[0], *X.shape), out=into)
    if linear.bias is not None:
        torch.sum(D, dim=1, out=rows[:, size:])


def chain_of(trunk: nn.Module, layers: Sequence[Layer]) -> Chain | None:
    """The chain that a trunk is: nn.Linear and elementwise activations in nn.Sequential; None where it is another."""
    modules = list(_flat(trunk))
    linears = [module for module in modules if type(module) is nn.Linear]
    simple = all(type(module) in (nn.Linear, *_ELEMENTWISE) for module in modules)
    if not simple or not linears or [layer.module for layer in layers] != linears:
        return None
    if any(layer.tied or len(layer.parameters) != _own(layer.module) for layer in layers):
        return None
    return Chain(trunk, modules, layers)


def _own(module: nn.Module) -> int:
    return sum(p is not None for p in module._parameters.values())


def _flat(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [part for child in module for part in _flat(child)]
    return [module]


def _bent(module: nn.Module, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """a(h) and a'(h) of a module that works on each number alone."""
    if type(module) is nn.ReLU:
        a = F.relu(h)
        return a, torch.sign(a)
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        a = module(h.clone())  # it may work in place
        (slope,) = torch.autograd.grad(a, h, torch.ones_like(a))
    return a.detach(), slope
