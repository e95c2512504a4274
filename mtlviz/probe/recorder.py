"""From the losses of one step to its records: what is read is checked, measured and put into words of the log."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mtlviz.errors import ProbeError
from mtlviz.gradients.ranks import Ranks
from mtlviz.probe.effective import Effective
from mtlviz.probe.engines import Engine, engine_of
from mtlviz.probe.given import Given
from mtlviz.probe.grouping import WHOLE, groups, module_of
from mtlviz.probe.halves import Halves, check_halves
from mtlviz.probe.losses import Losses, Numbers, read_counts, read_features, read_losses, read_numbers
from mtlviz.probe.measurement import Measurement, Readings, missed_by
from mtlviz.probe.pace import Stopwatch
from mtlviz.probe.together import Together
from mtlviz.probe.untouched import check_graph, explained, reaches, untouched
from mtlviz.runlog.records import Measure, Record, Step


class Recorder:
    """Measures the calls of a step, and tells of it in records.

    module: what is shared, where it is a module. weights: (T,) of the tasks where a step tells no others. layered:
    whether Gramians of the layers are logged.
    """

    def __init__(
        self,
        engine: Engine,
        names: Sequence[str],
        given: Given,
        *,
        module: nn.Module | None,
        weights: list[Any] | None,
        scaler: Any,
        noise: bool,
        effective: Effective | None,
        holds: bool,
        layered: bool,
        together: Together | None = None,
    ) -> None:
        self.engine, self._names, self._module, self._weights = engine, tuple(names), module, weights
        self.effective, self._layered = effective, layered
        self.given, self._halves = given, Halves() if noise else None
        self._measurement = Measurement(
            engine, names, given, scaler=scaler, halves=self._halves, holds=holds, together=together
        )
        self.together = together
        self._stopwatch = Stopwatch(engine.device)
        self._recorded, self._cut_checked = 0, False
        self._aloof: set[str] = set()  # tasks whose loss was found to depend on nothing shared
        self.reset()

    def begin(self) -> None:
        """Watches the optimizer, and the next forward passes."""
        if self.effective is not None:
            self.effective.attach()
        self.engine.watch()

    def reset(self) -> None:
        """Forgets the step that was begun."""
        self._measurement.reset()
        self._told: list[Any] | None = None

    def add(
        self,
        losses: Losses,
        features: torch.Tensor | None,
        weights: Numbers | None,
        samples: Any,
        *,
        scaled: bool,
        jacobian: Any = None,
    ) -> None:
        """Measures the losses of one call, by the gradients that the loop took itself where it has them."""
        if jacobian is not None:
            self._check_given(losses)
        features = read_features(features)
        values = read_losses(losses, self._names, per_sample=self._halves is not None and features is None)
        self._told = self._weights if weights is None else _on_host(read_numbers("weights", weights, self._names))
        counts = self._counts(values, features, samples)
        self._stopwatch.start()
        retained = features is not None and features.retains_grad
        before = features.grad if features is not None and retained else None
        with explained(), untouched((features, *values), self.engine.device):
            if jacobian is None:
                self._check(values, features)
            self._measurement.add(values, features, counts, scaled=scaled, jacobian=jacobian)
        if jacobian is not None:
            self.engine.rest()  # what it kept of the forward pass
        if features is not None and retained:
            features.grad = before
        self._stopwatch.done()

    def records(self, step: int, *, time: float, learning_rate: float) -> Iterator[Record]:
        """What is to be logged of the step whose calls were added."""
        tensors = self._told if any(isinstance(w, torch.Tensor) for w in self._told or ()) else None
        readings = self._measurement.readings(tensors, about_to_wait=self._stopwatch.done)
        self._stopwatch.waited()
        self._cut_checked = self._cut_checked or readings.cut
        yield from self.afterwards(wait=True)  # the device has come by it on the way
        present = np.isfinite(readings.losses)
        told = readings.weights if readings.weights is not None else self._told
        weights = np.ones(len(self._names)) if told is None else np.array([float(w or 0) for w in told])
        yield Step(
            step=step,
            position=step,
            time=time,
            losses=readings.losses,
            weights=np.where(present, weights, 0.0),
            gramian=readings.layers.sum(axis=0),
            samples=self._measurement.samples,
            learning_rate=learning_rate,
            phases=("supervised",) * len(self._names),
            layers=readings.layers if self._layered else None,
        )
        yield from self._measures(step, readings, present)
        if self.effective is not None and readings.jacobian is not None:
            self.effective.hold(step, readings.jacobian, present)
        self._recorded += 1
        self.reset()

    def afterwards(self, *, wait: bool = False) -> Iterator[Measure]:
        """What the optimizer made of the step that was recorded last, once it is known. wait: for the device."""
        taken = None if self.effective is None else self.effective.take(wait=wait)
        if taken is not None:
            step, changes, length = taken
            for task, change in changes.items():
                yield Measure(step, "effective_change", change, self._names[task])
            yield Measure(step, "effective_length", length)

    def close(self) -> None:
        """Lets go of the optimizer, the module and the step that was begun."""
        if self.effective is not None:
            self.effective.close()
        self.engine.rest()
        self.reset()

    def cost(self) -> float | None:
        """Seconds that the step took on a GPU; None without one."""
        return self._stopwatch.cost()

    def _measures(self, step: int, readings: Readings, present: Any) -> Iterator[Measure]:
        for task in np.flatnonzero(self._measurement.present & ~present):
            yield Measure(step, "nonfinite", 1.0, self._names[task])
        if readings.noise is not None:
            for a, b in zip(*np.triu_indices(len(self._names)), strict=True):
                if np.isfinite(readings.noise[a, b]):
                    value = float(readings.noise[a, b])
                    yield Measure(step, "noise_dot", value, self._names[a], self._names[b])

    def _check(self, losses: list[torch.Tensor | None], features: torch.Tensor | None) -> None:
        """Looks at the graph of recorded steps 1, 2, 4, 8, …: a walk costs time, and loops seldom change."""
        number = self._recorded + 1
        present = [loss for loss in losses if loss is not None]
        if number & (number - 1) or not present:
            return
        check_graph(present, self.engine.parameters, per_sample=self._halves is not None)
        self._warn_of_aloof(losses)
        if features is not None and not self._cut_checked:
            self._measurement.look(missed_by(losses, features, self.engine))
        if self._halves is not None:
            check_halves(self._module, features)

    def _warn_of_aloof(self, losses: list[torch.Tensor | None]) -> None:
        for name, loss in zip(self._names, losses, strict=True):
            if loss is not None and name not in self._aloof and not reaches(loss, self.engine.parameters):
                self._aloof.add(name)
                warnings.warn(
                    f"the loss of {name!r} depends on no shared parameter, so that its gradient is 0 in the log. If it "
                    "should: was the trunk's output detached for it, or is another module shared?",
                    RuntimeWarning,
                    stacklevel=6,
                )

    def _check_given(self, losses: Losses) -> None:
        if self._halves is not None:
            raise ProbeError("noise=True takes gradients of half batches; leave jacobian out, or noise")
        if isinstance(losses, Mapping):
            order = list(losses)
            if order != [name for name in self._names if name in losses]:
                raise ProbeError(
                    f"jacobian has a row per task in the tasks' order, {', '.join(self._names)}; hand over the losses "
                    f"in that order too, not as {', '.join(map(str, order))}"
                )

    def _counts(self, losses: list[torch.Tensor | None], features: torch.Tensor | None, samples: Any) -> Any:
        if samples is not None:
            return read_counts("samples", samples, self._names)
        rows = 0 if features is None or features.dim() == 0 else len(features)
        return np.array([0 if loss is None else len(loss) if loss.dim() else rows for loss in losses])


def _on_host(numbers: list[Any]) -> list[Any]:
    """The numbers, as such where no device has to be waited for."""
    return [float(n.detach()) if isinstance(n, torch.Tensor) and n.device.type == "cpu" else n for n in numbers]


def recorder_of(
    shared: nn.Module | Iterable[nn.Parameter],
    names: Sequence[str],
    layers: str | None,
    weights: Numbers | None,
    scaler: Any,
    effective: torch.optim.Optimizer | None,
    *,
    noise: bool,
    holds: bool,
    ranks: Ranks | None = None,
) -> tuple[Recorder, tuple[str, ...]]:
    """The recorder of a probe's settings, and the names of the layers that it logs.

    holds: whether a step has several calls, which needs the Jacobian itself, as `effective` does. ranks: to measure
    with, of which the first looks at the optimizer.

    Raises: ProbeError for settings that do not fit.
    """
    if scaler is not None and not (callable(getattr(scaler, "scale", None)) and hasattr(scaler, "is_enabled")):
        raise ProbeError(f"scaler must be a torch.amp.GradScaler, got {type(scaler).__name__}")
    told = None if weights is None else _on_host(read_numbers("weights", weights, names))
    found, module = groups(shared, layers), module_of(shared)
    layered, holds = tuple(found) != (WHOLE,), holds or effective is not None
    engine = engine_of(module, found, by=layers or "", holds=holds, ranks=ranks)
    looks = None if effective is None or (ranks is not None and not ranks.leads) else effective
    recorder = Recorder(
        engine,
        names,
        Given(found),
        module=module,
        weights=told,
        scaler=scaler,
        noise=noise,
        effective=None if looks is None else Effective(looks, engine.parameters),
        holds=holds,
        layered=layered,
        together=None if ranks is None else Together(ranks, len(names), module),
    )
    return recorder, tuple(found) if layered else ()
