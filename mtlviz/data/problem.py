"""A problem: tasks, the trunk they share, and their data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mtlviz.data.heads import first_inputs, heads_of
from mtlviz.data.label_noise import checked_shares, noisy
from mtlviz.data.proportional import Proportional, fitting
from mtlviz.data.soft_targets import softened
from mtlviz.data.splits import Split, TensorRows, split_of
from mtlviz.errors import ProblemError, unknown
from mtlviz.models.aligned_trunk import AlignedTrunk, aligned
from mtlviz.models.shared_trunk import SharedTrunk
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
        self._noise: dict[str, dict[str, float]] = {}
        self.monitor = self._monitored(monitor)
        self.sampling = fitting(sampling, self.train)
        self.model = SharedTrunk(trunk, heads_of(self.tasks, trunk, self.train, heads, seed))

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
        """One task of the problem by itself; see `of_tasks`."""
        return self.of_tasks([task])

    def of_tasks(self, names: Iterable[str]) -> Problem:
        """Some tasks of the problem by themselves, in its own order: the same trunk, heads, data and batches.

        A task sees the same rows in the same updates whichever others train beside it: shared data are drawn as for
        all tasks, and data of its own keep the stream that they have there. Two things differ: with `sampling` a batch
        keeps its size, so that the fewer tasks there are the more rows each gets; and a DataLoader shuffles by torch's
        random numbers, which are others beside other DataLoaders.

        Raises: ProblemError for no task, one that is not there, or one that stands twice.
        """
        known = [task.name for task in self.tasks]
        wanted = [] if isinstance(names, str) else list(names)
        if not wanted or len(set(wanted)) < len(wanted):
            raise ProblemError(f"a problem of some tasks needs a list of different names of {known}; got {names!r}")
        if strangers := [name for name in wanted if name not in known]:
            raise ProblemError(f"there is no task {strangers[0]!r}; the tasks are {known}")
        part = copy.copy(self)
        part.tasks = tuple(task for task in self.tasks if task.name in wanted)
        told = [task.name for task in part.tasks]
        part.name = f"{self.name}: {' + '.join(told)}{' alone' if len(told) == 1 else ''}"
        train, true = self.train.of_tasks(told), self._true.of_tasks(told)
        assert train is not None, "every task has data to train on"
        assert true is not None, "every task has data to train on"
        part.train, part._true = train, true
        part.monitor = {name: split for name, split in self.monitor.items() if name in told}
        part.validation = None if self.validation is None else self.validation.of_tasks(told)
        part.test = None if self.test is None else self.test.of_tasks(told)
        part.model = self.model.with_heads({name: self.model.head(name) for name in told})
        return part

    def aligned(self, *, tasks: Sequence[str] | None = None, after: str | int | None = None) -> Problem:
        """The same problem in which tasks have an alignment R_i of their own below the trunk; shares model and data.

        At first it computes what it computed before: every R_i begins as the identity. See `mtlviz.models.aligned`.

        tasks: which are aligned; None for all. after: the module of the trunk that makes the embedding which is
            turned, by its name in `named_modules`; None for the flattened input.

        Raises: ProblemError for an unknown task or module, and for features that no matrix can turn.
        """
        names = [task.name for task in self.tasks]
        chosen = names if tasks is None else [tasks] if isinstance(tasks, str) else list(tasks)
        place = None if after is None else str(after)
        problem = copy.copy(self)
        problem.model = aligned(self.model, first_inputs(self.train), tasks=chosen, after=place)
        return problem

    def starting_from(self, model: SharedTrunk) -> Problem:
        """The same problem that begins where a trained model stands; shares the data.

        model: as of `mtlviz.training.best_model`. A copy of its trunk is taken, with its alignments, and the heads of
            the tasks that it knows; the others keep their own.

        Raises: ProblemError for what is no such model, and where an alignment would be lost.
        """
        if not isinstance(model, SharedTrunk):
            raise ProblemError(f"starting_from needs the model of a run, a SharedTrunk; got {type(model).__name__}")
        if not self.model.one_representation and model.one_representation:
            raise ProblemError("this problem is aligned and that model is not: start from the model first, then align")
        trained = copy.deepcopy(model).cpu()
        names = [task.name for task in self.tasks]
        problem = copy.copy(self)
        problem.model = trained.with_heads(
            {name: trained.head(name) if name in trained.names else self.model.head(name) for name in names}
        )
        return problem

    def duplicated(self, times: Mapping[str, float]) -> Problem:
        """The same problem in which rows of some tasks count more often when a batch is shared out; shares all data.

        times: {task: number above 0}; 3 as though each of its rows stood in the data three times, below 1 as though
            some were left out. `sampling` says how the batch is shared out; see `Proportional`. A task's loss is the
            mean over its rows, so more of them are no more weight in a batch: the task is in more batches, and with
            a gradient that varies less.

        Raises: ProblemError for an unknown task or such a number, and where duplication would change nothing or is a
        weight on the loss: for a problem without `sampling`, and for data that tasks share.
        """
        if self.train.shared is not None:
            raise ProblemError(
                "all tasks share their rows, so more copies of them for one task are a weight on its loss: use "
                "problem.scaled({task: factor}), or train with weighting=mv.weighting.Fixed({task: weight, ...})"
            )
        if self.sampling is None:
            raise ProblemError(
                "every task gets batch_size rows of a batch, however often they stand in its data; give the problem "
                "sampling=mv.data.Proportional(), by which a task's share of a batch grows with its rows"
            )
        problem = copy.copy(self)
        problem.sampling = fitting(self.sampling.duplicated(times), self.train)
        return problem

    def with_label_noise(self, shares: Mapping[str, float], *, seed: int = 0) -> Problem:
        """The same problem with a share of some tasks' training labels made random; validation and test stay true.

        shares: {task: from 0 to 1} of the labelled rows, of all rows of a Dataset. The labels of that many rows, drawn
            at random, change places among them, so that each label stays as frequent as it was.
        seed: of the draw, which is each task's own.

        Raises: ProblemError for an unknown task, a share that is not from 0 to 1 or is less than two rows, data in a
        DataLoader, soft labels, and a task that has such noise already.
        Source: the label-noise experiment of Wu, Zhang, Ré, ICLR 2020, arXiv 2005.00944 (20% of one task's labels).
        """
        shares = checked_shares(shares, [task.name for task in self.tasks])
        if self.train is not self._true:
            raise ProblemError("the tasks learn soft labels: make the true ones noisy first, then distil")
        if twice := [task for task in shares if task in self._noise]:
            raise ProblemError(f"the labels of {twice[0]!r} are noisy already: begin with the problem that is not")
        problem = copy.copy(self)
        problem.train = problem._true = noisy(self.train, shares, seed=seed)
        problem._noise = self._noise | {task: {"share": share, "seed": seed} for task, share in shares.items()}
        return problem

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
        soft = [(task, labels[task.name]) for task in distilled.tasks if task.name in labels]
        distilled.train = softened(self.train, self._true, soft)
        return distilled

    def _settings(self) -> dict[str, Any]:
        """What of the problem decides a run's numbers beside its parts, for the log's configuration."""
        scales = {task.name: task.scale for task in self.tasks if task.scale != 1}
        noise = {task.name: self._noise[task.name] for task in self.tasks if task.name in self._noise}
        settings = {"scale": scales, "monitored_on": dict(self.monitor), "label_noise": noise}
        if isinstance(self.model, AlignedTrunk):
            settings["aligned"] = {"tasks": list(self.model.aligned), "after": self.model.after}
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
