"""The heads of a model: every task's loss, its gradient on the shared representation and on its own parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from mtlviz.errors import ProblemError
from mtlviz.gradients.stacked import stacked, stacks
from mtlviz.models.shared_trunk import Rows, SharedTrunk
from mtlviz.task import Task


class Headed(NamedTuple):
    """What the heads say.

    losses: (T,) 0 where a task is absent. cotangents: ∂L_t/∂z as z is shaped, None where a task is absent. grads: the
    gradient of each present task's own loss, per parameter of its head. together: (T, B, d) the cotangents, where they
    came so.
    """

    losses: torch.Tensor
    cotangents: list[torch.Tensor | None]
    grads: dict[nn.Parameter, tuple[int, torch.Tensor]]
    together: torch.Tensor | None = None


class Heads:
    """Passes the heads of a model: those that are alike at once (`stacks`), the others by one backward for all.

    own: of each task, what trains in its head.
    """

    def __init__(self, model: SharedTrunk, names: Sequence[str]) -> None:
        self.model = model
        self.heads = [model.head(name) for name in names]
        self._parameters = [list(head.parameters()) for head in self.heads]

    def own(self, number: int) -> list[nn.Parameter]:
        """The parameters that train in a task's head."""
        return [p for p in self._parameters[number] if p.requires_grad]

    def __call__(
        self, tasks: Sequence[Task], z: torch.Tensor, rows: Rows, targets: Mapping[str, torch.Tensor]
    ) -> Headed:
        """Losses and cotangents of the tasks that have rows of z.

        Raises: ProblemError for a loss that is no scalar, does not fit its head, or depends on nothing it should.
        """
        z = z.detach()
        each = [z.new_zeros(())] * len(tasks)  # losses
        found = Headed(each[0], [None] * len(tasks), {})
        alone = [t for t, task in enumerate(tasks) if task.name in rows]
        for numbers in stacks(self.heads, tasks, z, rows, targets):
            of_some, some = self._stacked(numbers, tasks, z, rows, targets, found)
            if len(numbers) == len(tasks):
                return found._replace(losses=of_some, together=some)
            for t, loss in zip(numbers, of_some.unbind(), strict=True):
                each[t] = loss
            alone = [t for t in alone if t not in numbers]
        if alone:
            for t, loss in zip(alone, self._alone(alone, tasks, z, rows, targets, found), strict=True):
                each[t] = loss.detach().to(z.dtype)
        return found._replace(losses=torch.stack(each))

    def _stacked(
        self,
        numbers: list[int],
        tasks: Sequence[Task],
        z: torch.Tensor,
        rows: Rows,
        targets: Mapping[str, torch.Tensor],
        found: Headed,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds what heads of one kind say to `found`, but for the losses: these, and their cotangents."""
        first, heads = tasks[numbers[0]], [cast(nn.Linear, self.heads[t]) for t in numbers]
        piece = rows[first.name]
        some = stacked(heads, first, z[piece], [targets[tasks[t].name] for t in numbers])
        whole = some.cotangents
        if whole.shape[1:] != z.shape:
            whole = z.new_zeros(len(numbers), *z.shape)
            whole[:, piece] = some.cotangents
        for t, row in zip(numbers, whole.unbind(0), strict=True):
            found.cotangents[t] = row
        for t, head, grad in zip(numbers, heads, some.weights.unbind(0), strict=True):
            found.grads[cast(nn.Parameter, head.weight)] = t, grad
        if some.biases is not None:
            for t, head, grad in zip(numbers, heads, some.biases.unbind(0), strict=True):
                found.grads[head.bias] = t, grad
        return some.losses, whole

    def _alone(
        self,
        numbers: list[int],
        tasks: Sequence[Task],
        z: torch.Tensor,
        rows: Rows,
        targets: Mapping[str, torch.Tensor],
        found: Headed,
    ) -> list[torch.Tensor]:
        """Adds what other heads say to `found`, but for the losses: these."""
        leaves, values = [], []
        for t in numbers:
            task = tasks[t]
            leaf = z[rows[task.name]].requires_grad_()
            loss = task.value(self.model.output(task.name, leaf), targets[task.name])
            if not loss.requires_grad:
                raise ProblemError(f"task {task.name!r}: its loss depends on nothing that trains; was it detached?")
            leaves.append(leaf)
            values.append(loss)
        own = [(t, p) for t in numbers for p in self.own(t)]
        grads = torch.autograd.grad(torch.stack(values).sum(), [*leaves, *(p for _, p in own)], allow_unused=True)
        for t, leaf, grad in zip(numbers, leaves, grads, strict=False):
            found.cotangents[t] = _cotangent(tasks[t].name, rows[tasks[t].name], z, leaf, grad)
        of_heads = zip(own, grads[len(leaves) :], strict=True)
        found.grads.update({p: (t, grad) for (t, p), grad in of_heads if grad is not None})
        return values


def _cotangent(
    task: str, rows: torch.Tensor | slice, z: torch.Tensor, leaf: torch.Tensor, grad: torch.Tensor | None
) -> torch.Tensor:
    if grad is None:
        raise ProblemError(f"task {task!r}: its loss reaches no shared parameter; its head must use the trunk's output")
    if leaf.shape == z.shape and isinstance(rows, slice):
        return grad
    whole = torch.zeros_like(z)
    whole[rows] = grad
    return whole
