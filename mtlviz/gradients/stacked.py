"""Linear heads of one size under one known loss: all of them at once, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from mtlviz.gradients.hooks import hooked
from mtlviz.models.shared_trunk import Rows
from mtlviz.task import Task


class Stacked(NamedTuple):
    """What n heads say: losses (n,), cotangents ∂L/∂z (n, B, d), gradients of weights (n, o, d) and biases (n, o)."""

    losses: torch.Tensor
    cotangents: torch.Tensor
    weights: torch.Tensor
    biases: torch.Tensor | None


def stacks(
    heads: Sequence[nn.Module],
    tasks: Sequence[Task],
    z: torch.Tensor,
    rows: Rows,
    targets: Mapping[str, torch.Tensor],
) -> list[list[int]]:
    """The numbers of tasks whose heads can be taken together: nn.Linear of one size, the same rows, loss and scale.

    Losses are those of torch by name, with their defaults, since nobody knows how others treat a further dimension.
    """
    found: dict[Any, list[int]] = {}
    if z.dim() != 2 or torch.is_autocast_enabled(z.device.type):
        return []
    for number, (head, task) in enumerate(zip(heads, tasks, strict=True)):
        piece = rows.get(task.name)
        if not isinstance(piece, slice) or id(task.loss) not in _KNOWN:
            continue
        y = targets[task.name]
        if type(head) is not nn.Linear or hooked(head) or head.in_features != z.shape[1]:
            continue
        own = [p for p in head._parameters.values() if p is not None]
        if not all(p.requires_grad and p.dtype == z.dtype and not p._backward_hooks for p in own):
            continue
        span = piece.indices(z.shape[0])
        size = len(range(*span))
        if _fits(task.loss, y, size, head.out_features):
            biased = head.bias is not None
            key = (id(task.loss), task.scale, span, head.out_features, biased, y.shape, y.dtype)
            found.setdefault(key, []).append(number)
    return [numbers for numbers in found.values() if len(numbers) > 1]


@torch.no_grad()
def stacked(heads: Sequence[nn.Linear], task: Task, z: torch.Tensor, targets: Sequence[torch.Tensor]) -> Stacked:
    """Losses and gradients of n heads on z (B, d), for targets of one shape; `task` has the loss and scale of all."""
    n, o = len(heads), heads[0].out_features
    W = torch.stack([head.weight for head in heads])  # (n, o, d)
    flat = W.view(n * o, -1)
    bias = None if heads[0].bias is None else torch.stack([head.bias for head in heads]).view(-1)
    out = F.linear(z, flat, bias).view(-1, n, o)  # (B, n, o)
    losses, d_out = _KNOWN[id(task.loss)](out, torch.stack(list(targets), dim=1))
    if task.scale != 1:
        losses, d_out = losses * task.scale, d_out * task.scale
    together = d_out.view(-1, n * o)
    of_weights = torch.mm(together.T, z).view(n, o, -1)
    of_biases = None if bias is None else together.sum(0).view(n, o)
    return Stacked(losses, torch.matmul(d_out.transpose(0, 1), W), of_weights, of_biases)


def _fits(loss: Callable[..., Any], y: torch.Tensor, B: int, o: int) -> bool:
    """Whether targets are of the shape that the loss takes as it is, with nothing broadcast."""
    if loss is F.cross_entropy:
        return y.shape == (B,) and not y.is_floating_point()
    return y.is_floating_point() and y.shape == ((B,) if o == 1 and y.dim() == 1 else (B, o))


Values = tuple[torch.Tensor, torch.Tensor]  # losses (n,) and their gradients (B, n, o) on the outputs
Loss = Callable[[torch.Tensor, torch.Tensor], Values]  # of outputs (B, n, o) and targets (B, n, ...)


def _elementwise(
    loss: Callable[..., torch.Tensor], slope: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Loss:
    """A mean over numbers, from the loss of each and its slope there."""

    def values(out: torch.Tensor, y: torch.Tensor) -> Values:
        y = y.view(out.shape)
        return loss(out, y, reduction="none").mean(dim=(0, 2)), slope(out, y).div_(out.shape[0] * out.shape[2])

    return values


def _cross_entropy(out: torch.Tensor, y: torch.Tensor) -> Values:
    """A mean over the samples whose class is not -100."""
    known = y != -100  # (B, n)
    classes = torch.where(known, y, 0).unsqueeze(2)
    share = known.to(out.dtype)
    share /= share.sum(0)
    logs = torch.log_softmax(out, dim=2)
    losses = -(logs.gather(2, classes).squeeze(2) * share).sum(0)
    d_out = logs.exp_().scatter_add_(2, classes, torch.full_like(classes, -1, dtype=out.dtype))
    return losses, d_out.mul_(share.unsqueeze(2))


_LOSSES: dict[Any, Loss] = {
    F.mse_loss: _elementwise(F.mse_loss, lambda out, y: (out - y).mul_(2)),
    F.l1_loss: _elementwise(F.l1_loss, lambda out, y: (out - y).sign_()),
    F.smooth_l1_loss: _elementwise(F.smooth_l1_loss, lambda out, y: (out - y).clamp_(-1, 1)),
    F.huber_loss: _elementwise(F.huber_loss, lambda out, y: (out - y).clamp_(-1, 1)),
    F.binary_cross_entropy_with_logits: _elementwise(
        F.binary_cross_entropy_with_logits, lambda out, y: torch.sigmoid(out).sub_(y)
    ),
    F.cross_entropy: _cross_entropy,
}
_KNOWN = {id(loss): values for loss, values in _LOSSES.items()}  # a loss of one's own need not be hashable
