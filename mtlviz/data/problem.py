"""A problem: tasks, the trunk they share, and their data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtlviz.data.proportional import Proportional
from mtlviz.data.soft_targets import softened
from mtlviz.data.splits import Split, TensorRows, paired, split_of
from mtlviz.errors import ProblemError, unknown
from mtlviz.models.shared_trunk import SharedTrunk, linear_heads
from mtlviz.randomness import seeded
from mtlviz.runlog.info import RunInfo, TaskInfo
from mtlviz.task import Task


class Problem:
    """Everything a multi-task run starts from; training works on a copy, so a problem can be trained many times.

    tasks: one or more, with names of their own.
    trunk: a module inputs (B, ...) -> shared representation z (B, d).
    train, validation, test: tensors, Datasets or DataLoaders, shared by all tasks or per task:
        `(inputs, {task: targets})`, a Dataset or DataLoader of such pairs, or
        `{task: (inputs, targets) | Dataset | DataLoader}`, inputs (N, ...) and targets (N, ...). A target of NaN
        (float) or -100 (integer) says that a row has no label for the task. validation and test may be left out.
    heads: {task: module on z}; a task that is left out gets an `nn.Linear` of its `outputs`.
    name: what the log calls the problem. seed: of the heads that are made.
    monitor: {task: split}, the split on which a task's validations are measured where that is not "validation", as for
        a task that has no data in it. On "test" the best of a run is chosen on what it is judged by, and on "train"
        overfitting goes unseen: both are optimistic.
    sampling: for data per task, how large a share of a batch each task gets; None: `batch_size` rows for each task.

    Raises: ProblemError for no task, two tasks of one name, a task without training data, a monitoring split that is
    not there or does not label the task, or parts that do not fit.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        trunk: nn.Module,
        train: Any,
        validation: Any = None,
        test: Any = None,
        heads: Mapping[str, nn.Module] | None = None,
        name: str = "problem",
        seed: int = 0,
        monitor: Mapping[str, str] | None = None,
        sampling: Proportional | None = None,
    ) -> None:
        self.tasks = _checked(tasks)
        self.name = name
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ProblemError(f"seed must be a whole number from 0, got {seed!r}")
        names = tuple(task.name for task in self.tasks)
        if not isinstance(trunk, nn.Module):
            raise ProblemError(f"trunk must be an nn.Module, got {type(trunk).__name__}")
        self.train = split_of("train", train, names)
        self.validation = None if validation is None else split_of("validation", validation, names)
        self.test = None if test is None else split_of("test", test, names)
        _need_labels(self.train, names)
        self._true = self.train  # what `distilled` makes soft labels of, again and again
        self.monitor = self._monitored(monitor)
        self.sampling = _fitting(sampling, self.train)
        self.model = SharedTrunk(trunk, _heads(self.tasks, trunk, self.train, heads, seed))

    def run_info(self, config: Mapping[str, Any] | None = None) -> RunInfo:
        """What a run log remembers of this problem."""
        counts = {s.name: s.samples() for s in (self.train, self.validation, self.test) if s is not None}
        return RunInfo(
            problem=self.name,
            tasks=tuple(
                TaskInfo(
                    name=task.name,
                    metric=task.judge.label,
                    direction=task.judge.direction,
                    loss=task.loss_name,
                    outputs=task.outputs,
                    samples={split: known[task.name] for split, known in counts.items() if task.name in known},
                )
                for task in self.tasks
            ),
            layers=tuple(self.model.layers()),
            config=self._settings() | dict(config or {}),
        )

    def scaled(self, scale: Mapping[str, float]) -> Problem:
        """The same problem with the losses of some tasks multiplied: {task: factor above 0}; shares model and data.

        Raises: ProblemError for a task that is not there, or a factor that is not a finite number above 0.
        """
        if not isinstance(scale, Mapping):
            raise ProblemError(f"scale must be {{task: factor}}, got {scale!r}")
        names = [task.name for task in self.tasks]
        if strangers := [name for name in scale if name not in names]:
            raise ProblemError(f"scale for unknown tasks {strangers}; the tasks are {names}")
        factors = [replace(task, scale=scale.get(task.name, 1.0)).scale for task in self.tasks]  # checked by Task
        scaled = copy.copy(self)
        scaled.tasks = tuple(replace(t, scale=t.scale * c) for t, c in zip(self.tasks, factors, strict=True))
        return scaled

    def alone(self, task: str) -> Problem:
        """One task of the problem by itself: the same trunk, head, data and, where data are shared, the same batches.

        Raises: ProblemError for a task that is not there.
        """
        names = [known.name for known in self.tasks]
        if task not in names:
            raise ProblemError(f"there is no task {task!r}; the tasks are {names}")
        alone = copy.copy(self)
        alone.name = f"{self.name}: {task} alone"
        alone.tasks = (self.tasks[names.index(task)],)
        train = self.train.of_task(task)
        assert train is not None, "every task has data to train on"
        alone.train = train
        true = self._true.of_task(task)
        assert true is not None, "every task has data to train on"
        alone._true = true
        alone.monitor = {name: split for name, split in self.monitor.items() if name == task}
        alone.validation = None if self.validation is None else self.validation.of_task(task)
        alone.test = None if self.test is None else self.test.of_task(task)
        alone.model = SharedTrunk(self.model.trunk, {task: self.model.head(task)})
        return alone

    def distilled(self, labels: Mapping[str, torch.Tensor]) -> Problem:
        """The same problem in which some tasks learn soft labels, by the same loss; shares model and data.

        labels: {task: (N, ...) floats}. Row i belongs to row i of the task's training data; NaN says that it has no
            label, and neither has a row without a true one. Other tasks, validation and test stay as they are. Where a
            task is given labels again, the new ones replace the old.

        Raises: ProblemError for an unknown task, data in a DataLoader, labels that do not fit, and a loss of which
        nobody knows the soft labels.
        """
        if not isinstance(labels, Mapping):
            raise ProblemError(f"soft labels must be {{task: labels}}, got {type(labels).__name__}")
        names = [task.name for task in self.tasks]
        if strangers := [name for name in labels if name not in names]:
            raise ProblemError(f"soft labels for unknown tasks {strangers}; the tasks are {names}")
        distilled = copy.copy(self)
        distilled.tasks = tuple(task.with_soft_loss() if task.name in labels else task for task in self.tasks)
        soft = [(task, _tensor(task.name, labels[task.name])) for task in distilled.tasks if task.name in labels]
        distilled.train = softened(self.train, self._true, soft)
        return distilled

    def _settings(self) -> dict[str, Any]:
        """What of the problem decides a run's numbers beside its parts, for the log's configuration."""
        scales = {task.name: task.scale for task in self.tasks if task.scale != 1}
        settings = {"scale": scales, "monitored_on": dict(self.monitor)}
        told: dict[str, Any] = {name: value for name, value in settings.items() if value}
        return told | ({} if self.sampling is None else {"sampling": self.sampling.config()})

    def _monitored(self, monitor: Mapping[str, str] | None) -> dict[str, str]:
        """The tasks that are not validated on "validation", and where they are."""
        if monitor is not None and not isinstance(monitor, Mapping):
            raise ProblemError(f"monitor must be {{task: split}}, got {monitor!r}")
        names = [task.name for task in self.tasks]
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        for task, split in (monitor or {}).items():
            if task not in names:
                raise ProblemError(f"monitor: {unknown('task', task, names)}")
            if split not in splits:
                raise ProblemError(f"monitor of {task!r}: {unknown('split', split, splits)}")
            found = splits[split]
            if found is None:
                raise ProblemError(f"{task!r} is to be monitored on {split!r}, but the problem has no {split} data")
            if _labels(found, task) is False:
                raise ProblemError(f"{task!r} is to be monitored on {split!r}, which has no labelled sample for it")
        return {task: split for task, split in (monitor or {}).items() if split != "validation"}

    def __repr__(self) -> str:
        return f"Problem({self.name!r}, tasks={[task.name for task in self.tasks]})"


