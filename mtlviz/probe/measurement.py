"""One recorded step of a probe: what its losses, or those of its micro-batches, say of the shared parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtlviz.errors import ProbeError
from mtlviz.gradients.general import General
from mtlviz.probe.engines import Engine
from mtlviz.probe.given import Given
from mtlviz.probe.halves import Halves
from mtlviz.probe.together import Shares, Together
from mtlviz.runlog.records import Floats

_BYPASS = 1e-2  # of the gradient's length: more than low precision explains, when two orders of summing are compared


@dataclass(frozen=True)
class Readings:
    """What one step says, on the host.

    losses: (T,) layers: (K, T, T), NaN where a task is absent or not finite. weights: (T,) if tensors were given.
    noise: (T, T) products of different halves, where asked for. jacobian: (T, P) on the device, where it is held. cut:
    whether it was looked at if all flows through the features.
    """

    losses: Floats
    layers: Floats
    weights: Floats | None
    noise: Floats | None
    jacobian: torch.Tensor | None
    cut: bool


class Measurement:
    """Adds up the gradients of a step's micro-batches, without scale, and reads them in one copy from the device.

    given: reads gradients that the loop took itself. holds: keep the Jacobian of a general engine, which several calls
    a step and a look at the optimizer need. together: with other ranks; what is read is then of the whole batch.
    """

    def __init__(
        self,
        engine: Engine,
        names: Sequence[str],
        given: Given,
        *,
        scaler: Any,
        halves: Halves | None,
        holds: bool,
        together: Together | None = None,
    ) -> None:
        self._engine, self._names, self._scaler, self._halves, self._holds = engine, names, scaler, halves, holds
        self._given, self._together = given, together
        self.reset()

    def reset(self) -> None:
        """Forgets the step that was begun."""
        self._calls = 0
        self._losses: torch.Tensor | None = None
        self._jacobian: torch.Tensor | None = None
        self._cube: torch.Tensor | None = None
        self._missed: torch.Tensor | None = None
        self._shares: Shares | None = None
        self.present = np.zeros(len(self._names), dtype=bool)
        self.samples = np.zeros(len(self._names), dtype=np.int64)
        if self._halves is not None:
            self._halves.reset()

    def add(
        self,
        losses: list[torch.Tensor | None],
        features: torch.Tensor | None,
        samples: Any,
        *,
        scaled: bool,
        jacobian: Any = None,
    ) -> None:
        """Measures the losses of one call; they, and a given Jacobian, carry the scaler's scale where `scaled`."""
        if scaled and self._scaler is None:
            raise ProbeError("scaled=True: the probe needs the scaler that scaled them, mv.Probe(..., scaler=scaler)")
        self.samples += samples
        unit = self._unit()
        if jacobian is not None:
            self._add_given(losses, jacobian, unit if scaled else None)
            return
        values = [_value(loss, self._engine.device) for loss in losses]
        total = torch.stack(values) if not scaled or unit is None else torch.stack(values) / unit
        if unit is not None and not scaled:
            losses = [None if loss is None else self._scaler.scale(loss) for loss in losses]
        self.present |= np.array([loss is not None for loss in losses])
        sources: list[torch.Tensor | None] = losses
        if self._halves is not None:
            sources, features = self._halves.of(losses, features), None
        if self._holds:
            assert isinstance(self._engine, General)
            jacobian = self._engine.jacobian(sources, features)
            jacobian = jacobian if unit is None else jacobian.div_(unit)
            self._jacobian = jacobian if self._jacobian is None else self._jacobian.add_(jacobian)
        else:
            if self._together is not None:
                sources = self._meet(self._together).scaled(sources)
            self._cube = self._engine.gramians(sources, features)
            self._cube = self._cube if unit is None else self._cube / unit**2
        self._count(total)

    def look(self, missed: torch.Tensor | None) -> None:
        """Minds whether some call `missed_by` something."""
        if missed is not None:
            self._missed = missed if self._missed is None else self._missed | missed

    def _count(self, losses: torch.Tensor) -> None:
        self._losses = losses if self._losses is None else self._losses + losses
        self._calls += 1

    def _add_given(self, losses: list[torch.Tensor | None], jacobian: Any, unit: torch.Tensor | None) -> None:
        """The gradients are there already, in parts of (T, *shape)."""
        T = len(self._names)
        rows = self._given.read(jacobian, T)
        total = torch.stack([_value(loss, self._engine.device) for loss in losses])
        self.present |= np.array([loss is not None for loss in losses])
        if self._holds:
            assert isinstance(self._engine, General)
            whole = self._given.whole(rows, T, self._engine.dtype)
            whole = whole if unit is None else whole.div_(unit)
            self._jacobian = whole if self._jacobian is None else self._jacobian.add_(whole)
        else:
            if self._together is not None:
                rows = self._given.parts(self._of_all(self._given.whole(rows, T, self._engine.dtype)))
            self._cube = self._given.gramians(rows, T, self._engine.device)
            self._cube = self._cube if unit is None else self._cube / unit**2
        self._count(total if unit is None else total / unit)

    def _meet(self, together: Together) -> Shares:
        """Whatever this rank has of the step is known."""
        halves = [0, 0] if self._halves is None else self._halves.samples
        shares = self._shares = together.meet(self.present, self.samples, halves)
        self.present, self.samples = shares.present, shares.samples
        if self._halves is not None:
            self._halves.samples = shares.halves
        return shares

    def _of_all(self, jacobian: torch.Tensor) -> torch.Tensor:
        """(T, P) of the whole batch, in place."""
        if self._together is None:
            return jacobian
        of = self._meet(self._together).on(jacobian.device, len(jacobian))
        return self._together.ranks.sum_(jacobian.mul_(of.to(jacobian.dtype)[:, None]))

    def _losses_of_all(self) -> torch.Tensor:
        """(T,) the losses of the step, and behind them whether something was missed, where anybody looked."""
        assert self._losses is not None
        losses = self._losses / self._calls
        looked = [] if self._missed is None else [self._missed.double().reshape(1)]
        if self._together is None or self._shares is None:
            return torch.cat([losses, *looked])
        own = losses * self._shares.on(losses.device, len(losses))
        return self._together.ranks.sum_(torch.cat([own, *(looked or [own.new_zeros(1)])]))

    def readings(self, weights: Sequence[Any] | None, *, about_to_wait: Any = None) -> Readings:
        """The step's readings: gradients and losses are the means over its calls, absent ones counting 0.

        weights: tensors of one number each, to read in the same copy. about_to_wait: called when all is begun.

        Raises: ProbeError where something was missed.
        """
        assert self._losses is not None
        jacobian = self._jacobian
        if jacobian is not None:
            assert isinstance(self._engine, General)
            jacobian = self._of_all(jacobian.div_(self._calls) if self._calls > 1 else jacobian)
            cube = self._engine.gramians_of(jacobian)
        else:
            assert self._cube is not None
            cube = self._cube
        T = len(self._names)
        of_all = self._losses_of_all()
        parts = [of_all[:T], cube.flatten()]
        if weights is not None:
            parts.append(torch.stack([_value(weight, cube.device) for weight in weights]))
        packed = torch.cat([*parts, of_all[T:]])
        if about_to_wait is not None:
            about_to_wait()
        on_host = packed.cpu().numpy()
        if len(of_all) > T and on_host[-1]:
            raise ProbeError(_AROUND)
        last = on_host[T + cube.numel() :][:T] if weights is not None else None
        losses, layers = on_host[:T], on_host[T : T + cube.numel()].reshape(cube.shape)
        noise = None
        if self._halves is not None:
            noise = self._halves.products(layers)
            layers = layers.reshape(-1, 2, T, 2, T).sum(axis=(1, 3))
            jacobian = None if jacobian is None else jacobian[:T].add_(jacobian[T:])
        layers = (layers + layers.transpose(0, 2, 1)) / 2
        with np.errstate(invalid="ignore"):
            lost = ~(self.present & np.isfinite(losses) & np.isfinite(layers.sum(axis=0).diagonal()))
        for matrix in (*layers, *(() if noise is None else (noise,))):
            matrix[lost, :] = np.nan
            matrix[:, lost] = np.nan
        losses = np.where(self.present & np.isfinite(losses), losses, np.nan)
        return Readings(losses, layers, last, noise, jacobian, self._missed is not None)

    def _unit(self) -> torch.Tensor | None:
        """The scaler's present scale, on the device: to read it there would wait for the device."""
        if self._scaler is None or not self._scaler.is_enabled():
            return None
        return self._scaler.scale(torch.ones((), dtype=torch.float32, device=self._engine.device)).double()


