"""The probe: three lines in a training loop of one's own, and its run log is that of any other run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProbeError
from mtlviz.probe.course import Course
from mtlviz.probe.journal import Journal
from mtlviz.probe.losses import Losses, Numbers
from mtlviz.probe.opening import Path, Tasks, checked_config, ending, task_infos
from mtlviz.probe.pace import pace_of
from mtlviz.probe.recorder import recorder_of
from mtlviz.probe.together import alike, joined
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.records import Event


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
    modules do run in its passes as in yours, and a tensor that you told to retain_grad() gets the gradients of its
    passes too, unless it is `features`: set its `.grad` to None after `step`. It keeps nothing of a forward pass alive.

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
    group: under DistributedDataParallel, the ranks that measure together: a group of torch.distributed, None for all
        (where it is initialised), False for this process alone. All of them make the probe and call `step` alike;
        what is logged is of the whole batch, by rank 0: losses and gradients are means over all samples (`samples=`, or
        the rows of features, told on every rank; else over the ranks that have the task), and the Gramian is that of
        these means, not the mean of the ranks'. DDP itself divides by the number of ranks, whatever their samples.
        Weights, learning rate and what you log by hand are those of rank 0; the log of the others stays empty. A rank
        that leaves a step out keeps the others waiting: they say so after a minute, and fail after half an hour.
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
        group: Any = None,
    ) -> None:
        ranks = joined(group)
        with alike(ranks) as settings:
            infos = task_infos(tasks, metrics, directions)
            extra = checked_config(name, config, noise=noise, overwrite=overwrite)
            self.tasks = tuple(task.name for task in infos)
            pace, looked_at = pace_of(every, budget, accumulate), _optimizer(optimizer, effective)
            recorder, parts = recorder_of(
                shared, self.tasks, layers, weights, scaler, effective, noise=noise, holds=accumulate > 1, ranks=ranks
            )
            own: dict[str, Any] = {"every": pace.every, "budget": budget, "accumulate": int(accumulate)}
            own |= {"noise": bool(noise), "engine": recorder.engine.name}
            settings |= own | {"tasks": self.tasks, "layers": parts, "effective": effective is not None}
            own |= {"weights": "1 unless told" if weights is None else "told"} | extra
            info, silent = RunInfo(name, infos, parts, own), ranks is not None and not ranks.leads
            journal = Journal(log, info, resume=resume, overwrite=overwrite, silent=silent)
        self.log = journal.log
        self._course = Course(recorder, journal, pace, accumulate=accumulate, optimizer=looked_at, ranks=ranks)

    # ---- what it tells

    @property
    def every(self) -> int:
        """Steps from one recorded step to the next; with a budget it follows what a recorded step takes."""
        return self._course.pace.every

    @property
    def recording(self) -> bool:
        """Whether the next call of `step` is recorded; its arguments are looked at only then."""
        return self._course.recording

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The shared parameters, in the order of the log's layers."""
        return self._course.recorder.given.parameters

    @property
    def updates(self) -> int:
        """Updates done, as far as `step` was called for them."""
        return self._course.journal.step

    @property
    def engine(self) -> str:
        """The path by which gradients are measured, in words."""
        return self._course.recorder.engine.name

    @property
    def measured_overhead(self) -> float:
        """Time spent in the probe ÷ time between its calls, over all calls so far; NaN before the second.

        Watching the forward pass of a recorded step (some microseconds a layer) is not seen by it.
        """
        return self._course.pace.overhead

    def __repr__(self) -> str:
        return f"<Probe of {', '.join(self.tasks)}: step {self.updates}, every {self.every}, {self.engine}>"

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
        return self._course.call(losses, features, weights, samples, scaled=scaled, jacobian=jacobian, last=last)

    def validation(
        self, values: Mapping[str, float] | None = None, /, *, metric: str | None = None, **tasks: float
    ) -> None:
        """Logs values of the tasks' metrics at this moment: by keyword, or a mapping for names that are no keywords.

        metric: what they are values of; the task's own metric unless given.

        Raises: ProbeError for an unknown task or no number.
        """
        self._course.journal.validation(values, tasks, metric)

    def event(self, kind: str, task: str | None = None, **detail: Any) -> None:
        """Logs that something happened to the run, or to a task; `detail` are JSON values."""
        self._course.journal.add(Event(self.updates, self.updates, kind, task, detail))

    def measure(self, name: str, value: float, *, task: str | None = None, other: str | None = None) -> None:
        """Logs any further number of the run, a task or a pair of tasks."""
        self._course.journal.measure(name, value, task, other)

    def close(self) -> None:
        """Ends the run as finished, and closes its log; closing twice does nothing."""
        self._course.end(ending(None, self.updates))

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._course.end(ending(error, self.updates))


def _optimizer(
    given: torch.optim.Optimizer | None, effective: torch.optim.Optimizer | None
) -> torch.optim.Optimizer | None:
    """The one whose learning rate is logged."""
    if given is not None and not isinstance(given, torch.optim.Optimizer):
        raise ProbeError(f"optimizer must be a torch optimizer, got {type(given).__name__}")
    return effective if given is None else given
