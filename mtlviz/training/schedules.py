"""Which task learns when, and from what: all at once, one after the other, or from teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal

from mtlviz.convergence import Rule
from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, unknown
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.runlog.log import RunLog
from mtlviz.training.distillation import check_distillable

ORDERS = ("small", "large", "easy")


@dataclass(frozen=True, kw_only=True)
class Asynchronous:
    """What the schedules share in which each task converges on its own; `Joint` says what the settings mean."""

    kind: ClassVar[str]
    distils: ClassVar[bool] = True

    patience: int | Mapping[str, int] = 3
    validate_every: int | None = None
    min_delta: float | Mapping[str, float] = 0.0
    converged_share: float = 1.0
    rewarm: int = 0

    def __post_init__(self) -> None:
        share, every = self.converged_share, self.validate_every
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"converged_share must be above 0 and at most 1, got {share!r}")
        if isinstance(self.rewarm, bool) or not isinstance(self.rewarm, int) or self.rewarm < 0:
            raise ValueError(f"rewarm counts updates, a whole number from 0; got {self.rewarm!r}")
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"validate_every must be a whole number from 1, got {every!r}")
        Rule(directions={}, patience=_named(self.patience), min_delta=_named(self.min_delta))  # refuses bad numbers

    def rule(self, problem: Problem) -> Rule:
        """The rule of convergence for the problem's tasks.

        Raises: ValueError for a patience, a min_delta or an order that does not fit them; ProblemError where a task is
        not validated, or cannot learn from soft labels.
        """
        if self.distils:
            check_distillable(problem)
        order = self.task_order(problem)
        return Rule.of(
            problem.tasks, patience=self.patience, min_delta=self.min_delta, order=order, distils=self.distils
        )

    def task_order(self, problem: Problem) -> tuple[str, ...] | None:
        """The order in which tasks are added; None for all at once."""
        return None

    def config(self, rule: Rule) -> dict[str, Any]:
        """What the run log remembers, as JSON values."""
        own = {"converged_share": float(self.converged_share), "rewarm": self.rewarm}
        return {"kind": self.kind} | rule.config() | own


@dataclass(frozen=True, kw_only=True)
class Joint(Asynchronous):
    """All tasks learn from the start. One that converges goes on from the soft labels of its best checkpoint.

    On a convergence the whole run (model, optimizer, scheduler, weighting, batches) goes back to the task's best
    validation, the model's predictions for the task's training set become its targets, and training goes on from there;
    it ends when all tasks have converged. The last to converge is rewound too, so what the run ends with is its best.
    A task may be best before its first update, where patience is too short for its start: it then goes on from what the
    untrained model predicts.

    patience: validations in a row without improvement after which a task has converged, from 1; one number, or one for
        each task by name.
    validate_every: updates between validations; None takes the run's.
    min_delta: what a metric must gain, in its own unit, to count as an improvement; one number or one for each task.
    converged_share: the part of its samples that a converged task keeps in a batch, above 0 to 1. Where tasks have data
        of their own and share the batch, the others take the place.
    rewarm: updates after a rewind over which the learning rate rises linearly again to what it is; 0 for none.

    Raises: ValueError for numbers out of range.
    Source: Lu et al., NAACL 2022 industry track, section 3.1. Differs: that optimizer and batches go back too, ties,
    and what a rewind does to the other tasks' counters (`mtlviz.convergence.Convergence`) are not stated there.
    """

    kind: ClassVar[str] = "joint"


@dataclass(frozen=True, kw_only=True)
class Sequential(Asynchronous):
    """The first task learns alone; when it converges, the next is added, and it goes on from soft labels.

    order: "small" (fewest training samples first), "large", "easy" (as they converged in `joint`, then those that had
        not at its step cap, in the problem's order), or the names of all tasks. joint: the log of a joint run, for
        "easy". The other settings: as of `Joint`.

    Raises: ValueError for another order, or "easy" without a joint run that came to its end.
    Source: Lu et al., NAACL 2022 industry track, section 3.2 and Table 7.
    """

    kind: ClassVar[str] = "sequential"

    order: Literal["small", "large", "easy"] | Sequence[str] = "small"
    joint: RunLog | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.order, Sequence):
            raise ValueError(f"order must be one of {', '.join(ORDERS)} or a list of all tasks, got {self.order!r}")
        if isinstance(self.order, str) and self.order not in ORDERS:
            raise ValueError(f"{unknown('order', self.order, ORDERS)}, or a list of all tasks")
        if self.order == "easy" and not isinstance(self.joint, RunLog):
            raise ValueError(
                "order='easy' is the order in which the tasks converged in a joint run: give its log, joint=run.log"
            )

    def task_order(self, problem: Problem) -> tuple[str, ...]:
        """The order in which tasks are added."""
        names = [task.name for task in problem.tasks]
        if not isinstance(self.order, str):
            return tuple(self.order)
        if self.order == "easy":
            assert self.joint is not None
            return _converged_in(self.joint, names)
        counts = problem.train.samples()
        if missing := [name for name in names if name not in counts]:
            raise ValueError(f"order={self.order!r} needs the number of training samples; unknown for {missing}")
        return tuple(sorted(names, key=lambda name: counts[name], reverse=self.order == "large"))


@dataclass(frozen=True, kw_only=True)
class Continual(Sequential):
    """The tasks are added as in `Sequential`, rewinds included, but all learn from their true labels, always.

    Settings: as of `Sequential`.

    Source: Sun et al., AAAI 2020, arXiv 1907.12412, as the baseline of Lu et al., NAACL 2022, section 5.
    """

    kind: ClassVar[str] = "continual"
    distils: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class BornAgain:
    """Every task learns from the soft labels of a teacher of its own, from the start to the last planned update.

    teachers: {task: model} with the problem's trunk and heads, or the folder of a run, whose best checkpoint of each
        task then teaches it. annealing: from the teachers to the true labels, λ y + (1 − λ) ŷ with λ from 0 to 1.

    Source: Clark et al., ACL 2019, arXiv 1907.04829. Differs: its task sampling ∝ N^0.75 is the problem's `sampling`,
    and no annealing is the default, as in Lu et al., NAACL 2022, section 5 (BAM, M→M).
    """

    kind: ClassVar[str] = "born_again"

    teachers: Mapping[str, SharedTrunk] | str | PathLike[str]
    annealing: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.annealing, bool):
            raise ValueError(f"annealing must be True or False, got {self.annealing!r}")

    def config(self) -> dict[str, Any]:
        """What the run log remembers, as JSON values, beside a digest of each teacher's soft labels."""
        return {"kind": self.kind, "annealing": self.annealing}

    def models(self, problem: Problem) -> dict[str, SharedTrunk]:
        """The teacher of each task, the user's own objects.

        Raises: ProblemError where a task has none, or one without a head for it, or cannot learn from soft labels.
        """
        check_distillable(problem)
        names = [task.name for task in problem.tasks]
        if isinstance(self.teachers, (str, PathLike)):
            from mtlviz.training.checkpoints import best_model

            return {name: best_model(self.teachers, problem, name) for name in names}
        if not isinstance(self.teachers, Mapping) or sorted(self.teachers) != sorted(names):
            came = list(self.teachers) if isinstance(self.teachers, Mapping) else type(self.teachers).__name__
            raise ProblemError(f"teachers must be {{task: model}} for each of {names}, or a run's folder; got {came}")
        for name, model in self.teachers.items():
            if not isinstance(model, SharedTrunk):
                raise ProblemError(f"the teacher of {name!r} must be a SharedTrunk, got {type(model).__name__}")
            if name not in model.names:
                raise ProblemError(f"the teacher of {name!r} has no head for it; its heads are {list(model.names)}")
        return dict(self.teachers)


Schedule = Asynchronous | BornAgain


def checked_schedule(schedule: Any) -> Schedule | None:
    """The schedule. Raises: ValueError for anything else."""
    kinds = (Joint, Sequential, Continual, BornAgain)
    if schedule is None or isinstance(schedule, kinds):
        return schedule
    name = schedule.__name__ if isinstance(schedule, type) else repr(schedule)
    raise ValueError(f"schedule must be one of {', '.join(f'{kind.__name__}(...)' for kind in kinds)}, got {name}")


def _converged_in(joint: RunLog, names: Sequence[str]) -> tuple[str, ...]:
    """The names as their tasks converged in a run; those that did not before its step cap are the hardest."""
    if sorted(joint.names) != sorted(names):
        raise ValueError(f"order='easy' needs a joint run of the tasks {list(names)}; this one has {list(joint.names)}")
    events = joint.events
    order = [str(task) for task in events.loc[events["kind"] == "convergence", "task"]]
    left = [name for name in names if name not in order]
    if left and not (events["kind"] == "step_cap").any():
        raise ValueError(
            "order='easy' needs a joint run in which all tasks converged, or that ended at its step cap; in this one "
            f"{left} did not converge, and it did not end so"
        )
    return (*order, *left)


def _named(setting: Any) -> dict[str, Any]:
    """A setting of every task as one of tasks by name."""
    return dict(setting) if isinstance(setting, Mapping) else {"every task": setting}
