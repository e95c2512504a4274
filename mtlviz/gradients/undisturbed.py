"""Backward passes that leave no trace, also where checkpointing passes forward again in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def undisturbed(values: Iterable[torch.Tensor | None], device: torch.device, *, always: bool = False) -> Iterator[None]:
    """What modules count in their buffers, and the random numbers they draw, in backward passes from values is undone.

    Forward passes of other threads, and those that other backward passes repeat, count as ever. Random states belong
    to the process, though: what another thread draws meanwhile it will draw again.

    values: what the passes begin at, or come through before they reach a module. always: take back torch's random
        numbers also where no module was passed again: a function may draw in its backward.
    """
    torch_states, states = _torch_states(device), list[Any]()  # before checkpointing sets one of its own
    buffers: dict[int, tuple[nn.Module, str, torch.Tensor, torch.Tensor]] = {}

    def keep(module: nn.Module, _: Any) -> None:
        if torch._C._current_graph_task_id() not in passes:
            return
        if isinstance(module, torch.fx.GraphModule):  # what torch.compile lowers at its first backward pass
            return
        if not states:
            states.extend((random.getstate(), np.random.get_state()))  # noqa: NPY002
        for part in module.modules():
            for name, buffer in part._buffers.items():
                if buffer is not None and id(buffer) not in buffers:
                    buffers[id(buffer)] = part, name, buffer, buffer.detach().clone()

    with _passes_from(values) as passes:
        handle = nn.modules.module.register_module_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()
            for module, name, buffer, value in buffers.values():
                # Not in place of the tensor itself: its version must not change, for backward() checks it.
                buffer.data.copy_(value)
                module._buffers[name] = buffer
            if always or states:
                torch.set_rng_state(torch_states[0])
                if len(torch_states) > 1:
                    torch.cuda.set_rng_state(torch_states[1], device)
            if states:
                random.setstate(states[0])
                np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def _passes_from(values: Iterable[torch.Tensor | None]) -> Iterator[set[int]]:
    """The numbers of the backward passes that come through values, as they come."""
    passes: set[int] = set()
    nodes = {value.grad_fn for value in values if value is not None and value.grad_fn is not None}
    handles: list[RemovableHandle] = [node.register_prehook(_noting(passes)) for node in nodes]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _noting(passes: set[int]) -> Callable[[Any], None]:
    return lambda _: passes.add(torch._C._current_graph_task_id())


def _torch_states(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
