"""Training is a generator of records: forward, per-task gradients, weights, update, and a word about each."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Split
from mtlviz.errors import NonFiniteError, ProblemError, WeightingError
from mtlviz.gradients.shared import SharedGradients, TaskGradients
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.randomness import derived_seed, seeded
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.records import Event, Floats, Measure, Record, Step, Validation
from mtlviz.training.evaluation import evaluation
from mtlviz.training.parts import (
    MakeOptimizer,
    MakeScheduler,
    WeightingLike,
    check_fit,
    load,
    optimizer_of,
    scheduler_of,
    trainable_copy,
    usable_device,
    weighting_of,
    whole,
)
from mtlviz.weighting import Weighting


def train(
    problem: Problem,
    *,
    weighting: WeightingLike = "equal",
    steps: int = 2000,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    seed: int = 0,
    validate_every: int = 100,
    layers_every: int = 10,
) -> Training:
    """Trains a copy of the problem's model and yields a record of everything that happens; `break` stops it.

    weighting: a name of `mtlviz.weighting.METHODS`, a `Weighting` (a copy of it is used, from its initial state), or a
        function of your own, numpy float64 (losses (T,), Gramian (T, T)) -> weights (T,), which sees NaN where a task
        is absent.
    steps: updates to do. batch_size: samples a batch (a task, where each task has data of its own).
    optimizer: parameters -> Optimizer; Adam with lr 1e-3 unless given. scheduler: optimizer -> LRScheduler, stepped
        after every update. Those that need a closure or a metric (LBFGS, ReduceLROnPlateau) are refused.
    seed: of batches and dropout; the initial parameters are the problem's own.
    validate_every: updates between validations; there is one before the first update and one after the last.
    layers_every: updates between recorded Gramians of the single layers; 0 for none.

    What is recorded never changes what is computed. Raises, here: ProblemError, WeightingError, ValueError for numbers
    out of range. Raises, while training: NonFiniteError for a loss or gradient that is NaN or infinite, WeightingError
    for weights nobody can use, ProblemError for data that does not fit.
    """
    return Training(
        problem,
        weighting=weighting,
        steps=steps,
        optimizer=optimizer,
        scheduler=scheduler,
        batch_size=batch_size,
        device=device,
        seed=seed,
        validate_every=validate_every,
        layers_every=layers_every,
    )


class Training(Iterator[Record]):
    """The generator that `train` returns; `model` is the copy that is being trained."""

    def __init__(
        self,
        problem: Problem,
        *,
        weighting: WeightingLike,
        steps: int,
        optimizer: MakeOptimizer | None,
        scheduler: MakeScheduler | None,
        batch_size: int,
        device: str | torch.device,
        seed: int,
        validate_every: int,
        layers_every: int,
    ) -> None:
        if not isinstance(problem, Problem):
            raise ProblemError(f"train needs an mtlviz.Problem, got {type(problem).__name__}: {problem!r}")
        self.problem = problem
        self.steps = whole("steps", steps, least=1)
        self.seed = whole("seed", seed, least=0)
        self.validate_every = whole("validate_every", validate_every, least=1)
        self.layers_every = whole("layers_every", layers_every, least=0)
        self.device = usable_device(device)
        self.weighting = weighting_of(weighting)
        self.sampler = BatchSampler(problem.train, batch_size=batch_size, seed=seed)
        self.model: SharedTrunk = trainable_copy(problem.model).to(self.device)
        check_fit(problem, self.model, BatchSampler(problem.train, batch_size=batch_size, seed=seed), self.device)
        load(problem, self.weighting)
        self.gradients = SharedGradients(self.model, problem.tasks)
        self.optimizer = optimizer_of(optimizer, self.model)
        self.scheduler = scheduler_of(scheduler, self.optimizer)
        self.step = 0
        self._names = tuple(task.name for task in problem.tasks)
        self._records = self._run()
        self._began = 0.0

    def __next__(self) -> Record:
        return next(self._records)

    def close(self) -> None:
        """Ends the generator where it is."""
        self._records.close()

    def run_info(self, config: Mapping[str, Any] | None = None) -> RunInfo:
        """What a run log remembers of this training."""
        group = self.optimizer.param_groups[0]
        own = {
            "weighting": getattr(self.weighting, "name", getattr(self.weighting, "__name__", repr(self.weighting))),
            "weighting_settings": self.weighting.settings() if isinstance(self.weighting, Weighting) else {},
            "steps": self.steps,
            "batch_size": self.sampler.batch_size,
            "optimizer": type(self.optimizer).__name__,
            "learning_rate": float(group["lr"]),
            "scheduler": type(self.scheduler).__name__ if self.scheduler is not None else None,
            "device": str(self.device),
            "seed": self.seed,
            "validate_every": self.validate_every,
            "layers_every": self.layers_every,
        }
        return self.problem.run_info(own | dict(config or {}))

    def _run(self) -> Generator[Record, None, None]:
        self._began = time.monotonic()
        yield Event(step=0, position=0, kind="start")
        yield from self._validations()
        while self.step < self.steps:
            yield from self._update(self.step + 1)
            if self.step % self.validate_every == 0 or self.step == self.steps:
                yield from self._validations()
        if self.problem.test is not None:
            values = yield from self._metrics(self.problem.test)
            for task, value in values.items():
                yield Measure(step=self.step, name="test", task=task, value=value)
        yield Event(step=self.step, position=self.step, kind="finish")

    def _update(self, step: int) -> Iterator[Record]:
        """One update; `self.step` counts it once it is done."""
        with seeded(derived_seed(self.seed, 2, step), self.device):
            batch = self.sampler.batch(step).to(self.device)
            gradients = self.gradients.of(batch)
        present = np.array(gradients.present)
        losses, layers, head_peak = self._on_host(gradients)
        gramian = layers.sum(axis=0)
        broken = self._not_finite(step, losses, gramian, present)
        if broken is None and not np.isfinite(head_peak):
            broken = self._not_finite_head(step, gradients)
        if broken is not None:
            yield from self._end_by(broken)
        absent = ~present
        losses[absent] = np.nan
        for matrix in (gramian, *layers):
            matrix[absent, :] = np.nan
            matrix[:, absent] = np.nan
        weights = self._weights(step, losses, gramian, present)
        heads = self.weighting.heads if isinstance(self.weighting, Weighting) else "weighted"
        self.gradients.set_grad(gradients, torch.from_numpy(weights).to(self.device), heads=heads)
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.step = step
        yield Step(
            step=step,
            position=step,
            time=time.monotonic() - self._began,
            losses=losses,
            weights=weights,
            gramian=gramian,
            samples=np.array([batch.samples(name) for name in self._names]),
            learning_rate=learning_rate,
            phases=("supervised",) * len(self._names),
            layers=layers if self.layers_every and step % self.layers_every == 0 else None,
        )

    def _on_host(self, gradients: TaskGradients) -> tuple[Floats, Floats, float]:
        """Losses (T,), layer Gramians (K, T, T) and the peak of the head gradients, in one copy from the device."""
        tasks = len(self._names)
        layers = self.gradients.layer_gramians(gradients).flatten()
        peak = self.gradients.head_peak(gradients).reshape(1)
        packed = torch.cat([gradients.losses.double(), peak, layers]).cpu().numpy()
        cube = packed[tasks + 1 :].reshape(-1, tasks, tasks)
        return packed[:tasks], (cube + cube.transpose(0, 2, 1)) / 2, float(packed[tasks])

    def _not_finite(
        self, step: int, losses: Floats, gramian: Floats, present: NDArray[np.bool_]
    ) -> NonFiniteError | None:
        for t, name in enumerate(self._names):
            if present[t] and not np.isfinite(losses[t]):
                return NonFiniteError(
                    f"task {name!r}: its loss is {losses[t]} at step {step}; training stopped before this update", name
                )
        for t, name in enumerate(self._names):
            if present[t] and not np.isfinite(gramian[t, t]):
                return NonFiniteError(
                    f"task {name!r}: its gradient is not finite at step {step} though its loss is {losses[t]:g}; "
                    "training stopped before this update",
                    name,
                )
        return None

    def _not_finite_head(self, step: int, gradients: TaskGradients) -> NonFiniteError:
        name = self._names[next(n for n, grad in gradients.heads.values() if not torch.isfinite(grad).all())]
        return NonFiniteError(
            f"task {name!r}: its head's gradient is not finite at step {step}; training stopped before this update",
            name,
        )

    def _end_by(self, error: NonFiniteError) -> Iterator[Record]:
        """Tells the log which task ended the run, then raises."""
        detail = {"message": str(error), "update": self.step + 1}
        yield Event(step=self.step, position=self.step, kind="nonfinite", task=error.task, detail=detail)
        raise error

    def _weights(self, step: int, losses: Floats, gramian: Floats, present: NDArray[np.bool_]) -> Floats:
        if isinstance(self.weighting, Weighting):
            weights = self.weighting(losses, gramian, present)
        else:
            weights = self.weighting(losses.copy(), gramian.copy())
        name = getattr(self.weighting, "name", getattr(self.weighting, "__name__", repr(self.weighting)))
        try:
            if isinstance(weights, torch.Tensor):
                weights = weights.detach().cpu().numpy()
            weights = np.asarray(weights)
            if weights.dtype.kind not in "biuf":
                raise TypeError(f"real numbers were needed, {weights.dtype} came")
            weights = weights.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise WeightingError(f"weighting {name} returned no numbers at step {step}: {error}") from error
        if weights.shape != losses.shape:
            raise WeightingError(
                f"weighting {name} must return one weight per task, shape {losses.shape}; "
                f"got {weights.shape} at step {step}"
            )
        weights[~present] = 0.0
        if not np.isfinite(weights).all():
            values = ", ".join(f"{task}: {value:g}" for task, value in zip(self._names, weights, strict=True))
            raise WeightingError(f"weighting {name} returned weights that are not finite at step {step} ({values})")
        return weights

    def _validations(self) -> Generator[Record, None, None]:
        if self.problem.validation is None:
            return
        metrics = {task.name: task.judge.label for task in self.problem.tasks}
        values = yield from self._metrics(self.problem.validation)
        for task, value in values.items():
            yield Validation(step=self.step, position=self.step, task=task, metric=metrics[task], value=value)

    def _metrics(self, split: Split) -> Generator[Record, None, dict[str, float]]:
        try:
            return evaluation(self.model, self.problem.tasks, split, self.device, step=self.step)
        except NonFiniteError as error:
            yield from self._end_by(error)
            raise
