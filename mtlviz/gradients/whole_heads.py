"""What the heads say of a batch that several processes share out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mtlviz.gradients.heads import Headed
from mtlviz.gradients.ranks import Ranks


def of_part(heads: Headed, shares: Sequence[float | None], z: torch.Tensor) -> Headed:
    """What this process adds to the whole batch: all times its share of a task's samples.

    shares: (T,) of the losses, means over the samples that are here; None where a task is in no part of the batch. A
    task that is in other parts alone has zeros here.
    """
    factors = torch.tensor([share or 0.0 for share in shares], dtype=z.dtype)
    rows: list[torch.Tensor | None] = []
    for share, row in zip(shares, heads.cotangents, strict=True):
        if share is None:
            rows.append(None)
        else:
            rows.append(torch.zeros_like(z) if row is None else row * share)
    grads = {parameter: (t, grad * (shares[t] or 0.0)) for parameter, (t, grad) in heads.grads.items()}
    return Headed(heads.losses * factors.to(z.device, non_blocking=True), rows, grads)


def of_all(
    heads: Headed, own: Sequence[tuple[int, nn.Parameter]], ranks: Ranks, of_z: torch.Tensor | None = None
) -> tuple[Headed, torch.Tensor | None]:
    """Losses and gradients of heads added up over the processes, and the Gramian of the gradients of z.

    own: numbers of tasks and the parameters that may have gradients; one that no process reaches has none. of_z: of
    this process's rows of z. Each row is of one process alone, so that these Gramians add up.
    """
    here = [parameter in heads.grads for _, parameter in own]
    there = ranks.some("the gradients of the heads", here)
    reached = [(t, parameter) for (t, parameter), known in zip(own, there, strict=True) if known]
    parts = [heads.losses]
    parts += [heads.grads[p][1] if p in heads.grads else torch.zeros_like(p) for _, p in reached]
    dtype = parts[0].dtype
    for part in parts[1:]:
        dtype = torch.promote_types(dtype, part.dtype)
    flat = ranks.sum_(torch.cat([part.flatten().to(dtype) for part in parts]))
    losses, *grads = flat.split([part.numel() for part in parts])
    pairs = zip(reached, grads, strict=True)
    found = {p: (t, grad.view_as(p).to(p.dtype)) for (t, p), grad in pairs}
    summed = heads._replace(losses=losses.to(heads.losses.dtype), grads=found)
    return summed, None if of_z is None else ranks.sum_(of_z)
