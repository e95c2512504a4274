"""Backward passes that leave no trace, also where checkpointing passes forward again in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """What parts of a module count in their buffers, and the random numbers they draw, in backward passes is undone."""
    own, repeated = set(module.modules()), False
    buffers: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    random = torch.get_rng_state()  # before checkpointing sets one of its own
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def keep(part: nn.Module, _: Any) -> None:
        nonlocal repeated
        if part not in own or torch._C._current_graph_task_id() == -1:  # another thread's
            return
        repeated = True
        if part not in buffers:
            buffers[part] = [(b, b.detach().clone()) for b in part._buffers.values() if b is not None]

    handle = nn.modules.module.register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
        for pairs in buffers.values():
            for buffer, value in pairs:
                buffer.data.copy_(value)  # the graph may hold the buffer, and must not see another version of it
        if repeated:
            torch.set_rng_state(random)
            if on_device is not None:
                torch.cuda.set_rng_state(on_device, device)
