"""What passes through chosen modules in one forward pass: their inputs, and the edges where their gradients arrive."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

from mtlviz.errors import ProblemError


@dataclass(frozen=True)
class Call:
    """One call of a module: its input X, without a graph, and the gradient edge of what it returned.

    The edge stays that of the returned value where an activation then works in place and the tensor becomes another.
    """

    module: nn.Module
    inputs: torch.Tensor
    version: int
    shape: torch.Size  # of what it returned
    edge: GradientEdge

    def unchanged(self) -> torch.Tensor:
        """The input. Raises: ProblemError where something has written over it since, as autograd would."""
        if self.inputs._version != self.version:
            raise ProblemError(
                f"the input {tuple(self.inputs.shape)} of a {type(self.module).__name__} was changed in place after "
                "it was used, so nobody can tell its gradient; let the operation that does so work on a copy"
            )
        return self.inputs


class _Note:
    """What a node of a graph says of the call that it came from, as long as graph and tape want it."""

    __slots__ = ("__weakref__", "number", "said")

    def __init__(self, number: int, *said: Any) -> None:
        self.number, self.said = number, said


class Tape:
    """Records the calls of some modules while it runs; nothing is on the modules while it does not.

    A call is noted in the graph, at the node of what it returned, and goes with it: forward passes whose graph nobody
    keeps leave nothing. One without a graph, one that torch.compile traces and one that a backward pass repeats
    (checkpointing) leave no call.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = dict.fromkeys(modules)
        self._handles: list[RemovableHandle] = []
        self._key, self._numbers = object(), count()
        self._notes: weakref.WeakSet[_Note] = weakref.WeakSet()
        self._kinds: set[str] = set()  # of the nodes that bear notes

    def __len__(self) -> int:
        """How many calls there are in all graphs that are alive."""
        return len(self._notes)

    def start(self) -> None:
        """Records from now on."""
        if not self._handles:
            hook = _Hook(self)
            self._handles = [m.register_forward_hook(hook, with_kwargs=True, prepend=True) for m in self.modules]

    def stop(self) -> None:
        """Takes its hooks off the modules; the calls stay."""
        while self._handles:
            self._handles.pop().remove()

    def clear(self) -> None:
        """Lets go of every call, also where the graph lives on."""
        for note in list(self._notes):
            note.said = ()
        self._notes.clear()

    def calls(self, graph: Iterable[Any]) -> list[Call]:
        """The calls among the nodes of a graph, in the order in which they were made."""
        found = [(node.metadata.get(self._key), node) for node in graph if node.name() in self._kinds]
        noted = sorted(((note, node) for note, node in found if note is not None and note.said), key=_number)
        calls = []
        for note, node in noted:
            module, inputs, version, shape, number = note.said
            calls.append(Call(module, inputs, version, shape, GradientEdge(node, number)))
        return calls

    @contextmanager
    def running(self) -> Iterator[None]:
        """Records within the block alone."""
        self.clear()
        self.start()
        try:
            yield
        finally:
            self.stop()

    def add(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Told of each call by the modules' hooks."""
        if module not in self.modules or torch._C._current_graph_task_id() != -1:  # a copy; checkpointing
            return
        given: Any = args[0] if args else kwargs.get("input")
        if type(given) not in _PLAIN or type(output) not in _PLAIN or not output.requires_grad:
            return
        version, node = given._version, output.grad_fn
        note = _Note(next(self._numbers), module, given.detach(), version, output.shape, output.output_nr)
        node.metadata[self._key] = note
        self._notes.add(note)
        self._kinds.add(node.name())


def _number(noted: tuple[_Note, Any]) -> int:
    return noted[0].number


_PLAIN = (torch.Tensor, nn.Parameter)  # a subclass may compute as it likes


class _Hook:
    """A hook that outlives neither its tape nor a copy or a pickle of its module."""

    def __init__(self, tape: Tape | None) -> None:
        self._tape = (lambda: None) if tape is None else weakref.ref(tape)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        tape = self._tape()
        if tape is not None:
            tape.add(module, args, kwargs, output)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook(None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (None,)
