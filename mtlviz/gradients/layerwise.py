"""The task gradients of a module layer by layer: one vector-Jacobian product a task, each layer in its cheaper form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from mtlviz.errors import ProblemError
from mtlviz.gradients.general import AT_ONCE, cotangents
from mtlviz.gradients.ghost import factored
from mtlviz.gradients.graph import Graph
from mtlviz.gradients.layers import layers_of
from mtlviz.gradients.products import Output, Products, Way, products, ways_of
from mtlviz.gradients.ranks import Ranks
from mtlviz.gradients.tape import Tape
from mtlviz.gradients.undisturbed import undisturbed
from mtlviz.gradients.whole_batch import agreed, of_all


class Layerwise:
    """An engine for a module of any kind: autograd carries each task's gradient through it once.

    On the way it gives, for each layer, what takes fewer operations (`ghost.costs`): the gradient of the parameters, as
    rows; or that of the layer's output alone, from which a Linear or a convolution has its Gramian without a row. The
    calls are recorded while it `watch`es; measuring lets go of them. Whether a parameter is used in recorded calls
    alone is looked up in the graph; where it is not, the layer goes by rows. `ways` tells what became of each layer.

    module: what the tasks share. weighted: whether a weighted gradient will be asked for, which is then counted in.
    frozen: count in what does not train now, but may later. at_once: numbers of gradients that `gramians` holds at a
    time; where there would be more, it takes consecutive layers block by block, T partial passes each. ranks: processes
    that measure a part of each batch each; what is given is the sum over them.

    Raises: ProblemError where there is no parameter, one is complex, or they differ in device.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        weighted: bool = False,
        frozen: bool = False,
        at_once: int = AT_ONCE,
        ranks: Ranks | None = None,
    ) -> None:
        self.module, self._weighted, self._at_once, self.ranks = module, weighted, at_once, ranks
        self.parts = layers_of(module, frozen=frozen)
        self.layers = tuple(layer.name for layer in self.parts)
        self.parameters = [p for layer in self.parts for p in layer.parameters]
        if not self.parts:
            raise ProblemError("what is shared has no parameter that trains, so the tasks have nothing to fight over")
        self.device, self.dtype = self.parameters[0].device, self.parameters[0].dtype
        if len({p.device for p in self.parameters}) > 1 or any(p.is_complex() for p in self.parameters):
            raise ProblemError("the shared parameters must be real, and lie on one device")
        for parameter in self.parameters:
            self.dtype = torch.promote_types(self.dtype, parameter.dtype)
        hidden = _compiled(module)
        self.tape = Tape([layer.module for layer in self.parts if factored(layer) and layer.module not in hidden])
        self.ways: dict[str, str] = {}
        self._buffer: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """What it did with the layers of the last batch."""
        ways = list(self.ways.values())
        counted = [f"{ways.count(way)} {way}" for way in dict.fromkeys(ways)]
        return f"layerwise ({', '.join(counted)})" if counted else "layerwise"

    @property
    def held(self) -> int:
        """Bytes of the memory that it writes rows into, the same from batch to batch."""
        return 0 if self._buffer is None else self._buffer.numel() * self._buffer.element_size()

    def watch(self) -> None:
        """Records the forward passes from now on."""
        self.tape.start()

    def rest(self) -> None:
        """Records nothing more, lets go of what there is and leaves nothing on the module."""
        self.tape.stop()
        self.tape.clear()

    def gramians(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the layers for T scalar losses, NaN where one is None (0 with ranks).

        The graph stays for the caller's own backward; `.grad`, buffers and random numbers stay as they are. A loss
        without a graph has gradient 0. features: the representation z to cut the graph at: the gradient is then what
        flows through z, ∂L_t/∂z carried on through the trunk.

        Raises: ProblemError for losses that are no scalars, and where the graph is gone or cannot be passed twice.
        """
        for loss in losses:
            if loss is not None and loss.numel() != 1:
                raise ProblemError(f"a task's loss must be a scalar, got one of shape {tuple(loss.shape)}")
        outputs: list[Output | None] = [None if loss is None else (loss, None) for loss in losses]
        if features is not None:
            through = [loss if loss is not None and loss.requires_grad else None for loss in losses]
            outputs = [None if d is None else (features, d) for d in cotangents(through, features)]
        try:
            parts = [
                block.gramian()
                for ways in self._blocks(self._ways(outputs), len(losses))
                for block in self._products(ways, outputs, retain=True).blocks
            ]
        finally:
            self.tape.clear()
            self._buffer = None
        cube = torch.stack(parts)
        for t, loss in enumerate(losses):
            if loss is None and self.ranks is None:  # another may have it
                cube[:, t].fill_(torch.nan)
                cube[:, :, t].fill_(torch.nan)
        return cube

    def measured(
        self,
        outputs: Sequence[Output | None],
        *,
        retain: bool,
        own: Sequence[Sequence[nn.Parameter]] | None = None,
        whole: bool = False,
    ) -> Products:
        """The blocks of T values, or of a representation with the cotangents of T tasks; zeros for None.

        The rows among them are valid until the next call. retain: whether the graph is still needed. own: (T,) further
        parameters of each task alone. whole: rows for every layer.
        """
        try:
            if whole:
                self.tape.clear()
            return self._products(self._ways(outputs), outputs, retain=retain, own=own)
        finally:
            self.tape.clear()

    def _ways(self, outputs: Sequence[Output | None]) -> list[Way]:
        """How each layer is measured for these outputs."""
        values = [output[0] for output in outputs if output is not None and output[0].requires_grad]
        graph = Graph({get_gradient_edge(value).node for value in values})
        decide = ways_of if self.ranks is None else partial(agreed, ranks=self.ranks)
        ways = decide(self.parts, self.tape.calls(graph), graph, len(outputs), weighted=self._weighted)
        self.ways = {way.layer.name: "rows" if way.by_rows else "ghost" for way in ways}
        return ways

    def _blocks(self, ways: Sequence[Way], T: int) -> Iterator[list[Way]]:
        """The layers to be measured in one pass."""
        block: list[Way] = []
        for way in ways:
            if block and T * (sum(other.numbers for other in block) + way.numbers) > self._at_once:
                yield block
                block = []
            block.append(way)
        yield block

    def _products(
        self,
        ways: Sequence[Way],
        outputs: Sequence[Output | None],
        *,
        retain: bool,
        own: Sequence[Sequence[nn.Parameter]] | None = None,
    ) -> Products:
        rows = self.rows(len(outputs), sum(way.layer.size for way in ways if way.by_rows))
        values = [output[0] for output in outputs if output is not None]
        with undisturbed(values, self.device):
            passes = partial(products, ways, outputs, rows, retain=retain, own=own)
            return passes() if self.ranks is None else of_all(passes, ways, rows, self.ranks)

    def rows(self, T: int, size: int) -> torch.Tensor:
        """(T, size) to write into; the same memory each time, as far as it is large enough."""
        buffer = self._buffer
        if buffer is None or len(buffer) < T or buffer.shape[1] != size:
            buffer = self._buffer = torch.empty(T, size, dtype=self.dtype, device=self.device)
        return buffer[:T]


def _compiled(module: nn.Module) -> set[nn.Module]:
    """The modules that torch.compile runs, which no hook may touch; their layers go by rows."""
    # OptimizedModule by its name, since importing torch._dynamo takes seconds.
    tops = [m for m in module.modules() if type(m).__name__ == "OptimizedModule" or m._compiled_call_impl is not None]
    return {part for top in tops for part in top.modules()}
