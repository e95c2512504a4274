"""Where a run stands in its schedule: who learns from what, who has converged, and what that makes of the problem."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from mtlviz.convergence import Convergence, Rule, Signal
from mtlviz.data.problem import Problem
from mtlviz.data.splits import TensorRows
from mtlviz.errors import ProblemError
from mtlviz.training.checkpoints import Checkpoints
from mtlviz.training.distillation import Annealed, soft_labels
from mtlviz.training.packing import digest
from mtlviz.training.parts import whole
from mtlviz.training.schedules import Asynchronous, BornAgain, Schedule, checked_schedule

STEPS, VALIDATE_EVERY = 2000, 100  # unless given
CAP = 100  # validations per task at which a run that does not converge ends, unless given
_NEVER = 1 << 62  # validations


class Course:
    """The schedule of one run at work.

    problem: what is learned at this moment, soft labels included. convergence: who has converged; in a run without a
    schedule it only watches for the best validations.

    Raises: ValueError and ProblemError for a schedule that does not fit the problem.
    """

    def __init__(
        self,
        problem: Problem,
        schedule: Schedule | None,
        *,
        steps: int | None,
        validate_every: int | None,
        device: torch.device,
    ) -> None:
        self.schedule = checked_schedule(schedule)
        self._given = self.problem = problem
        self.validate_every = self._every(validate_every)
        self.rewinds = isinstance(self.schedule, Asynchronous)
        if isinstance(self.schedule, Asynchronous):
            rule = self.schedule.rule(problem)
            if unwatched := _unwatched(problem):
                raise ProblemError(
                    f"{type(self.schedule).__name__} watches each task's validations, and {unwatched} have none: give "
                    "Problem(validation=...) with labels for them, or monitor={task: the split to watch}"
                )
            steps = CAP * self.validate_every * len(problem.tasks) if steps is None else steps
        else:  # the best validations are watched all the same, since their checkpoints are kept
            rule = Rule.of(problem.tasks, patience=_NEVER)
        self.convergence = Convergence(rule)
        self.steps = whole("steps", STEPS if steps is None else steps, least=1)
        self.soft: dict[str, int] = {}  # task -> the step at which its soft labels were made
        self.rewound_at = -1  # the position that the last rewind went back to
        if isinstance(self.schedule, BornAgain):
            labels = {
                name: soft_labels(copy.deepcopy(model).to(device), problem, name, device=device)  # theirs stays put
                for name, model in self.schedule.models(problem).items()
            }
            self.problem = problem.distilled(labels)
            self._taught = {name: digest(soft) for name, soft in labels.items()}

    def _every(self, given: int | None) -> int:
        own = self.schedule.validate_every if isinstance(self.schedule, Asynchronous) else None
        if own is not None and given not in (None, own):
            raise ValueError(f"validate_every is {given} for the run and {own} in its schedule; give it once")
        return whole("validate_every", next((n for n in (own, given) if n is not None), VALIDATE_EVERY), least=1)

    @property
    def done(self) -> bool:
        """Whether every task has converged."""
        return self.rewinds and self.convergence.done

    @property
    def phases(self) -> tuple[str, ...]:
        """(T,) what each task learns from now."""
        if isinstance(self.schedule, BornAgain):
            return ("distilled",) * len(self._given.tasks)
        phases = self.convergence.phases
        return tuple(phases[task.name] for task in self._given.tasks)

    @property
    def shares(self) -> dict[str, float]:
        """The part of its samples that each task has in a batch."""
        phases = self.convergence.phases
        lowered = self.schedule.converged_share if isinstance(self.schedule, Asynchronous) else 1.0
        converged = dict.fromkeys(self.convergence.converged, lowered)
        return {task: 0.0 if phase == "waiting" else converged.get(task, 1.0) for task, phase in phases.items()}

    def warmth(self, position: int) -> float:
        """What the learning rate is multiplied by in the update to `position`."""
        updates = self.schedule.rewarm if isinstance(self.schedule, Asynchronous) else 0
        if self.rewound_at < 0 or updates == 0:
            return 1.0
        return min(1.0, (position - self.rewound_at) / (updates + 1))

    def annealed(self, *, batch_size: int, seed: int) -> Annealed | None:
        """What mixes the true labels in, where the schedule wants it."""
        if not (isinstance(self.schedule, BornAgain) and self.schedule.annealing):
            return None
        return Annealed(self._given, batch_size=batch_size, seed=seed, steps=self.steps)

    def config(self) -> dict[str, Any]:
        """What the run log remembers of the schedule; nothing without one."""
        if isinstance(self.schedule, Asynchronous):
            own = self.schedule.config(self.convergence.rule)
        elif isinstance(self.schedule, BornAgain):
            own = self.schedule.config() | {"teachers": self._taught}  # by what they say, wherever they lie
        else:
            return {}
        return {"schedule": own | {"validate_every": self.validate_every}}

    def end(self, step: int, position: int) -> list[Signal]:
        """What the schedule says when the run has done all the steps that it may."""
        return self.convergence.end(step, position) if self.rewinds else []

    def distil(self, task: str, labels: torch.Tensor, step: int) -> None:
        """The task learns from these soft labels from now on."""
        self.problem = self.problem.distilled({task: labels})
        self.soft[task] = step

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values; the soft labels themselves lie in the checkpoints."""
        own = {"phases": list(self.phases), "soft": dict(self.soft), "rewound_at": self.rewound_at}
        return own | {"convergence": self.convergence.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], checkpoints: Checkpoints | None) -> None:
        """Goes on from a `state_dict`, with soft labels from the checkpoints."""
        self.convergence.load_state_dict(state["convergence"])
        self.rewound_at = int(state["rewound_at"])
        for task, step in state["soft"].items():
            assert checkpoints is not None, "soft labels lie in the checkpoints"
            self.distil(task, checkpoints.load_soft(task, step), step)


def _unwatched(problem: Problem) -> list[str]:
    """The tasks that no validation will tell of, where that can be told without reading a whole data set."""
    splits = {split.name: split for split in (problem.train, problem.validation, problem.test) if split is not None}
    unwatched = []
    for task in problem.tasks:
        split = splits.get(problem.monitor.get(task.name, "validation"))
        own = None if split is None else split.of_task(task.name)
        source = None if own is None else own.shared if own.shared is not None else own.by_task[task.name]
        if own is None or (isinstance(source, TensorRows) and not own.samples().get(task.name)):
            unwatched.append(task.name)
    return unwatched
