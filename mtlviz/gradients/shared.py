"""Per-task gradients on the shared parameters: one pass forward, one backward a task, and no second backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from mtlviz.data.splits import Batch
from mtlviz.errors import ProblemError
from mtlviz.models.shared_trunk import Rows, SharedTrunk
from mtlviz.task import Task


@dataclass(frozen=True)
class TaskGradients:
    """What one batch says about T tasks at the present parameters.

    losses: (T,) 0 where a task is absent. present: (T,) on the host. jacobian: (T, P) of the shared parameters, a zero
    row where a task is absent; valid until the next batch. heads: the gradient of each present task's own loss, per
    parameter of its head and of its alignment, where it has one. used: which shared parameters some task reaches.
    representation: (T, T) float64 Gramian of ∂L_t/∂z, where the engine was asked for it.
    """

    losses: torch.Tensor
    present: tuple[bool, ...]
    jacobian: torch.Tensor
    heads: Mapping[nn.Parameter, tuple[int, torch.Tensor]]
    used: tuple[bool, ...]
    representation: torch.Tensor | None = None


class SharedGradients:
    """Computes `TaskGradients` of a model, its Gramians, and sets `.grad` from weights.

    The graph is cut at the shared representation z: one backward through all heads gives ∂L_t/∂z for every task, and
    one vector-Jacobian product a task carries it through the trunk into a Jacobian that is allocated once.

    representation: also give the Gramian of the gradients of z.
    """

    def __init__(self, model: SharedTrunk, tasks: Sequence[Task], *, representation: bool = False) -> None:
        self.model, self.tasks, self.representation = model, tuple(tasks), representation
        layers = model.layers()
        self.parameters = [p for layer in layers.values() for p in layer]
        self.layers = tuple(layers)
        sizes = [p.numel() for p in self.parameters]
        self._spans = _spans(sizes)
        self._layer_spans = _spans([sum(p.numel() for p in layer) for layer in layers.values()])
        first = self.parameters[0]
        if len({(p.dtype, p.device) for p in self.parameters}) > 1:
            raise ProblemError("the shared parameters must have one dtype and one device")
        self._jacobian = torch.zeros(len(self.tasks), sum(sizes), dtype=first.dtype, device=first.device)

    def of(self, batch: Batch) -> TaskGradients:
        """Losses and gradients of the tasks that `batch` labels; its tensors are on the model's device.

        Raises: ProblemError for a loss that is no scalar, does not fit its head, or reaches no shared parameter.
        """
        z, rows = self.model.routed(batch.inputs, batch.rows)
        if not z.requires_grad:
            raise ProblemError("the trunk's output does not depend on its parameters (is it computed under no_grad?)")
        losses, cotangents, heads = self._through_heads(batch, z, rows)
        used = [False] * len(self.parameters)
        for number, row in enumerate(cotangents):
            remaining = any(later is not None for later in cotangents[number + 1 :])
            if row is None:
                self._jacobian[number].zero_()
            else:
                heads |= self._through_trunk(number, z, row, remaining, used)
        present = tuple(row is not None for row in cotangents)
        of_z = _gramian_of(cotangents, z) if self.representation else None
        return TaskGradients(losses, present, self._jacobian, heads, tuple(used), of_z)

    def losses(self, batch: Batch) -> torch.Tensor:
        """The losses (T,) of the batch at the present parameters, NaN where a task is absent; no gradients."""
        losses = torch.full((len(self.tasks),), torch.nan, dtype=self._jacobian.dtype, device=self._jacobian.device)
        with torch.no_grad():
            z, rows = self.model.routed(batch.inputs, batch.rows)
            for number, task in enumerate(self.tasks):
                if task.name in rows:
                    output = self.model.output(task.name, z[rows[task.name]])
                    losses[number] = task.value(output, batch.targets[task.name])
        return losses

    def _through_heads(
        self, batch: Batch, z: torch.Tensor, rows: Rows
    ) -> tuple[torch.Tensor, list[torch.Tensor | None], dict[nn.Parameter, tuple[int, torch.Tensor]]]:
        leaves: dict[int, torch.Tensor] = {}
        losses = torch.zeros(len(self.tasks), dtype=z.dtype, device=z.device)
        values: list[torch.Tensor] = []
        for number, task in enumerate(self.tasks):
            if task.name not in rows:
                continue
            leaf = z.detach()[rows[task.name]].requires_grad_()
            loss = task.value(self.model.output(task.name, leaf), batch.targets[task.name])
            if not loss.requires_grad:
                raise ProblemError(f"task {task.name!r}: its loss depends on nothing that trains; was it detached?")
            leaves[number] = leaf
            values.append(loss)
            losses[number] = loss.detach()
        cotangents: list[torch.Tensor | None] = [None] * len(self.tasks)
        if not leaves:
            return losses, cotangents, {}
        heads = [(n, p) for n in leaves for p in self.model.head_parameters(self.tasks[n].name)]
        wanted = [*leaves.values(), *(p for _, p in heads)]
        grads = torch.autograd.grad(torch.stack(values).sum(), wanted, allow_unused=True)
        for (number, leaf), grad in zip(leaves.items(), grads, strict=False):
            name = self.tasks[number].name
            cotangents[number] = self._cotangent(name, rows[name], z, leaf, grad)
        of_heads = zip(heads, grads[len(leaves) :], strict=True)
        return losses, cotangents, {p: (n, grad) for (n, p), grad in of_heads if grad is not None}

    def _cotangent(
        self, task: str, rows: torch.Tensor | slice, z: torch.Tensor, leaf: torch.Tensor, grad: torch.Tensor | None
    ) -> torch.Tensor:
        if grad is None:
            raise ProblemError(
                f"task {task!r}: its loss reaches no shared parameter; its head must use the trunk's output"
            )
        if leaf.shape == z.shape and isinstance(rows, slice):
            return grad
        whole = torch.zeros_like(z)
        whole[rows] = grad
        return whole

    def _through_trunk(
        self, number: int, z: torch.Tensor, cotangent: torch.Tensor, retain: bool, used: list[bool]
    ) -> dict[nn.Parameter, tuple[int, torch.Tensor]]:
        """Fills a row of the Jacobian; the gradients of the task's own parameters that its rows passed on the way."""
        own = self.model.alignment_parameters(self.tasks[number].name)
        wanted = [*self.parameters, *own]
        grads = torch.autograd.grad(z, wanted, cotangent, retain_graph=retain, allow_unused=True)
        row = self._jacobian[number]
        for k, (span, grad) in enumerate(zip(self._spans, grads, strict=False)):
            if grad is None:
                row[span].zero_()
            else:
                used[k] = True
                row[span].view(grad.shape).copy_(grad)
        return {
            p: (number, grad) for p, grad in zip(own, grads[len(self.parameters) :], strict=True) if grad is not None
        }

    def layer_gramians(self, gradients: TaskGradients) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the K layers; their sum is the Gramian of the trunk."""
        blocks = [gradients.jacobian[:, span].double() for span in self._layer_spans]
        return torch.stack([block @ block.T for block in blocks])

    def layer_spans(self) -> dict[str, slice]:
        """Each layer's columns of the Jacobian."""
        return dict(zip(self.layers, self._layer_spans, strict=True))

    def move(self, direction: torch.Tensor, rates: Mapping[nn.Parameter, float]) -> None:
        """θ ← θ − rate · direction for the shared parameters, each with the learning rate of its own group."""
        with torch.no_grad():
            for parameter, span in zip(self.parameters, self._spans, strict=True):
                parameter.sub_(rates.get(parameter, 0.0) * direction[span].view_as(parameter))

    def head_peak(self, gradients: TaskGradients) -> torch.Tensor:
        """The largest entry of all head gradients, a float64 scalar: NaN or infinite where one of them is."""
        grads = [grad for _, grad in gradients.heads.values()]
        if not grads:
            return torch.zeros((), dtype=torch.float64, device=gradients.losses.device)
        return torch.nn.utils.get_total_norm(grads, norm_type=torch.inf).double()

    def set_grad(
        self,
        gradients: TaskGradients,
        weights: torch.Tensor,
        *,
        heads: str,
        direction: torch.Tensor | None = None,
        exact: bool = False,
    ) -> None:
        """Sets `.grad`: Jᵀw on the shared parameters; on the heads that of Σ L_t ("sum") or Σ w_t L_t ("weighted").

        weights: (T,) float64. direction: (P,) in place of Jᵀw. exact: sum Jᵀw in float64, layer by layer. A parameter
        that no present task reaches gets None, as after `backward()`.
        """
        if direction is None and exact:
            blocks = [weights @ gradients.jacobian[:, span].double() for span in self._layer_spans]
            direction = torch.cat(blocks).to(gradients.jacobian.dtype)
        elif direction is None:
            direction = weights.to(gradients.jacobian.dtype) @ gradients.jacobian
        for parameter, span, used in zip(self.parameters, self._spans, gradients.used, strict=True):
            parameter.grad = direction[span].view_as(parameter) if used else None
        for task in self.tasks:
            for parameter in (*self.model.head_parameters(task.name), *self.model.alignment_parameters(task.name)):
                parameter.grad = None
        for parameter, (number, grad) in gradients.heads.items():
            parameter.grad = grad if heads == "sum" else grad * weights[number].to(grad.dtype)


def _gramian_of(cotangents: Sequence[torch.Tensor | None], z: torch.Tensor) -> torch.Tensor:
    """(T, T) float64 inner products of the gradients of z; zeros where a task is absent."""
    rows = torch.stack([torch.zeros_like(z) if row is None else row for row in cotangents]).flatten(1).double()
    return rows @ rows.T


def _spans(sizes: Sequence[int]) -> list[slice]:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return [slice(a, b) for a, b in pairwise(starts)]
