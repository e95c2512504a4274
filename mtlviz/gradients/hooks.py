"""Whether a module does more than its class says."""

from __future__ import annotations

from torch import nn


def hooked(module: nn.Module) -> bool:
    """Whether it has hooks, a forward of its own, or is compiled."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__ or module._compiled_call_impl is not None
