"""Vector-Jacobian products: the gradients of T values, taken once each and kept layer by layer in a cheap form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProblemError
from mtlviz.gradients.blocks import Block, Rows
from mtlviz.gradients.ghost import cheaper, factored, ghost_of, places
from mtlviz.gradients.graph import Graph, beneath
from mtlviz.gradients.layers import Layer
from mtlviz.gradients.tape import Call

Output = tuple[torch.Tensor, torch.Tensor | None]  # a value and its cotangent, None for a scalar


@dataclass(frozen=True)
class Way:
    """How a layer is measured: by the cotangents of the calls that stand for it, or, where there are none, by rows.

    spread: how many places each of several processes has, where factors are gathered; one may have no call.
    """

    layer: Layer
    calls: tuple[Call, ...]
    numbers: int  # that are kept of each task
    spread: tuple[int, ...] = ()

    @property
    def by_rows(self) -> bool:
        """Whether there are no factors."""
        return not (self.calls or self.spread)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those whose gradients are taken themselves."""
        return [p for p in self.layer.parameters if p.requires_grad] if self.by_rows else []


@dataclass(frozen=True)
class Products:
    """A block for each layer; which of the parameters some task reaches; gradients of each task's own parameters."""

    blocks: tuple[Block, ...]
    used: tuple[bool, ...]
    own: tuple[dict[nn.Parameter, torch.Tensor], ...]


def ways_of(layers: Sequence[Layer], calls: Sequence[Call], graph: Graph, T: int, *, weighted: bool) -> list[Way]:
    """For each layer the way that takes fewer operations (`costs`), of those that are exact.

    calls: those in the graph.
    """
    found = []
    for layer in layers:
        own = tuple(call for call in calls if call.module is layer.module)
        way = Way(layer, (), layer.size)
        if own and factored(layer) and stand_for(own, layer, graph):
            N = sum(map(places, own))
            if cheaper(layer, N, T, weighted=weighted):
                way = Way(layer, own, N * len(layer.parameters[0]))
        found.append(way)
    return found


def stand_for(calls: Sequence[Call], layer: Layer, graph: Graph) -> bool:
    """Whether these calls are all that a layer's parameters do, so that its gradient is that of the calls."""
    for parameter in layer.parameters:
        if not parameter.requires_grad or parameter._backward_hooks:
            return False
        users = graph.users(parameter)
        if len(users) != len(calls):
            return False
        if parameter is layer.parameters[0] and not all(beneath(call.edge.node, users) for call in calls):
            return False
    return True


def products(
    ways: Sequence[Way],
    outputs: Sequence[Output | None],
    rows: torch.Tensor,
    *,
    retain: bool,
    own: Sequence[Sequence[nn.Parameter]] | None = None,
) -> Products:
    """The blocks of T outputs, one pass each through their graph; zeros for a None or a value without a graph.

    rows: (T, P') to write into, P' the parameters of the ways by rows. retain: whether the graph is still needed.
    own: (T,) further parameters of each task alone.

    Raises: ProblemError where the graph cannot be passed.
    """
    edges = [call.edge for way in ways for call in way.calls]
    parameters = [p for way in ways for p in way.parameters]
    T, shared = len(outputs), len(edges) + len(parameters)
    arrived: list[list[torch.Tensor | None]] = [[None] * T for _ in edges]
    into = [_pieces(ways, row) for row in rows]
    used, of_task = [False] * len(parameters), [dict[nn.Parameter, torch.Tensor]() for _ in outputs]
    alive = [t for t, output in enumerate(outputs) if output is not None and output[0].requires_grad]
    for t in range(T):
        output, further = outputs[t], () if own is None else own[t]
        grads: Sequence[torch.Tensor | None] = [None] * (shared + len(further))
        wanted: list[Any] = [*edges, *parameters, *further]
        if output is not None and t in alive and wanted:
            grads = _passed(output, wanted, retain=retain or t != alive[-1])
        for each, grad in zip(arrived, grads, strict=False):
            each[t] = grad
        for k, (piece, grad) in enumerate(zip(into[t], grads[len(edges) : shared], strict=True)):
            used[k] = used[k] or grad is not None
            _written(piece, grad)
        of_task[t] |= {p: g for p, g in zip(further, grads[shared:], strict=True) if g is not None}
    blocks, reached = zip(*_blocks(ways, arrived, rows, used), strict=True)
    return Products(blocks, tuple(flag for flags in reached for flag in flags), tuple(of_task))


def _blocks(
    ways: Sequence[Way], arrived: list[list[torch.Tensor | None]], rows: torch.Tensor, used: list[bool]
) -> Iterator[tuple[Block, list[bool]]]:
    """Each layer's block, and which of its parameters are reached."""
    start, flags, cotangents = 0, iter(used), iter(arrived)
    for way in ways:
        layer = way.layer
        if way.by_rows:
            yield Rows(rows[:, start : start + layer.size]), [p.requires_grad and next(flags) for p in layer.parameters]
            start += layer.size
            continue
        each = [(call, next(cotangents)) for call in way.calls]
        there = [(call, d) for call, d in each if any(g is not None for g in d)]
        if there:
            yield ghost_of(layer, [c for c, _ in there], [d for _, d in there]), [True] * len(layer.parameters)
        else:
            yield Rows(rows.new_zeros(len(rows), layer.size)), [False] * len(layer.parameters)


def _pieces(ways: Sequence[Way], row: torch.Tensor) -> list[torch.Tensor]:
    """The places of a row (P',) for the parameters that train; the others' are set to 0."""
    pieces, start = [], 0
    for way in ways:
        for parameter in way.layer.parameters if way.by_rows else ():
            piece = row[start : start + parameter.numel()]
            start += parameter.numel()
            if parameter.requires_grad:
                pieces.append(piece)
            else:
                piece.zero_()
    return pieces


def _written(piece: torch.Tensor, grad: torch.Tensor | None) -> None:
    if grad is None:
        piece.zero_()
    else:
        dense = grad.to_dense() if grad.is_sparse else grad
        piece.view(dense.shape).copy_(dense)


def _passed(output: Output, wanted: Sequence[Any], *, retain: bool) -> tuple[torch.Tensor | None, ...]:
    value, cotangent = output
    try:
        return torch.autograd.grad(value, wanted, cotangent, retain_graph=retain, allow_unused=True)
    except RuntimeError as error:
        if "donated buffer" in str(error):
            raise ProblemError(
                "the compiled model frees its graph on the first pass; set torch._functorch.config.donated_buffer = "
                "False before it is compiled, so that every task's gradient can be taken"
            ) from error
        if "second time" in str(error):
            raise ProblemError(
                "the graph of a loss is already freed; measure before your own backward(), or keep it with "
                "retain_graph=True"
            ) from error
        raise