def missed_by(losses: Sequence[torch.Tensor | None], features: torch.Tensor, engine: Engine) -> torch.Tensor | None:
    """Whether some of what the losses owe to the shared parameters does not flow through the features: () flag.

    It stays on the device, to be read there with all else; None where there is no loss.

    Raises: ProbeError for features that no loss depends on.
    """
    if not isinstance(features, torch.Tensor) or not features.requires_grad:
        raise ProbeError(
            "features must be the shared representation z as the heads got it, with its graph (not detached)"
        )
    parameters = [p for p in engine.parameters if p.requires_grad]
    total = sum(loss.sum() for loss in losses if loss is not None)
    if not isinstance(total, torch.Tensor):
        return None
    keep: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    (cotangent,) = torch.autograd.grad(total, features, **keep)
    if cotangent is None:
        raise ProbeError("no loss depends on these features; give the tensor z that the heads got, not a copy of it")
    through = torch.autograd.grad(features, parameters, cotangent, **keep)
    whole = torch.autograd.grad(total, parameters, **keep)
    # The cotangents of z are summed before the trunk in both, so that only what flows around z can differ.
    missed, length = torch.zeros((), device=features.device), torch.zeros((), device=features.device)
    for a, b in zip(through, whole, strict=True):
        if b is not None:
            b = b.to_dense() if b.is_sparse else b
            missed = missed + (b - (0 if a is None else a)).float().square().sum()
            length = length + b.float().square().sum()
    return missed > _BYPASS**2 * length


_AROUND = (
    "some of what the losses owe to the shared parameters does not flow through features (a head that uses the trunk's "
    "weights, or a skip around z); leave features out, and whole gradients are taken"
)


def _value(loss: Any, device: torch.device) -> torch.Tensor:
    """A loss (), the mean of per-sample losses (B,), or a weight, in float64 on the device; 0 for None."""
    if loss is None:
        return torch.zeros((), dtype=torch.float64, device=device)
    if not isinstance(loss, torch.Tensor):
        return torch.full((), float(loss), dtype=torch.float64, device=device)
    return loss.detach().to(device=device, dtype=torch.float64).mean()
