"""Task gradients of any parameters that losses reach, and their Gramians by layer: one backward pass a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from mtlviz.errors import ProblemError
from mtlviz.gradients.ranks import Ranks, attempt

AT_ONCE = 2**26
"""Numbers of gradients held at a time: 256 MiB in single precision."""

_CHUNK = 2**20  # columns of a Jacobian that are in double precision at a time

Source = tuple[torch.Tensor, torch.Tensor | None]  # what a backward pass begins with: a value and its cotangent


class General:
    """Measures losses that live in a graph, for any parameters, and leaves graph, `.grad` and parameters as they are.

    One vector-Jacobian product a task goes through the whole trunk into rows of a Jacobian that lives for the call
    alone. Where T·P would exceed `at_once`, consecutive layers are taken block by block: T partial backward passes a
    block, and never more than T times the block's parameters in memory.

    layers: name -> its parameters; no parameter stands in two. One that is frozen has gradient 0 while it is.
    at_once: numbers of gradients to hold at a time; a single layer may need more.
    ranks: processes that measure a part of each batch each; Gramians are then of the sum over them.

    Raises: ProblemError where there is no parameter, one is complex, or they lie on several devices.
    """

    def __init__(
        self, layers: Mapping[str, Sequence[nn.Parameter]], *, at_once: int = AT_ONCE, ranks: Ranks | None = None
    ) -> None:
        self.layers = tuple(layers)
        self.parameters = [p for parameters in layers.values() for p in parameters]
        if not self.parameters:
            raise ProblemError("there is no parameter to measure gradients of")
        devices = sorted({str(p.device) for p in self.parameters})
        if len(devices) > 1:
            raise ProblemError(f"the shared parameters must lie on one device, not on {' and '.join(devices)}")
        if any(p.is_complex() for p in self.parameters):
            raise ProblemError("a shared parameter is complex; split it in real parts")
        self.device = self.parameters[0].device
        self.dtype = self.parameters[0].dtype
        for parameter in self.parameters[1:]:
            self.dtype = torch.promote_types(self.dtype, parameter.dtype)
        self._sizes = [[p.numel() for p in parameters] for parameters in layers.values()]
        self._at_once, self.ranks = at_once, ranks

    @property
    def name(self) -> str:
        """The path that it takes, in words."""
        return "general (one backward pass a task)"

    def watch(self) -> None:
        """Nothing to do: the graph of the losses is enough."""

    def rest(self) -> None:
        """Nothing to do: nothing is kept between calls."""

    def gramians(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the K layers, on the device; rows and columns of a None are NaN (0 with ranks).

        losses: T numbers with a graph. features: the representation z to cut the graph at: the gradient is then what
        flows through z, ∂L_t/∂z carried on through the trunk.
        """
        sources = _sources(losses, features)
        rows = self._rows if self.ranks is None else self._rows_of_all
        cube = torch.cat([_gramians(rows(sources, a, b), spans) for a, b, spans in self._blocks(len(losses))])
        for task, loss in enumerate(losses):
            if loss is None and self.ranks is None:  # another may have it
                cube[:, task].fill_(torch.nan)
                cube[:, :, task].fill_(torch.nan)
        return cube

    def jacobian(self, losses: Sequence[torch.Tensor | None], features: torch.Tensor | None = None) -> torch.Tensor:
        """(T, P) gradients of the parameters, one after the other, in their own precision; zeros for a None.

        They are those of this process alone.
        """
        return self._rows(_sources(losses, features), 0, len(self.parameters))

    def gramians_of(self, jacobian: torch.Tensor) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the layers of a Jacobian (T, P)."""
        return _gramians(jacobian, _spans([sum(sizes) for sizes in self._sizes]))

    def _blocks(self, tasks: int) -> list[tuple[int, int, list[slice]]]:
        """First and last parameter of each block of layers, and the layers' columns in it."""
        blocks, first, last, columns = [], 0, 0, list[int]()
        for sizes in self._sizes:
            if columns and tasks * (sum(columns) + sum(sizes)) > self._at_once:
                blocks.append((first, last, _spans(columns)))
                first, columns = last, []
            last += len(sizes)
            columns.append(sum(sizes))
        return [*blocks, (first, last, _spans(columns))]

    def _rows_of_all(self, sources: Sequence[Source | None], first: int, last: int) -> torch.Tensor:
        """(T, P') of the sum over all processes."""
        assert self.ranks is not None
        rows, error = attempt(partial(self._rows, sources, first, last))
        self.ranks.meet("the passes backward", error=error)
        return self.ranks.sum_(rows)

    def _rows(self, sources: Sequence[Source | None], first: int, last: int) -> torch.Tensor:
        """(T, P') gradients of the parameters from `first` up to `last`."""
        parameters = self.parameters[first:last]
        spans = _spans([p.numel() for p in parameters])
        training = [k for k, p in enumerate(parameters) if p.requires_grad]
        shape = len(sources), sum(p.numel() for p in parameters)
        whole = len(training) == len(parameters)
        jacobian = (torch.empty if whole else torch.zeros)(shape, dtype=self.dtype, device=self.device)
        for row, source in zip(jacobian, sources, strict=True):
            if source is None or not training:
                row.zero_()
                continue
            output, cotangent = source
            wanted = [parameters[k] for k in training]
            grads = torch.autograd.grad(output, wanted, cotangent, retain_graph=True, allow_unused=True)
            for k, grad in zip(training, grads, strict=True):
                if grad is None:
                    row[spans[k]].zero_()
                else:
                    dense = grad.to_dense() if grad.is_sparse else grad
                    row[spans[k]].view(dense.shape).copy_(dense)
        return jacobian


def _sources(losses: Sequence[torch.Tensor | None], features: torch.Tensor | None) -> list[Source | None]:
    """What each backward pass begins with: a loss, or the features and ∂L_t/∂z of them."""
    if features is None:
        return [None if loss is None else (loss, None) for loss in losses]
    return [None if cotangent is None else (features, cotangent) for cotangent in cotangents(losses, features)]


def cotangents(losses: Sequence[torch.Tensor | None], features: torch.Tensor) -> list[torch.Tensor | None]:
    """∂L_t/∂z of each loss, as z is shaped; None where a loss is, or does not depend on z."""
    found: list[torch.Tensor | None] = []
    for loss in losses:
        if loss is None:
            found.append(None)
        else:
            found.append(torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)[0])
    return found


def _gramians(jacobian: torch.Tensor, spans: Sequence[slice]) -> torch.Tensor:
    """(K, T, T) float64 inner products of the rows of a Jacobian (T, P), over the columns of each layer."""
    tasks = len(jacobian)
    cube = torch.zeros(len(spans), tasks, tasks, dtype=torch.float64, device=jacobian.device)
    for gramian, span in zip(cube, spans, strict=True):
        for start in range(span.start, span.stop, _CHUNK):
            part = jacobian[:, start : min(start + _CHUNK, span.stop)].double()
            gramian.addmm_(part, part.T)
    return cube


def _spans(sizes: Sequence[int]) -> list[slice]:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return [slice(a, b) for a, b in pairwise(starts)]
