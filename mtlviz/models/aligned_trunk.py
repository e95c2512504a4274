"""Covariance alignment: a matrix per task between the input, or an embedding, and the trunk that tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProblemError, unknown
from mtlviz.models.shared_trunk import Rows, SharedTrunk, evaluating


class AlignedTrunk(SharedTrunk):
    """A shared trunk in which the features x (B, d) of some tasks are turned by R_i (d, d) of their own: x R_i.

    With R_i = I it is the plain trunk. The R_i are parameters of their task, as its head is, and no part of what the
    tasks share. Where tasks have rows of their own a batch passes the trunk once; where they share rows it passes once
    for each aligned task and once for all others, together, so that a BatchNorm sees them as one batch.

    trunk, heads: see `SharedTrunk`. shifts: {task: R_i − I (d, d)} of the tasks that are aligned. after: the module
    within the trunk whose output is turned, an embedding; it and what lies below stay shared. None: the flat input.

    `aligned` makes one. Source: Wu, Zhang, Ré, ICLR 2020, arXiv 2005.00944, algorithm 1. Differs: the R_i train with
    the rest of the network, as the paper does in practice; what trains is R_i − I, so that weight decay pulls towards
    no alignment.
    """

    one_representation = False

    def __init__(
        self,
        trunk: nn.Module,
        heads: Mapping[str, nn.Module],
        *,
        shifts: Mapping[str, nn.Parameter],
        after: str | None = None,
    ) -> None:
        super().__init__(trunk, heads)
        self.aligned, self.after = tuple(shifts), after
        self.shifts = nn.ParameterList(shifts.values())  # a list: names may have dots

    def alignment(self, task: str) -> torch.Tensor:
        """R_i (d, d) of an aligned task, a copy. Raises: ProblemError for another one."""
        if task not in self.aligned:
            raise ProblemError(unknown("aligned task", task, self.aligned))
        shift = self._shift(task).detach()
        return shift + torch.eye(len(shift), dtype=shift.dtype, device=shift.device)

    def alignment_parameters(self, task: str) -> list[nn.Parameter]:
        """R_i − I (d, d) of a task that is aligned, if it trains."""
        return [p for p in [self._shift(task)] if p.requires_grad] if task in self.aligned else []

    def with_heads(self, heads: Mapping[str, nn.Module]) -> SharedTrunk:
        """See `SharedTrunk`; the tasks of these heads keep their R_i."""
        shifts = {task: self._shift(task) for task in heads if task in self.aligned}
        if not shifts:
            return SharedTrunk(self.trunk, heads)
        return AlignedTrunk(self.trunk, heads, shifts=shifts, after=self.after)

    def routed(self, inputs: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, Rows]:
        """See `SharedTrunk`."""
        route = self._route(len(inputs), rows)
        if not any(route.tasks):
            return super().routed(inputs, rows)
        pieces = [inputs[piece] for piece in route.pieces]
        whole = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if self.after is None:
            return self.represent(self._turned(whole, route)), route.rows
        with _output_of(self.trunk, self.after, lambda embedded: self._turned(embedded, route)):
            return self.represent(whole), route.rows

    def _shift(self, task: str) -> nn.Parameter:
        return self.shifts[self.aligned.index(task)]

    def _route(self, count: int, rows: Rows) -> _Route:
        """Each aligned task's rows by themselves, and those of all others, once where they share them."""
        route, others = _Route(count), {task: own for task, own in rows.items() if task not in self.aligned}
        for task, own in rows.items():
            if task in self.aligned:
                route.rows[task] = route.add(own, task)
        if any(isinstance(own, torch.Tensor) for own in others.values()):
            begin = route.add(slice(0, count), None).start
            route.rows |= {task: _moved(own, begin) for task, own in others.items()}
        else:
            once: dict[str, slice] = {}
            for task, own in others.items():
                if str(own) not in once:
                    once[str(own)] = route.add(own, None)
                route.rows[task] = once[str(own)]
        return route

    def _turned(self, features: torch.Tensor, route: _Route) -> torch.Tensor:
        """Features (k B', ...) in which the rows of every aligned task are turned by its R_i."""
        each = len(features) // sum(route.sizes)
        parts = []
        for task, part in zip(route.tasks, features.split([size * each for size in route.sizes]), strict=True):
            if task is not None:
                flat = part.flatten(1) if self.after is None else part
                part = (flat + flat @ self._shift(task)).reshape(part.shape)
            parts.append(part)
        return torch.cat(parts) if len(parts) > 1 else parts[0]