def _tensor(task: str, labels: Any) -> torch.Tensor:
    """Soft labels as a tensor without a graph. Raises: ProblemError for what is no array of numbers."""
    try:
        return torch.as_tensor(labels).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProblemError(
            f"task {task!r}: its soft labels must be a tensor or an array (N, ...), got {type(labels).__name__}; a "
            "model's are its predictions for the training samples"
        ) from error


def _checked(tasks: Sequence[Task]) -> tuple[Task, ...]:
    if isinstance(tasks, Task) or not isinstance(tasks, Iterable):
        raise ProblemError(f"tasks must be a list of mtlviz.Task objects, got {type(tasks).__name__}")
    tasks = tuple(tasks)
    if not tasks:
        raise ProblemError("a problem needs at least one task; got tasks=[]")
    for task in tasks:
        if not isinstance(task, Task):
            raise ProblemError(f"tasks must be mtlviz.Task objects, got {type(task).__name__}: {task!r}")
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ProblemError(f"tasks need names of their own; {', '.join(map(repr, twice))} stands more than once")
    return tasks


def _need_labels(train: Split, names: tuple[str, ...]) -> None:
    if without := [name for name in names if _labels(train, name) is False]:
        raise ProblemError(
            f"train has no labelled sample for {', '.join(map(repr, without))}; drop the task or add data"
        )


def _labels(split: Split, task: str) -> bool | None:
    """Whether a split labels a task; None where that is known only when it is read: shared Datasets and DataLoaders."""
    counts = split.samples()
    if split.shared is None:
        return task in split.by_task and counts.get(task) != 0
    return bool(counts.get(task)) if isinstance(split.shared, TensorRows) else None


def _fitting(sampling: Proportional | None, train: Split) -> Proportional | None:
    if sampling is not None and not isinstance(sampling, Proportional):
        raise ProblemError(f"sampling must be an mtlviz.data.Proportional or None, got {sampling!r}")
    if sampling is not None:
        sampling.of_split(train)
    return sampling


def _heads(
    tasks: tuple[Task, ...], trunk: nn.Module, train: Split, given: Mapping[str, nn.Module] | None, seed: int
) -> dict[str, nn.Module]:
    if given is not None and not isinstance(given, Mapping):
        raise ProblemError(f"heads must be {{task: module}}, got {type(given).__name__}")
    given = dict(given or {})
    names = [task.name for task in tasks]
    if strangers := [name for name in given if name not in names]:
        raise ProblemError(f"heads for unknown tasks {strangers}; the tasks are {names}")
    for name, head in given.items():
        if not isinstance(head, nn.Module):
            raise ProblemError(f"the head of {name!r} must be an nn.Module, got {type(head).__name__}")
    if len(given) < len(tasks):
        given = linear_heads(trunk, tasks, _first_inputs(train), seed=seed) | given
    return {name: given[name] for name in names}


def _first_inputs(train: Split) -> torch.Tensor:
    source = train.shared if train.shared is not None else next(iter(train.by_task.values()))
    if isinstance(source, DataLoader):
        with seeded(0):  # a shuffling loader must not move the user's random numbers
            for item in source:
                inputs, _ = paired(item, "train: a DataLoader")
                return inputs[:1]
            raise ProblemError(
                "train: a DataLoader gave no batch; is it empty, or smaller than one batch with drop_last?"
            )
    return next(train.chunks(1)).inputs
