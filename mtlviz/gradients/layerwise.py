"""The task gradients of a module layer by layer: one vector-Jacobian product a task, each layer in its cheaper form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from mtlviz.errors import ProblemError
from mtlviz.gradients.blocks import Block, Rows
from mtlviz.gradients.ghost import costs, factored, ghost_of, places
from mtlviz.gradients.graph import Graph, beneath
from mtlviz.gradients.layers import Layer, layers_of
from mtlviz.gradients.tape import Call, Tape

Output = tuple[torch.Tensor, torch.Tensor | None]  # a value and its cotangent, None for a scalar


@dataclass(frozen=True)
class Measured:
    """A block for each layer, and which of the layers' parameters some task reaches."""

    blocks: tuple[Block, ...]
    used: tuple[bool, ...]

    def gramians(self) -> torch.Tensor:
        """(K, T, T) float64; their sum is the Gramian of the whole."""
        return torch.stack([block.gramian() for block in self.blocks])


class Layerwise:
    """An engine for a module of any kind: autograd carries each task's gradient through it once.

    On the way it gives, for each layer, what takes fewer operations: the gradient of the parameters, as rows; or that
    of the layer's output alone, from which a Linear or a convolution gives its Gramian without a row (`costs`). Calls
    are recorded while `watch`ed; `gramians` and `measured` let go of them. Whether a parameter is used in recorded
    calls alone is looked up in the graph, and where it is not, the layer goes by rows.

    module: what the tasks share. weighted: whether a weighted gradient will be asked for, which is then counted in.
    """

    def __init__(self, module: nn.Module, *, weighted: bool = False) -> None:
        self.module, self.parts, self._weighted = module, layers_of(module), weighted
        self.layers = tuple(layer.name for layer in self.parts)
        self.parameters = [p for layer in self.parts for p in layer.parameters]
        if not self.parts:
            raise ProblemError("what is shared has no parameter that trains, so the tasks have nothing to fight over")
        hidden = _compiled(module)
        kinds = [layer.module for layer in self.parts if factored(layer) and layer.module not in hidden]
        random = nn.modules.dropout._DropoutNd
        watched = [m for m in module.modules() if (m._buffers or isinstance(m, random)) and m not in hidden]
        self.tape = Tape(kinds, watched)
        self._ways: tuple[str, ...] = ()
        self._buffer: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """What it did with the layers of the last batch."""
        counted = {way: self._ways.count(way) for way in dict.fromkeys(self._ways)}
        return f"layerwise ({', '.join(f'{n} {way}' for way, n in counted.items())})" if counted else "layerwise"

    @property
    def ways(self) -> dict[str, str]:
        """How each layer of the last batch was measured: "ghost" or "rows"."""
        return dict(zip(self.layers, self._ways, strict=False))

    def watch(self) -> None:
        """Records the forward passes from now on."""
        self.tape.start()

    def rest(self) -> None:
        """Records nothing more, lets go of what there is and leaves nothing on the module."""
        self.tape.stop()
        self.tape.clear()

    def gramians(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the layers for T scalar losses, NaN where one is None.

        The graph stays for the caller's own backward; `.grad`, buffers and random numbers stay as they are. A loss
        without a graph has gradient 0. features: not needed here, each product passes through its own head.

        Raises: ProblemError for losses that are no scalars, and where the graph is gone or cannot be passed twice.
        """
        for loss in losses:
            if loss is not None and loss.numel() != 1:
                raise ProblemError(f"a task's loss must be a scalar, got one of shape {tuple(loss.shape)}")
        outputs = [None if loss is None else (loss, None) for loss in losses]
        found = self.measured(outputs, retain=True).gramians()
        absent = torch.tensor([loss is None for loss in losses], device=found.device)
        return found.masked_fill(absent[:, None] | absent, torch.nan)

    def measured(self, outputs: Sequence[Output | None], *, retain: bool) -> Measured:
        """The blocks of T values (or representations with the cotangents of T tasks); a zero row for None.

        They are valid until the next call. retain: whether the graph is still needed.
        """
        calls = list(self.tape.calls)
        try:
            alive = [output is not None and output[0].requires_grad for output in outputs]
            roots = {get_gradient_edge(o[0]).node for o, there in zip(outputs, alive, strict=True) if there and o}
            of_layer = self._recorded(calls, Graph(roots), len(outputs))
            with self._undisturbed():
                return self._products(outputs, alive, of_layer, retain)
        finally:
            self.tape.clear()

    def _recorded(self, calls: Sequence[Call], graph: Graph, T: int) -> list[list[Call]]:
        """For each layer the calls that stand for it, none where it goes by rows."""
        chosen = []
        for layer in self.parts:
            own = [call for call in calls if call.module is layer.module and call.edge.node in graph]
            if own and _stand_for(own, layer, graph):
                by_factors, by_rows = costs(layer, sum(map(places, own)), T, weighted=self._weighted)
                own = own if by_factors < by_rows else []
            else:
                own = []
            chosen.append(own)
        self._ways = tuple("ghost" if own else "rows" for own in chosen)
        return chosen

    def _products(
        self, outputs: Sequence[Output | None], alive: Sequence[bool], of_layer: list[list[Call]], retain: bool
    ) -> Measured:
        by_rows = [p for layer, own in zip(self.parts, of_layer, strict=True) if not own for p in layer.parameters]
        edges = [call.edge for own in of_layer for call in own]
        wanted: list[Any] = [*edges, *by_rows]
        rows = self._rows(len(outputs), by_rows)
        used = [False] * len(by_rows)
        arrived: list[list[torch.Tensor | None]] = [[None] * len(outputs) for _ in edges]
        last = max((t for t, there in enumerate(alive) if there), default=-1)
        for t, (output, row) in enumerate(zip(outputs, rows, strict=True)):
            if not alive[t] or output is None:
                row.zero_()
                continue
            grads = _passed(output, wanted, retain=retain or t < last)
            for each, grad in zip(arrived, grads, strict=False):
                each[t] = grad
            start = 0
            for k, (parameter, grad) in enumerate(zip(by_rows, grads[len(edges) :], strict=True)):
                piece = row[start : start + parameter.numel()]
                start += parameter.numel()
                if grad is None:
                    piece.zero_()
                else:
                    used[k] = True
                    piece.view(grad.shape).copy_(grad)
        return self._blocks(of_layer, rows, arrived, used)

    def _blocks(
        self,
        of_layer: list[list[Call]],
        rows: torch.Tensor,
        arrived: list[list[torch.Tensor | None]],
        used: list[bool],
    ) -> Measured:
        blocks: list[Block] = []
        reached: list[bool] = []
        start, flags, cotangents = 0, iter(used), iter(arrived)
        for layer, own in zip(self.parts, of_layer, strict=True):
            each = [next(cotangents) for _ in own]
            there = [(call, d) for call, d in zip(own, each, strict=True) if any(g is not None for g in d)]
            if there:
                blocks.append(ghost_of(layer, *zip(*there, strict=True)))
                reached += [True] * len(layer.parameters)
            elif own:
                blocks.append(Rows(rows.new_zeros(len(rows), layer.size)))
                reached += [False] * len(layer.parameters)
            else:
                blocks.append(Rows(rows[:, start : start + layer.size]))
                start += layer.size
                reached += [next(flags) for _ in layer.parameters]
        return Measured(tuple(blocks), tuple(reached))

    def _rows(self, T: int, by_rows: Sequence[nn.Parameter]) -> torch.Tensor:
        """(T, P') to write the rows into, the same from batch to batch."""
        first, size = self.parameters[0], sum(p.numel() for p in by_rows)
        buffer = self._buffer
        if buffer is None or buffer.shape != (T, size) or buffer.dtype != first.dtype or buffer.device != first.device:
            buffer = self._buffer = torch.empty(T, size, dtype=first.dtype, device=first.device)
        return buffer

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Puts buffers and random numbers back where checkpointing passed forward again."""
        kept = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        random, device = torch.get_rng_state(), self.parameters[0].device
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        try:
            with self.tape.watching() as seen:
                yield
        finally:
            if seen():
                for buffer, value in kept:
                    buffer.data.copy_(value)  # the graph may have kept the buffer, and must not see a new version
                torch.set_rng_state(random)
                if on_device is not None:
                    torch.cuda.set_rng_state(on_device, device)


def _stand_for(calls: Sequence[Call], layer: Layer, graph: Graph) -> bool:
    """Whether these calls are all that a layer's parameters do, so that its gradient is that of the calls."""
    for parameter in layer.parameters:
        users = graph.users(parameter)
        if parameter._backward_hooks or len(users) != len(calls):
            return False
        if parameter is layer.parameters[0] and not all(beneath(call.edge.node, users) for call in calls):
            return False
    return True


def _passed(output: Output, wanted: Sequence[Any], *, retain: bool) -> tuple[torch.Tensor | None, ...]:
    """The gradients of one output. Raises: ProblemError where its graph cannot be passed."""
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


def _compiled(module: nn.Module) -> set[nn.Module]:
    """The modules that torch.compile runs, which no hook may touch; their layers go by rows."""
    # OptimizedModule by its name, since importing torch._dynamo takes seconds.
    tops = [m for m in module.modules() if type(m).__name__ == "OptimizedModule" or m._compiled_call_impl is not None]
    return {part for top in tops for part in top.modules()}
