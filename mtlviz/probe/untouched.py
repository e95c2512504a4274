"""Running further backward passes over a user's graph without leaving a trace, and saying why one cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mtlviz.errors import ProbeError, ProblemError
from mtlviz.gradients.undisturbed import undisturbed

_REENTRANT = "CheckpointFunctionBackward"
_SINK = "_DDPSinkBackward"


@contextmanager
def untouched(values: Iterable[torch.Tensor | None], device: torch.device) -> Iterator[None]:
    """Passes from values leave random states and buffers as they are; autocast is off in them, and gradients are on."""
    with (
        undisturbed(values, device, always=True),
        torch.autocast(device.type, enabled=False),
        torch.enable_grad(),
    ):
        yield


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


def reaches(loss: torch.Tensor, parameters: Iterable[torch.Tensor]) -> bool:
    """Whether a loss depends on some of the parameters; the walk ends at the first."""
    wanted = {id(p) for p in parameters}
    return any(id(getattr(node, "variable", None)) in wanted for node in nodes([loss]))


def check_graph(losses: Iterable[torch.Tensor], parameters: Iterable[torch.Tensor], *, per_sample: bool) -> None:
    """Looks for what makes gradients wrong without an error.

    per_sample: refuse also batch statistics, through which a sample depends on the others.

    Raises: ProbeError for reentrant checkpointing, for losses that reach none of the parameters, for the first update
        of DistributedDataParallel(static_graph=True), and where asked for BatchNorm in training mode.
    """
    shared, reached = {id(p) for p in parameters}, False
    for node in nodes(losses):
        name = node.name()
        reached = reached or id(getattr(node, "variable", None)) in shared
        if name.startswith(_REENTRANT):
            raise ProbeError(REENTRANT_SAID)
        if name.startswith(_SINK):
            _check_sink(node)
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


def _check_sink(node: Any) -> None:
    """Raises ProbeError where the first backward pass of all, whosever it is, sends the gradients round."""
    wrapper: Any = node.ddp_weakref() if hasattr(node, "ddp_weakref") else None
    if getattr(wrapper, "static_graph", False) and not wrapper._static_graph_delay_allreduce_enqueued:
        raise ProbeError(
            "DistributedDataParallel(static_graph=True) takes the first backward pass for yours; make the probe after "
            "the first update, or leave static_graph out"
        )
