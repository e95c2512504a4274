"""Buffers as they were: those out of a module's state (`persistent=False`) for rewinds, all for a look ahead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def unsaved_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that are not in the model's `state_dict`, by name; not copies."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def restore_buffers(model: nn.Module, kept: Mapping[str, torch.Tensor]) -> None:
    """Brings back what `unsaved_buffers` gave, in place where a buffer has kept its shape and dtype.

    One that was not there yet, as of a cache that is made in the first forward pass, is None again.
    """
    _put_back(model, unsaved_buffers(model), kept)


def all_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all buffers, by name."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def restore_all_buffers(model: nn.Module, kept: Mapping[str, torch.Tensor]) -> None:
    """Brings back what `all_buffers` gave, as `restore_buffers` does."""
    _put_back(model, dict(model.named_buffers()), kept)


def _put_back(model: nn.Module, there: Mapping[str, torch.Tensor], kept: Mapping[str, torch.Tensor]) -> None:
    device = next(model.parameters()).device
    for name in {**there, **kept}:
        path, _, own = name.rpartition(".")
        value, now = kept.get(name), there.get(name)
        if value is None or now is None or (now.shape, now.dtype) != (value.shape, value.dtype):
            setattr(model.get_submodule(path), own, None if value is None else value.to(device, copy=True))
        elif not torch.equal(now, value.to(now.device)):  # an expanded one, which never changes, cannot be written
            now.copy_(value)