@dataclass
class _Route:
    """What passes the trunk at once: pieces of `count` inputs, each of the one aligned task that it is for, or None.

    rows: where every task finds its own rows in the whole. sizes: the rows of each piece.
    """

    count: int
    pieces: list[torch.Tensor | slice] = field(default_factory=list)
    tasks: list[str | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    rows: dict[str, torch.Tensor | slice] = field(default_factory=dict)

    def add(self, piece: torch.Tensor | slice, task: str | None) -> slice:
        """Adds a piece; its place in the whole."""
        size, start = len(range(self.count)[piece]) if isinstance(piece, slice) else len(piece), sum(self.sizes)
        self.pieces.append(piece)
        self.tasks.append(task)
        self.sizes.append(size)
        return slice(start, start + size)


def aligned(
    model: SharedTrunk, inputs: torch.Tensor, *, tasks: Sequence[str], after: str | None = None
) -> AlignedTrunk:
    """The model, its trunk and heads shared, with an R_i for each of some tasks; all R_i are the identity.

    It is the function that the model was. An R_i has d² numbers, and the optimizer as many for each of its moments.

    inputs: an example (B, ...), which tells d. after: a name in the trunk's `named_modules`, whose output is (B, d),
    (B, L, d) or, as of bags, (k B, d).

    Raises: ProblemError for an unknown task, a model that is aligned already, a module that is not there or does not
    run once a pass, and for features that are not floats of such a shape.
    """
    if isinstance(model, AlignedTrunk):
        raise ProblemError(f"the tasks {', '.join(model.aligned)} of this model are aligned already")
    if strangers := [task for task in tasks if task not in model.names]:
        raise ProblemError(f"aligned: {unknown('task', strangers[0], model.names)}")
    if len(tasks) == 0:
        raise ProblemError(f"aligned needs at least one task, of {', '.join(model.names)}; got none")
    size, like = _size(inputs if after is None else _embedding(model, inputs, after), len(inputs), after)
    shifts = {task: nn.Parameter(torch.zeros(size, size).to(like)) for task in tasks}
    return AlignedTrunk(model.trunk, dict(zip(model.names, model.heads, strict=True)), shifts=shifts, after=after)


def _embedding(model: SharedTrunk, inputs: torch.Tensor, after: str) -> Any:
    """What the module `after` puts out. Raises: ProblemError where there is none, or it runs more than once."""
    names = [name for name, _ in model.trunk.named_modules() if name]
    if after not in names:
        told = unknown("module", after, names) if names else f"there is no module {after!r}"
        raise ProblemError(f"aligned, in the trunk {type(model.trunk).__name__}: {told}")
    seen: list[Any] = []
    with evaluating(model), _output_of(model.trunk, after, seen.append):
        model.represent(inputs)
    if len(seen) != 1:
        raise ProblemError(
            f"aligned needs a module that runs once a pass, and {after!r} ran {len(seen)} times; name the module that "
            "makes the embedding"
        )
    return seen[0]


def _size(features: Any, count: int, after: str | None) -> tuple[int, torch.Tensor]:
    """d of what is to be turned, and a tensor of its type. Raises: ProblemError for what no matrix can turn."""
    place = "the inputs" if after is None else f"the output of {after!r}"
    if not isinstance(features, torch.Tensor):
        raise ProblemError(f"aligned needs one tensor to turn, and {place} came as a {type(features).__name__}")
    came = f"{tuple(features.shape)} {str(features.dtype).removeprefix('torch.')}"
    if not features.is_floating_point():
        raise ProblemError(
            f"aligned turns floats, and {place} came as {came}; say after= which module within the trunk makes an "
            "embedding of them"
        )
    if after is None and features.dim() > 1:
        return features[0].numel(), features
    if features.dim() not in (2, 3) or len(features) % count:
        raise ProblemError(
            f"aligned needs features (B, d) or (B, L, d), and {place} came as {came} for {count} rows; say after= "
            "which module within the trunk makes such ones"
        )
    return features.shape[-1], features


def _moved(rows: torch.Tensor | slice, start: int) -> torch.Tensor | slice:
    return slice(rows.start + start, rows.stop + start) if isinstance(rows, slice) else rows + start


@contextmanager
def _output_of(trunk: nn.Module, name: str, change: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Lets `change` see, and where it returns something replace, what the module `name` puts out meanwhile.

    The hook is there for one pass: one that stayed would, in a copy of the model, still belong to the original.
    """
    handle = trunk.get_submodule(name).register_forward_hook(lambda module, given, output: change(output))
    try:
        yield
    finally:
        handle.remove()
