"""Training is a generator of records: updates, validations, and what a schedule makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import torch

from mtlviz.convergence import Signal
from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.errors import NonFiniteError, ProblemError
from mtlviz.gradients.aggregator import Aggregator
from mtlviz.gradients.ranks import ranks_of
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.randomness import derived_seed
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.records import Event, Measure, Record, Step, Validation
from mtlviz.training.checkpoints import Checkpoints, InMemory
from mtlviz.training.course import Course
from mtlviz.training.distillation import soft_labels
from mtlviz.training.evaluation import evaluation, validation
from mtlviz.training.parts import (
    MakeOptimizer,
    MakeScheduler,
    WeightingLike,
    check_fit,
    load,
    method_of,
    optimizer_of,
    run_config,
    scheduler_of,
    trainable_copy,
    usable_device,
    whole,
)
from mtlviz.training.schedules import Schedule
from mtlviz.training.together import begin_alike, check_alike, check_shareable
from mtlviz.training.update import Updater

Value = TypeVar("Value")


def train(
    problem: Problem,
    *,
    weighting: WeightingLike = "equal",
    steps: int | None = None,
    schedule: Schedule | None = None,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    seed: int = 0,
    validate_every: int | None = None,
    layers_every: int = 10,
    affinity_every: int = 0,
    group: Any = None,
) -> Training:
    """Trains a copy of the problem's model and yields a record of everything that happens; `break` stops it.

    weighting: a name of `mtlviz.weighting.METHODS`, a `Weighting` or `Aggregator` (a copy of it is used, from its
        initial state), a weighting, aggregator or scalarizer of TorchJD as it is (a copy too), or a function of your
        own, numpy float64 (losses (T,), Gramian (T, T)) -> weights (T,), which sees NaN where a task is absent.
    steps: updates to do, 2000 unless given. With a schedule in which tasks converge, at most so many, 100 validations a
        task unless given; an event "step_cap" says that it ended the run.
    schedule: which task learns when and from what, of `mtlviz.training`: `Joint`, `Sequential`, `Continual`,
        `BornAgain`; None for all tasks from their true labels to the end. Tasks that learn from soft labels are held at
        the mean of the weights of the others, which the weighting balances among themselves. Where all learn from them
        it balances them all. So do, always, GradDrop, AdaTask, objects of TorchJD that keep a state, and an aggregator
        of your own unless its `leaves_out` is True.
    batch_size: samples a batch (a task, where each task has data of its own, unless the problem has a `sampling`).
    optimizer: parameters -> Optimizer; Adam with lr 1e-3 unless given. scheduler: optimizer -> LRScheduler, stepped
        after every update. Those that need a closure or a metric (LBFGS, ReduceLROnPlateau) are refused.
    seed: of batches and dropout; the initial parameters are the problem's own.
    validate_every: updates between validations, 100 unless given; also before the first update and after the last.
    layers_every: updates between recorded Gramians of the single layers; 0 for none.
    affinity_every: updates between measures "affinity": by which part of itself each task's loss falls after a step
        along the gradient of each task alone (see `mtlviz.training.affinity.Lookahead`), at the cost of a further pass
        forward a task; 0 for none.
    group: the processes (torchrun) that train together, a group of torch.distributed; None for all of them, where it
        is initialised; False for this process alone. Each must make the same call and consume all records, which are
        the same everywhere but for `time`: append them to a log on rank 0. Each computes every R-th row of the same
        batches, and gradients, losses and Gramians are those of the whole batch, so that the run is that of a single
        process to float tolerance; dropout differs by rank. Parameters begin as those of rank 0, which validates alone.
        Refused: data in a DataLoader, BatchNorm that trains, losses that are no means over samples.

    What is recorded never changes what is computed. Raises: ProblemError, WeightingError or ValueError for what does
    not fit; while training, NonFiniteError for a loss or gradient that is not finite, WeightingError, ProblemError.
    """
    return Training(
        problem,
        weighting=weighting,
        steps=steps,
        schedule=schedule,
        optimizer=optimizer,
        scheduler=scheduler,
        batch_size=batch_size,
        device=device,
        seed=seed,
        validate_every=validate_every,
        layers_every=layers_every,
        affinity_every=affinity_every,
        group=group,
    )


class Training(Iterator[Record]):
    """The generator that `train` returns; `model` is the copy that is being trained.

    step: updates done. position: updates on the surviving trajectory, which a rewind sets back. halting: set it to end
    a run on several ranks before its next update, on all of them.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        weighting: WeightingLike,
        steps: int | None,
        optimizer: MakeOptimizer | None,
        scheduler: MakeScheduler | None,
        batch_size: int,
        device: str | torch.device,
        seed: int,
        validate_every: int | None,
        layers_every: int,
        affinity_every: int = 0,
        schedule: Schedule | None = None,
        checkpoints: Checkpoints | None = None,
        group: Any = None,
    ) -> None:
        if not isinstance(problem, Problem):
            raise ProblemError(f"train needs an mtlviz.Problem, got {type(problem).__name__}: {problem!r}")
        self.problem, self.seed, self.device = problem, whole("seed", seed, least=0), usable_device(device)
        self.course = Course(problem, schedule, steps=steps, validate_every=validate_every, device=self.device)
        self.steps, self.validate_every = self.course.steps, self.course.validate_every
        sampler = self._sampler(problem, batch_size)
        self._method_seed = derived_seed(self.seed, 3)
        self.weighting = method_of(weighting, problem, seed=self._method_seed, epoch=lambda: sampler.epoch)
        self.model: SharedTrunk = trainable_copy(problem.model).to(self.device)
        check_fit(problem, self.model, self._sampler(problem, batch_size), self.device)
        self.ranks, self.halting = ranks_of(group), False
        if self.ranks is not None:
            check_shareable(problem, self.model, sampler, self.device)
        load(problem, self.weighting)
        learned = self.weighting.parameters() if isinstance(self.weighting, Aggregator) else ()
        self.optimizer = optimizer_of(optimizer, self.model, learned)
        self.scheduler = scheduler_of(scheduler, self.optimizer)
        self.updater = Updater(
            problem,
            model=self.model,
            weighting=self.weighting,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            sampler=sampler,
            device=self.device,
            seed=self.seed,
            layers_every=whole("layers_every", layers_every, least=0),
            affinity_every=whole("affinity_every", affinity_every, least=0),
            ranks=self.ranks,
        )
        self.checkpoints = checkpoints if checkpoints is not None or not self.course.rewinds else InMemory()
        self.step = self.position = 0
        self._finished, self._resumed, self._began = False, False, 0.0
        self._records = self._run()

    @property
    def sampler(self) -> BatchSampler:
        """What the batches come from."""
        return self.updater.sampler

    def __next__(self) -> Record:
        return next(self._records)

    def close(self) -> None:
        """Ends the generator where it is."""
        self._records.close()

    def run_info(self, config: Mapping[str, Any] | None = None) -> RunInfo:
        """What a run log remembers of this training."""
        own = run_config(self.weighting, self.optimizer, self.scheduler) | {
            "weighting_seed": self._method_seed,
            "steps": self.steps,
            "batch_size": self.sampler.batch_size,
            "device": str(self.device),
            "seed": self.seed,
            "validate_every": self.validate_every,
            "layers_every": self.updater.layers_every,
            "affinity_every": self.updater.affinity_every,
        }
        return self.problem.run_info(own | self.course.config() | dict(config or {}))

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, not copied; whole only right after a round of validations."""
        return {
            "step": self.step,
            "position": self.position,
            "time": self._clock(),
            **self.updater.state_dict(),
            "finished": self._finished,
            **self.course.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict` of the same training, with the soft labels in its `checkpoints`."""
        self.course.load_state_dict(state, self.checkpoints)
        self._learn()
        self._restore(state)
        self.step, self._finished, self._resumed = int(state["step"]), bool(state["finished"]), True
        self._began = time.monotonic() - float(state["time"])

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Brings back what a rewind brings back."""
        self.position = int(state["position"])
        self.updater.load_state_dict(state)

    def _sampler(self, problem: Problem, batch_size: int) -> BatchSampler:
        return BatchSampler(problem.train, batch_size=batch_size, seed=self.seed, sampling=problem.sampling)

    def _learn(self) -> None:
        """Takes up the targets, losses and parts of a batch that the course has come to."""
        course, sampler = self.course, self.sampler
        if sampler.split is not course.problem.train:  # a DataLoader would begin anew in another sampler
            sampler = self._sampler(course.problem, sampler.batch_size)
            sampler.load_state_dict(self.sampler.state_dict())
        annealed = course.annealed(batch_size=sampler.batch_size, seed=self.seed)
        self.updater.learn(course.problem, sampler, shares=course.shares, annealed=annealed)

    def _run(self) -> Generator[Record, None, None]:
        try:
            yield from self._begin()
            while not (self._finished or self.course.done or self.step >= self.steps):
                if self._halted():
                    return
                yield from self._update()
                if self.position % self.validate_every == 0 or self.step == self.steps:
                    yield from self._round()
            if not self._finished:
                yield from self._end()
        except NonFiniteError as error:  # the log tells which task ended the run, then the run ends
            detail = {"message": str(error), "update": self.step + 1}
            yield Event(step=self.step, position=self.position, kind="nonfinite", task=error.task, detail=detail)
            raise

    def _halted(self) -> bool:
        """Whether some rank wants to end the run; here all of them see that they are in step."""
        return self.ranks is not None and self.ranks.some(f"update {self.step + 1}", [self.halting])[0]

    def _once(self, where: str, make: Callable[[], Value]) -> Value:
        """What is made by rank 0 alone and told to the others, so that all decide alike."""
        return make() if self.ranks is None else self.ranks.told(f"{where} of step {self.step}", make)

    def _begin(self) -> Iterator[Record]:
        if self.ranks is not None:
            settings = {key: value for key, value in self.run_info().config.items() if key != "device"}
            check_alike(self.ranks, settings, self.model, self.sampler)
            begin_alike(self.ranks, self.model)
        if self._resumed:
            return
        self._began = time.monotonic()
        added = self.course.convergence.begin()
        self._learn()
        self.sampler.set_shares(1, self.course.shares)
        yield Event(step=0, position=0, kind="start")
        for signal in added:
            yield Event(*signal)
        yield from self._round()

    def _update(self) -> Iterator[Record]:
        """One update; `self.step` and `self.position` count it once it is done."""
        step, position = self.step + 1, self.position + 1
        warmth = self.course.warmth(position)
        for record in self.updater.update(step, position, self.course.phases, clock=self._clock, warmth=warmth):
            if isinstance(record, Step):
                self.step, self.position = step, position
            yield record

    def _round(self) -> Iterator[Record]:
        """The validations of this moment, what the schedule makes of them, and a checkpoint."""
        metrics = {task.name: task.judge.label for task in self.problem.tasks}
        validated = partial(validation, self.model, self.problem, self.device, step=self.step)
        values = self._once("the validations", validated)
        at = {"step": self.step, "position": self.position}
        for task, value in values.items():
            yield Validation(**at, task=task, metric=metrics[task], value=value)
        shares = self.course.shares
        signals = self.course.convergence.validation(self.step, self.position, values)
        for signal in signals:
            self._follow(signal)
            yield Event(*signal)
        if signals and not self.course.done:  # nothing more is drawn then, and a batch might be left without a row
            self._learn()
            if self.course.shares != shares:
                self.sampler.set_shares(self.position + 1, self.course.shares)
        if self.step < self.steps and not self.course.done:
            self._save()

    def _follow(self, signal: Signal) -> None:
        """Does what the schedule says."""
        if signal.kind == "rewind":
            assert self.checkpoints is not None, "a run that rewinds keeps checkpoints"
            self._restore(self.checkpoints.load(signal.detail["step"]))
            self.course.rewound_at = self.position
        elif signal.kind == "distillation":
            assert self.checkpoints is not None
            assert signal.task is not None
            made = partial(soft_labels, self.model, self.problem, signal.task, device=self.device)
            labels = self._once("the soft labels", made)
            self.checkpoints.save_soft(signal.task, self.step, labels)
            self.course.distil(signal.task, labels, self.step)

    def _end(self) -> Iterator[Record]:
        for signal in self.course.end(self.step, self.position):
            yield Event(*signal)
        if self.problem.test is not None:
            tested = partial(evaluation, self.model, self.problem.tasks, self.problem.test, self.device, step=self.step)
            values = self._once("the test", tested)
            yield from (Measure(step=self.step, name="test", task=task, value=v) for task, v in values.items())
        yield Event(step=self.step, position=self.position, kind="finish")
        self._finished = True
        self._save()

    def _save(self) -> None:
        """Keeps this moment, and what a later convergence may go back to; all records so far were consumed."""
        if self.checkpoints is not None:
            self.checkpoints.save(self.step, self.state_dict())
            self.checkpoints.prune(self.course.convergence.needed() | {self.step})

    def _clock(self) -> float:
        return time.monotonic() - self._began
