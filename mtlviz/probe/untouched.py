"""Running further backward passes over a user's graph without leaving a trace, and saying why one cannot."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from mtlviz.errors import ProbeError, ProblemError

_REENTRANT = "CheckpointFunctionBackward"


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Random state, autocast, and the buffers of modules that are computed again are as before afterwards.

    A checkpointed part runs its forward again in each backward pass: what a BatchNorm counts there is taken back, and
    so are draws from the generators of Python and numpy; those of torch in any case.
    """
    torch_states, states = _torch_states(device), list[Any]()
    buffers: dict[int, tuple[nn.Module, str, torch.Tensor, torch.Tensor]] = {}

    def keep(module: nn.Module, _: Any) -> None:
        if isinstance(module, torch.fx.GraphModule):  # what torch.compile lowers at its first backward pass
            return
        if not states:
            states.extend((random.getstate(), np.random.get_state()))  # noqa: NPY002
        for part in module.modules():
            for name, buffer in part._buffers.items():
                if buffer is not None and id(buffer) not in buffers:
                    buffers[id(buffer)] = part, name, buffer, buffer.detach().clone()

    handle = nn.modules.module.register_module_forward_pre_hook(keep)
    try:
        with torch.autocast(device.type, enabled=False), torch.enable_grad():
            yield
    finally:
        handle.remove()
        for module, name, buffer, value in buffers.values():
            # Not in place of the tensor itself: its version must not change, for backward() checks it.
            buffer.data.copy_(value)
            module._buffers[name] = buffer
        torch.set_rng_state(torch_states[0])
        if len(torch_states) > 1:
            torch.cuda.set_rng_state(torch_states[1], device)
        if states:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _torch_states(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


@contextmanager
def explained() -> Iterator[None]:
    """Raises ProbeError, with the way out, for what torch cannot differentiate."""
    try:
        yield
    except ProblemError as error:  # of the engines
        cause = error.__cause__
        raise ProbeError(_reason(str(cause)) if isinstance(cause, RuntimeError) else str(error)) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ProbeError(_reason(str(error))) from error


def _reason(said: str) -> str:
    if "second time" in said or "already been freed" in said:
        return (
            "the graph of these losses is gone: backward() has freed it. Call probe.step(losses) before loss.backward()"
        )
    if "checkpoint" in said and ".grad()" in said:
        return REENTRANT_SAID
    if "donated" in said:
        return (
            "torch.compile gave away buffers that further backward passes need. Before compiling: "
            "torch._functorch.config.donated_buffer = False"
        )
    if "inplace operation" in said or "in-place" in said:
        return (
            "something that the losses were computed from has changed since. Call probe.step(losses) right after the "
            f"losses, before backward() and optimizer.step(). torch says: {said}"
        )
    return f"torch cannot differentiate these losses: {said}"


REENTRANT_SAID = (
    "the model uses reentrant checkpointing, through which single gradients cannot be taken. Use "
    "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
)


def nodes(losses: Iterable[torch.Tensor]) -> Iterator[Any]:
    """The nodes of the graph behind the losses, each once."""
    seen: set[Any] = set()
    waiting = [loss.grad_fn for loss in losses]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(before for before, _ in node.next_functions)


def check_graph(losses: Iterable[torch.Tensor], parameters: Iterable[torch.Tensor], *, per_sample: bool) -> None:
    """Looks for what makes gradients wrong without an error.

    per_sample: refuse also batch statistics, through which a sample depends on the others.

    Raises: ProbeError for reentrant checkpointing, for losses that reach none of the parameters, and where asked for
        BatchNorm in training mode.
    """
    shared, reached = {id(p) for p in parameters}, False
    for node in nodes(losses):
        name = node.name()
        reached = reached or id(getattr(node, "variable", None)) in shared
        if name.startswith(_REENTRANT):
            raise ProbeError(REENTRANT_SAID)
        if per_sample and "BatchNorm" in name and getattr(node, "_saved_training", True):
            raise ProbeError(
                "noise=True needs losses that add over samples, but a BatchNorm in training mode makes each sample "
                "depend on the others. Freeze its statistics (module.eval()), use GroupNorm or LayerNorm, or leave "
                "noise out"
            )
    if not reached:
        raise ProbeError(
            "none of the losses depends on a shared parameter; is `shared` the very module (not a copy) that these "
            "losses were computed with, and is its output not detached?"
        )
