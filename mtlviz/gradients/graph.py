"""The autograd graph below some values: who uses a parameter, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

from mtlviz.errors import ProblemError

# They hand a value on without computing with it, or in another dtype alone.
_PASSING = frozenset({"TBackward0", "TransposeBackward0", "PermuteBackward0", "ToCopyBackward0", "AliasBackward0"})
_RESHAPING = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward1"})


class Graph:
    """The nodes below some roots, and who is above each of them.

    roots: nodes to begin from. above: nodes at which to stop.

    Raises: ProblemError for reentrant checkpointing, of which nobody can ask a gradient but by `backward()`.
    """

    def __init__(self, roots: Iterable[Any], *, above: Iterable[Any] = ()) -> None:
        self._parents: dict[Any, list[Any]] = {}
        closed = set(above)
        waiting = [root for root in roots if root not in closed]
        self._parents.update((root, []) for root in waiting)
        while waiting:
            node = waiting.pop()
            if node.name() == "CheckpointFunctionBackward":
                raise ProblemError(
                    "the model uses reentrant checkpointing, through which a task's gradient cannot be taken; "
                    "pass use_reentrant=False to torch.utils.checkpoint"
                )
            for below, _ in node.next_functions:
                if below is None or below in closed:
                    continue
                parents = self._parents.get(below)
                if parents is None:
                    parents = self._parents[below] = []
                    waiting.append(below)
                parents.append(node)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parents)

    def __contains__(self, node: Any) -> bool:
        return node in self._parents

    def users(self, parameter: torch.Tensor) -> list[Any]:
        """The nodes that compute with a parameter, one for each use; a transposed or cast copy is the parameter."""
        found, waiting = [], [get_gradient_edge(parameter).node]
        while waiting:
            for parent in self._parents.get(waiting.pop(), ()):
                if parent.name() in _PASSING:
                    waiting.append(parent)
                else:
                    found.append(parent)
        return found


def beneath(node: Any, users: Iterable[Any]) -> bool:
    """Whether a node is one of the users, or a reshaped view of what one of them computed."""
    wanted = set(users)
    while node not in wanted:
        if node.name() not in _RESHAPING:
            return False
        node = node.next_functions[0][0]
        if node is None:
            return False
    return True
