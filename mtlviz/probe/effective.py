"""What an optimizer made of the gradients: each task's first-order change of loss along the step that was taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.hooks import RemovableHandle

from mtlviz.errors import ProbeError

Flags = NDArray[np.bool_]

_CHUNK = 2**20  # numbers that are in double precision at a time


class Coming:
    """Numbers on their way from the device, for which the host need not wait."""

    def __init__(self, values: torch.Tensor) -> None:
        self._values, self._arrival = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrival = torch.cuda.Event()
            self._arrival.record()

    def there(self) -> bool:
        """Whether they have come."""
        return self._arrival is None or self._arrival.query()

    def numbers(self) -> list[float]:
        """The numbers, waited for."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._values.tolist()


class Effective:
    """Holds J (T, P) and θ (P,) from a recorded step until the optimizer has stepped, then measures J Δθ and ‖Δθ‖.

    Raises: ProbeError for what is no optimizer, or one that has none of the parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ProbeError(f"effective needs the optimizer that steps, got {type(optimizer).__name__}")
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in own for p in parameters):
            raise ProbeError("effective: this optimizer steps none of the shared parameters; give the one that does")
        self._parameters = parameters
        self._held: tuple[int, torch.Tensor, list[torch.Tensor], Flags] | None = None
        self._ready: tuple[int, Coming, Flags] | None = None
        self.seconds = 0.0
        self._optimizer = optimizer
        self._handle: RemovableHandle | None = None

    def attach(self) -> None:
        """Watches the optimizer from now on."""
        self._handle = self._optimizer.register_step_post_hook(self._stepped)

    def hold(self, step: int, jacobian: torch.Tensor, present: Flags) -> None:
        """Keeps the Jacobian of a step, and the parameters that it was taken at."""
        self._held = step, jacobian, [p.detach().clone() for p in self._parameters], present

    def take(self, *, wait: bool = True) -> tuple[int, dict[int, float], float] | None:
        """The step, ⟨g_t, Δθ⟩ of the present tasks and ‖Δθ‖, once they are there; what was not stepped is dropped.

        wait: for the device, where it has not come so far.
        """
        self._held = None
        if self._ready is None or not (wait or self._ready[1].there()):
            return None
        (step, values, present), self._ready = self._ready, None
        *changes, length = values.numbers()
        return step, {int(task): changes[task] for task in np.flatnonzero(present)}, length

    def close(self) -> None:
        """Lets go of the optimizer."""
        self._held = None
        if self._handle is not None:
            self._handle.remove()

    @torch.no_grad()
    def _stepped(self, *_: Any) -> None:
        if self._held is None:
            return
        began = time.perf_counter()
        (step, jacobian, before, present), self._held = self._held, None
        values = torch.zeros(len(jacobian) + 1, dtype=torch.float64, device=jacobian.device)
        start = 0
        for parameter, old in zip(self._parameters, before, strict=True):
            moved = (parameter - old).flatten()
            for a in range(0, moved.numel(), _CHUNK):
                part = moved[a : a + _CHUNK].double()
                columns = jacobian[:, start + a : start + a + part.numel()]
                values[:-1].addmv_(columns.double(), part)
                values[-1] += part.square().sum()
            start += moved.numel()
        values[-1].sqrt_()
        self._ready = step, Coming(values), present
        self.seconds += time.perf_counter() - began
