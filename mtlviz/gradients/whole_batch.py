"""Layers of a batch that several processes share out: which form their gradients are put together in, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from mtlviz.gradients.blocks import Block, Ghost
from mtlviz.gradients.ghost import costs, factored, places
from mtlviz.gradients.graph import Graph
from mtlviz.gradients.layers import Layer
from mtlviz.gradients.products import Products, Way, stand_for
from mtlviz.gradients.ranks import Ranks, attempt
from mtlviz.gradients.tape import Call

SENT = 10  # of a number, in the unit of `costs`, as measured between two processes of one machine; networks cost more
ROWS = -1  # a process that can give a layer's gradients as rows alone


def pays(layer: Layer, spread: Sequence[int], T: int, *, weighted: bool) -> bool:
    """Whether a layer's factors are gathered from all processes, rather than its rows added up over them.

    Products between processes count, so that Gramians of factors do not add up: X and D of the whole batch are needed.
    Where each process can give them, they are gathered if that costs less to compute (`costs`) and to send. Factors: N
    places of all, and N (in + T out) numbers; rows: each process's own places, and 2 T P_k numbers, as a sum over a
    ring sends.

    spread: N_r of each process, `ROWS` where it has no factors, 0 where its tasks do not reach the layer.
    """
    N = sum(spread)
    if min(spread) == ROWS or N == 0:
        return False
    out, size = len(layer.parameters[0]), layer.parameters[0].numel()
    by_factors, _ = costs(layer, N, T, weighted=weighted)
    _, by_rows = costs(layer, max(spread), T, weighted=weighted)
    return by_factors + SENT * N * (size // out + T * out) < by_rows + SENT * 2 * T * layer.size


def agreed(
    layers: Sequence[Layer], calls: Sequence[Call], graph: Graph, T: int, *, weighted: bool, ranks: Ranks
) -> list[Way]:
    """For each layer the same way in all processes: by factors where it `pays`.

    calls: those in the graph.
    """
    own = [tuple(call for call in calls if call.module is layer.module) for layer in layers]
    told = [_places(layer, its, graph) for layer, its in zip(layers, own, strict=True)]
    every = ranks.meet("the layers of what is shared", told)  # (R, K)
    ways = []
    for layer, its, each in zip(layers, own, every.T.tolist(), strict=True):
        if pays(layer, each, T, weighted=weighted):
            ways.append(Way(layer, its if each[ranks.rank] else (), sum(each) * len(layer.parameters[0]), tuple(each)))
        else:
            ways.append(Way(layer, (), layer.size))
    return ways


def _places(layer: Layer, calls: Sequence[Call], graph: Graph) -> int:
    """N of this process; `ROWS` where its calls do not tell the whole gradient."""
    if not factored(layer) or not all(p.requires_grad for p in layer.parameters):
        return ROWS
    if not calls:
        return ROWS if any(graph.users(p) for p in layer.parameters) else 0
    return sum(map(places, calls)) if stand_for(calls, layer, graph) else ROWS


def of_all(passes: Callable[[], Products], ways: Sequence[Way], rows: torch.Tensor, ranks: Ranks) -> Products:
    """The products of the whole batch, from those of each process. rows: what the passes write their rows into."""
    found, error = attempt(passes)
    known = len([p for way in ways for p in way.layer.parameters])
    flags = [False] * known if found is None else found.used
    used = ranks.some("the passes backward", flags, error=error)
    ranks.sum_(rows)
    layers, spread = [way.layer for way in ways], [way.spread for way in ways]
    blocks = gathered(found.blocks, layers, spread, len(rows), ranks)
    return replace(found, blocks=tuple(blocks), used=tuple(used))


def gathered(
    blocks: Sequence[Block], layers: Sequence[Layer], spread: Sequence[Sequence[int]], T: int, ranks: Ranks
) -> list[Block]:
    """The blocks, with the factors of the whole batch where `spread` tells those of each process.

    All go in one message; a process with fewer places fills up with zeros, which add nothing.
    """
    found, at = list(blocks), [k for k, each in enumerate(spread) if each]
    if not at:
        return found
    own = [_padded(found[k], layers[k], max(spread[k]), T) for k in at]
    flat = torch.cat([part.flatten() for pair in own for part in pair])
    pieces = iter(ranks.gathered(flat).split([part.numel() for pair in own for part in pair], dim=1))
    for k, (X, D) in zip(at, own, strict=True):
        inputs, cotangents = (next(pieces).unflatten(1, part.shape) for part in (X, D))  # (R, n, in), (R, T, n, out)
        whole = cotangents.transpose(0, 1).flatten(1, 2)  # (T, N, out)
        found[k] = Ghost(inputs.flatten(0, 1), whole, len(layers[k].parameters) > 1)
    return found


def _padded(block: Block, layer: Layer, n: int, T: int) -> tuple[torch.Tensor, torch.Tensor]:
    """X (n, in) and D (T, n, out) of this process; zeros where its tasks do not reach the layer."""
    weight = layer.parameters[0]
    out = len(weight)
    X, D = weight.new_zeros(n, weight.numel() // out), weight.new_zeros(T, n, out)
    if isinstance(block, Ghost):
        X[: len(block.inputs)] = block.inputs
        D[:, : len(block.inputs)] = block.cotangents
    return X, D
