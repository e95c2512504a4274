"""The probe: three lines in a training loop of one's own, and its run log is that of any other run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from mtlviz.errors import ProbeError, RunLogError
from mtlviz.probe.losses import Losses, Numbers, read_numbers
from mtlviz.probe.opening import Path, Tasks, ending, opened, task_infos
from mtlviz.probe.pace import Pace
from mtlviz.probe.recorder import recorder_of
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.records import Event, Measure, Record, Validation


class Probe:
    """Records what a training loop's tasks do to each other, without changing the training by a bit.

        probe = mv.Probe(tasks=["seg", "depth"], shared=model.backbone, log="runs/mine")
        for batch in loader:
            losses = {"seg": ..., "depth": ...}
            probe.step(losses)                       # before backward(): it needs the graph
            sum(losses.values()).backward(); optimizer.step(); optimizer.zero_grad()
            ...
            probe.validation(seg=miou, depth=error)  # whenever you have validated
        probe.close()                                # or: with mv.Probe(...) as probe:
        mv.dashboard(probe)                          # any time, also in the next cell while it trains

    On every `every`-th step it takes each task's gradient of the shared parameters by a backward pass of its own over
    the graph that is there, and logs losses, Gramian (whole and by layer), weights and learning rate; a step in
    between costs a few microseconds. It never writes to `.grad`, parameters, optimizer or graph; buffers that a
    checkpointed part counts again, random states and autocast are as before. Hooks that you registered on tensors or
    modules do run in its passes as in yours. Before a recorded step it watches the module's forward passes: evaluate
    under torch.no_grad(), or what passes there in between is kept until that step.

    What the loop may use: AMP (give `scaler=`), accumulation (`accumulate=`), `torch.compile`, checkpointing with
    use_reentrant=False (reentrant is refused), tied and frozen parameters, tasks that are absent (None, or left out of
    the mapping) or touch part of the layers. A loss or gradient that is not finite is NaN in the log, with a measure
    "nonfinite" of the task, and ends nothing; a full disk is a warning. What cannot be measured raises ProbeError.

    tasks: names, or `mv.Task`s, which bring their metric. metrics, directions: one for all, or by task: a name of
        `mv.metrics.METRICS` or your own, "validation" unless given; "max" or "min", "max" where nothing says more.
    shared: the module that the tasks share, or an iterable of parameters (or of (name, parameter) pairs).
    log: the run's folder; None keeps it in memory. `probe.log` is the live `RunLog`. overwrite: replace a run there.
    every: steps from one recorded step to the next, the first one recorded; 10 unless given.
    budget: e.g. 0.1: keep `measured_overhead` below it by a spacing that follows what a recorded step takes; `every`
        is then the least spacing (1 unless given). Changes are events "every". A step that takes longer than those
        before it may lead a little beyond. Time between two calls counts as the loop's, whatever it does there.
    layers: "layers" (by the module that owns a parameter), "blocks" (by the parts that the module is built of),
        "tensors" or "whole" (no layers). An iterable has none: "whole" unless you say "tensors".
    weights: (T,) weights of the losses in your sum, in the order of the tasks or by task. The probe cannot see what
        you do with the losses: it logs what you tell, here or at a step, and else 1, that of a plain sum. Shares of
        the update are right only where this is.
    optimizer: its first group's learning rate is logged; else NaN.
    scaler: your GradScaler. Hand over the losses as they are, unscaled: the probe multiplies them for its own passes,
        so that nothing underflows, and logs true, unscaled norms. (`step(..., scaled=True)` for scaled ones.)
    accumulate: calls of `step` per update of the optimizer, all with whole losses (not divided by the count): the step
        logs the mean loss and the Gramian of the mean gradient over its calls, a task that is absent in a call
        counting 0 there; weights and learning rate are those of the last call. Holds T·P numbers while such a step
        lasts. A step is an update: `every` counts these.
    effective: the optimizer, to measure what it makes of the gradients: ⟨g_t, Δθ⟩, the first-order change of each loss
        along the step that was really taken (momentum, Adam, clipping and decay included), as measures
        "effective_change" by task, and "effective_length" ‖Δθ‖. Holds (T+1)·P numbers from a recorded step until the
        optimizer has stepped, and reads the device once more. See `analysis.effective_change`.
    noise: measure how much of the gradients' products is signal: each batch is split at random in halves A, B, and
        ½(g_aᴬ·g_bᴮ + g_aᴮ·g_bᴬ), which shares no sample and so no noise, is logged as measure "noise_dot" of each pair
        (a = b: the squared length without noise). Needs features, or per-sample losses (B,) each, whose mean is then
        the loss; losses that add over samples; no batch statistics: BatchNorm in training mode is refused. Costs a
        second backward pass a task. See `analysis.conflict_test`, `analysis.noise_floor`.
    name: what the run is called. config: JSON values worth remembering, "steps" among them for a progress bar.
    resume: go on with the run in the folder (or begin one): True, or the number of updates done, where more were done
        than the last that was recorded; later rows are superseded.

    Raises: ProbeError for settings that do not fit; RunLogError for a log that cannot be made.
    Differs: the log's `step` counts calls of `step` ÷ accumulate, whether the optimizer really stepped or not.
    """

    def __init__(
        self,
        tasks: Tasks,
        shared: nn.Module | Iterable[nn.Parameter],
        *,
        log: Path | None = None,
        every: int | None = None,
        budget: float | None = None,
        layers: str | None = None,
        metrics: str | Mapping[str, str] | None = None,
        directions: str | Mapping[str, str] | None = None,
        weights: Numbers | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: Any = None,
        accumulate: int = 1,
        effective: torch.optim.Optimizer | None = None,
        noise: bool = False,
        name: str = "own loop",
        config: Mapping[str, Any] | None = None,
        resume: bool | int = False,
        overwrite: bool = False,
    ) -> None:
        infos = task_infos(tasks, metrics, directions)
        self.tasks = tuple(task.name for task in infos)
        every = _whole("every", every if every is not None else 1 if budget is not None else 10)
        self._accumulate = _whole("accumulate", accumulate)
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < float("inf")):
            raise ProbeError(f"budget is the share of the loop's time to spend, as 0.1; got {budget!r}")
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise ProbeError(f"optimizer must be a torch optimizer, got {type(optimizer).__name__}")
        self._recorder, layers_found = recorder_of(
            shared,
            self.tasks,
            layers=layers,
            weights=weights,
            scaler=scaler,
            accumulate=self._accumulate,
            effective=effective,
            noise=noise,
        )
        self._optimizer = optimizer if optimizer is not None else effective
        own: dict[str, Any] = {"every": every, "budget": budget, "accumulate": self._accumulate, "noise": bool(noise)}
        own |= {"engine": self.engine, "weights": "1 unless told" if weights is None else "told"}
        info = RunInfo(name, infos, layers_found, own | dict(config or {}))
        try:
            self.log, self._step = opened(log, info, resume=resume, overwrite=overwrite)
        except BaseException:
            self._recorder.close()
            raise
        self._began = time.monotonic() - self.log.time
        self._pace = Pace(every, budget, calls=self._accumulate)
        self._ended = False
        self._calls, self._recording = 0, True  # calls of the present step, and whether it is recorded
        self._append(Event(self._step, self._step, "resume" if self._step else "start"))
        self._recorder.engine.watch()

    # ---- what it tells

    @property
    def every(self) -> int:
        """Steps from one recorded step to the next; with a budget it follows what a recorded step takes."""
        return self._pace.every

    @property
    def recording(self) -> bool:
        """Whether the next call of `step` is recorded; its arguments are looked at only then."""
        return self._recording and not self._ended

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The shared parameters, in the order of the log's layers."""
        return self._recorder.given.parameters

    @property
    def updates(self) -> int:
        """Updates done, as far as `step` was called for them."""
        return self._step

    @property
    def engine(self) -> str:
        """The path by which gradients are measured, in words."""
        return self._recorder.engine.name

    @property
    def measured_overhead(self) -> float:
        """Time spent in the probe ÷ time between its calls, over all calls so far; NaN before the second.

        Watching the forward pass of a recorded step (some microseconds a layer) is not seen by it.
        """
        return self._pace.overhead

    def __repr__(self) -> str:
        return f"<Probe of {', '.join(self.tasks)}: step {self._step}, every {self.every}, {self.engine}>"

    # ---- what a loop calls

    def step(
        self,
        losses: Losses,
        *,
        features: torch.Tensor | None = None,
        weights: Numbers | None = None,
        samples: Numbers | None = None,
        scaled: bool = False,
        jacobian: Sequence[torch.Tensor | None] | None = None,
        last: bool | None = None,
    ) -> bool:
        """Counts an update that is about to be made, and records it when its turn has come.

        losses: by task, (T,) in the tasks' order, or a sequence; one number each, with a graph that backward() has not
            freed; None, or left out of a mapping, for a task that is absent.
        features: the shared representation z as the heads got it: the graph is cut there, so that the gradients are
            of what flows through z. That this is all is checked at the first recorded step.
        weights: of the losses in this update. samples: (T,) labelled samples; rows of z, or 0 where it is not told.
        scaled: the losses are already multiplied by the scaler's scale.
        jacobian: the gradients, where the loop took them itself: for each of `probe.parameters` a tensor (T, *shape),
            or None where it has none. The probe then makes no backward pass, and needs no graph.
        last: whether this call is the update's last, where the loop knows it better than `accumulate`, as in a last,
            shorter accumulation of an epoch.

        Returns: whether it was recorded. Only then are the arguments looked at.

        Raises: ProbeError for losses that cannot be differentiated one by one.
        """
        if self._ended:
            self._check_open()
        if last is False and self._accumulate == 1:
            raise ProbeError("several calls make an update here: give the probe accumulate=, how many there mostly are")
        self._pace.enter()
        self._calls += 1
        last = self._calls >= self._accumulate if last is None else bool(last)
        cost = None
        try:
            if self._recorder.effective is not None and self._calls == 1:
                self._follow()
            if self._recording:
                self._recorder.add(losses, features, weights, samples, scaled=scaled, jacobian=jacobian)
                if last:
                    cost = self._write()
        except BaseException:
            self._recording = False
            self._recorder.reset()
            self._recorder.engine.rest()
            raise
        finally:
            recorded = last and self._recording
            self._pace.leave(cost)
            if last:
                self._turn(recorded)
        return recorded

    def validation(
        self, values: Mapping[str, float] | None = None, /, *, metric: str | None = None, **tasks: float
    ) -> None:
        """Logs values of the tasks' metrics at this moment: by keyword, or a mapping for names that are no keywords.

        metric: what they are values of; the task's own metric unless given.

        Raises: ProbeError for an unknown task or no number.
        """
        given = {**(values or {}), **tasks}
        numbers = read_numbers("validation", given, self.tasks)
        self._check_open()
        for task, number in zip(self.log.tasks, numbers, strict=True):
            if number is not None:
                self._append(Validation(self._step, self._step, task.name, metric or task.metric, float(number)))

    def event(self, kind: str, task: str | None = None, **detail: Any) -> None:
        """Logs that something happened to the run, or to a task; `detail` are JSON values."""
        self._check_open()
        self.log.append(Event(self._step, self._step, kind, task, detail))

    def measure(self, name: str, value: float, *, task: str | None = None, other: str | None = None) -> None:
        """Logs any further number of the run, a task or a pair of tasks."""
        self._check_open()
        self.log.append(Measure(self._step, name, float(value), task, other))

    def close(self) -> None:
        """Ends the run as finished, and closes its log; closing twice does nothing."""
        self._end(ending(None, self._step))

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(ending(error, self._step))

    # ---- recording

    def _write(self) -> float | None:
        """Logs the step whose calls were added. Returns: what it took, where that is not the time on the host."""
        rate = float("nan") if self._optimizer is None else float(self._optimizer.param_groups[0]["lr"])
        for record in self._recorder.records(self._step + 1, time=self._time(), learning_rate=rate):
            self._append(record)
        return self._recorder.cost()

    def _turn(self, recorded: bool) -> None:
        """The update's last call is over."""
        self._calls = 0
        self._step += 1
        if recorded and self._pace.recorded(self._step):
            spent, between = self._pace.times
            detail = {"every": self.every, "seconds": spent, "between": between}
            self._append(Event(self._step, self._step, "every", detail=detail))
        self._recording = self._pace.due(self._step + 1)
        if self._recording:
            self._recorder.engine.watch()
        elif recorded:
            self._recorder.engine.rest()

    def _follow(self) -> None:
        """Logs what the optimizer made of the last recorded step."""
        effective = self._recorder.effective
        for record in self._recorder.afterwards():
            self._append(record)
        if effective is not None:
            self._pace.elsewhere(effective.seconds)
            effective.seconds = 0.0

    def _time(self) -> float:
        return time.monotonic() - self._began

    # ---- the log

    def _append(self, record: Record) -> None:
        try:
            self.log.append(record)
        except RunLogError as error:  # a full disk must not end the training; the rows stay in memory
            if not self.log.writable:
                raise
            warnings.warn(f"the probe's log: {error}", RuntimeWarning, stacklevel=3)

    def _check_open(self) -> None:
        if not self.log.writable:
            raise ProbeError(
                "this probe is closed; to go on with its run: mv.Probe(..., log=<its folder>, resume=True)"
            )

    def _end(self, event: Event) -> None:
        if not self.log.writable:
            return
        self._ended = True
        self._follow()
        self._recorder.close()
        self._append(event)
        self.log.close()


def _whole(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ProbeError(f"{what} must be a whole number from 1, got {value!r}")
    return int(value)
