"""Layers that multiply their input by a weight: how their calls become factors of the gradients, and when it pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mtlviz.gradients.blocks import Ghost
from mtlviz.gradients.layers import Layer
from mtlviz.gradients.tape import Call

_UNFOLDED = (nn.Conv1d.forward, nn.Conv2d.forward)


def factored(layer: Layer) -> bool:
    """Whether a layer is of a kind whose gradient is DᵀX: Linear, or a convolution by unfolding its input.

    Not where a parameter is computed from others (weight norm, parametrizations) or belongs to several modules.
    """
    module = layer.module
    if layer.tied or set(module._parameters) != {"weight", "bias"}:
        return False
    if module._parameters["weight"] is not layer.parameters[0]:  # it is frozen
        return False
    if type(module).forward is nn.Linear.forward:
        return True
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or type(module).forward not in _UNFOLDED:
        return False
    return module.groups == 1 and module.padding_mode == "zeros" and module.padding != "same"


def places(call: Call) -> int:
    """N: the rows of X that a call adds, one for each sample and, in a convolution, each place of its output."""
    linear = isinstance(call.module, nn.Linear)
    return call.shape.numel() // (call.shape[-1] if linear else _batched(call.shape, call.module)[1])


def costs(layer: Layer, N: int, T: int, *, weighted: bool) -> tuple[float, float]:
    """Costs of a layer's Gramian by factors and by rows, from N places, T tasks and its shape (out, in).

    By factors: XXᵀ, its product with T cotangents, and their T² inner products: N² in + T N² out + T² N out. By rows:
    T products DᵀX and T² inner products: T N in out + T² in out. weighted: with the weighted gradient, N in out against
    T in out. The unit is a multiply-add of a product in float32; one in float64 counts 3, one of few long rows 6, as
    measured on two CPUs' cores.
    """
    out, size = layer.parameters[0].shape[0], layer.parameters[0].numel()
    by_factors = 3 * (N * N * size / out + T * N * N * out) + 6 * T * T * N * out + weighted * N * size
    by_rows = T * N * size + 6 * T * T * size + weighted * T * size
    return by_factors, by_rows


def cheaper(layer: Layer, N: int, T: int, *, weighted: bool) -> bool:
    """Whether factors cost less than half of what rows do; nearer to each other, small operations decide."""
    by_factors, by_rows = costs(layer, N, T, weighted=weighted)
    return 2 * by_factors < by_rows


def ghost_of(layer: Layer, calls: Sequence[Call], cotangents: Sequence[Sequence[torch.Tensor | None]]) -> Ghost:
    """The factors of a layer from its calls and their cotangents, a list of T for each; None where none arrived.

    Several calls of one module are rows of one X, so that the products between them are counted too.
    """
    T = len(cotangents[0])
    inputs, parts = [], []
    for call, each in zip(calls, cotangents, strict=True):
        like = next(d for d in each if d is not None)
        X = _unfolded(call, call.unchanged().to(like.dtype))
        D = torch.zeros(T, *X.shape[:1], len(layer.parameters[0]), dtype=like.dtype, device=like.device)
        for row, d in zip(D, each, strict=True):
            if d is not None:
                row.copy_(_flat(d, call.module))
        inputs.append(X)
        parts.append(D)
    dtype = layer.parameters[0].dtype
    X, D = (inputs[0], parts[0]) if len(calls) == 1 else (torch.cat(inputs), torch.cat(parts, dim=1))
    return Ghost(X.to(dtype), D.to(dtype), len(layer.parameters) > 1)


def _flat(d: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """(N, out) of what a module returned or its gradient."""
    if isinstance(module, nn.Linear):
        return d.reshape(-1, d.shape[-1])
    last = d.reshape(_batched(d.shape, module)).movedim(1, -1)
    return last.reshape(-1, last.shape[-1])


def _unfolded(call: Call, X: torch.Tensor) -> torch.Tensor:
    """X (N, in), in the order of places of `_flat`."""
    module = call.module
    if isinstance(module, nn.Linear):
        return X.reshape(-1, X.shape[-1])
    X = X.reshape(_batched(X.shape, module))
    kernel, dilation, stride = map(_pair, (module.kernel_size, module.dilation, module.stride))
    padding = (0, 0) if module.padding == "valid" else _pair(module.padding, first=0)
    if X.dim() == 3:
        X = X.unsqueeze(2)
    columns = F.unfold(X, kernel, dilation=dilation, padding=padding, stride=stride)  # (B, in, L)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _batched(shape: torch.Size, module: nn.Module) -> torch.Size:
    """The shape with a batch in front, which a convolution need not have."""
    dims = 3 if isinstance(module, nn.Conv1d) else 4
    return shape if len(shape) == dims else torch.Size([1, *shape])


def _pair(sizes: Any, first: int = 1) -> tuple[int, int]:
    """Sizes of a convolution in two dimensions; of one in one dimension, behind `first`."""
    return (first, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
