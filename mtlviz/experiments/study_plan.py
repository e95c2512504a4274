"""What a study of asynchronous convergence trains: its methods, and every run of them with a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, unknown
from mtlviz.experiments.fingerprint import Fingerprint
from mtlviz.experiments.plan import Options, common_settings, folder_name, identity
from mtlviz.experiments.recipe import Recipe
from mtlviz.runlog import RunLog
from mtlviz.training.loop import Training, train
from mtlviz.training.parts import WeightingLike
from mtlviz.training.schedules import Asynchronous, BornAgain, Continual, Joint, Schedule, Sequential
from mtlviz.weighting import DWA, GradNorm, Method, Muppet

UNIFORM, BEST, JOINT = "uniform (final)", "uniform (best)", "joint"
BAM, BAM_ANNEALED, EASY, GRADNORM, STL = "bam", "bam (annealed)", "sequential (easy)", "gradnorm", "stl"
METHODS = (
    *(UNIFORM, BEST, "muppet", "dwa", GRADNORM, STL, BAM, BAM_ANNEALED, "continual"),
    *(JOINT, "sequential (small)", "sequential (large)", EASY),
)
"""What a study compares, in the order of its table."""

ASYNCHRONOUS = (JOINT, "sequential (small)", "sequential (large)", "continual")  # which wait for no other run
WEIGHTINGS: dict[str, WeightingLike] = {
    UNIFORM: "equal",
    "muppet": Muppet(base=10),
    "dwa": DWA(temperature=2.0),
    STL: "equal",
}
"""Of the baselines that train for as many updates as the joint run; GradNorm's come from its α."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study: `task` only where it trains alone, `variant` what is chosen from, such as "α = 0.5"."""

    method: str
    seed: int
    folder: Path
    weighting: WeightingLike = "equal"
    schedule: Schedule | None = None
    steps: int | None = None
    task: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.method, self.variant, self.task, f"seed {self.seed}")))


@dataclass
class Study:
    """What the runs of a study share.

    options: as the asynchronous runs have them; `steps` is where those end at the latest. schedule: whose settings all
    asynchronous schedules take.
    """

    recipe: Recipe
    options: Options
    schedule: Joint
    place: Path
    reader: Fingerprint
    _problems: dict[int, Problem] = field(default_factory=dict)
    _shared: dict[int, dict[str, Any]] = field(default_factory=dict)

    def problem(self, seed: int) -> Problem:
        """The problem of a seed, made once."""
        if seed not in self._problems:
            self._problems[seed] = self.recipe.made(seed)
        return self._problems[seed]

    def like(self, kind: type[Asynchronous], **own: Any) -> Asynchronous:
        """A schedule of a kind with the study's settings."""
        return kind(**{f.name: getattr(self.schedule, f.name) for f in fields(Asynchronous)}, **own)

    def training(self, seed: int) -> Training:
        """The training of the joint run, not begun; raises what is wrong with the problem or the options."""
        return train(self.problem(seed), schedule=self.schedule, seed=seed, **self.options.keywords())

    def run(
        self,
        method: str,
        seed: int,
        *,
        weighting: WeightingLike = "equal",
        schedule: Schedule | None = None,
        steps: int | None = None,
        **own: str,
    ) -> StudyRun:
        """A run whose folder's name tells everything that decides what comes of it."""
        if seed not in self._shared:
            settings = common_settings(self.training(seed))
            settings = {key: value for key, value in settings.items() if key not in ("steps", "schedule")}
            for name in ("optimizer", "scheduler"):
                settings[f"{name}_code"] = self.reader.told(f"the {name}", getattr(self.options, name))
            self._shared[seed] = settings | {"problem": identity(self.problem(seed), self.reader), "seed": seed}
        settings = self._shared[seed] | own | {"method": method, "steps": steps, "weighting": _told(weighting)}
        settings["schedule"] = _scheduled(schedule)
        label = " ".join(filter(None, (method, own.get("variant"))))
        folder = self.place / folder_name(label, own.get("task", ""), seed, settings)
        return StudyRun(method, seed, folder, weighting, schedule, steps, **own)

    def asynchronous(self, method: str, seed: int, joint: RunLog | None = None) -> StudyRun:
        """The run of a schedule in which tasks converge; `joint` is the log that the order "easy" is taken from."""
        if method == JOINT:
            return self.run(method, seed, schedule=self.like(Joint), steps=self.options.steps)
        kind: type[Sequential] = Continual if method == "continual" else Sequential
        named = "easy" if joint is not None else "large" if method == "sequential (large)" else "small"
        order = self.like(kind, order=named, joint=joint).task_order(self.problem(seed))
        return self.run(method, seed, schedule=self.like(kind, order=order), steps=self.options.steps)

    def baselines(self, method: str, seed: int, steps: int, alphas: Sequence[float]) -> list[StudyRun]:
        """The runs of a baseline that trains for as many updates as the joint run."""
        if method == GRADNORM:
            return [
                self.run(method, seed, weighting=GradNorm(alpha=alpha), steps=steps, variant=f"α = {alpha:g}")
                for alpha in alphas
            ]
        tasks = [task.name for task in self.problem(seed).tasks] if method == STL else [""]
        return [self.run(method, seed, weighting=WEIGHTINGS[method], steps=steps, task=task) for task in tasks]

    def born_again(self, method: str, seed: int, steps: int, teacher: StudyRun) -> StudyRun:
        """The run that learns from the best checkpoints of the uniform one."""
        schedule = BornAgain(teachers=teacher.folder, annealing=method == BAM_ANNEALED)
        return self.run(method, seed, schedule=schedule, steps=steps)


def chosen(methods: str | Iterable[str]) -> list[str]:
    """The methods in the order of `METHODS`. Raises: ValueError for an unknown one, or none."""
    names = [methods] if isinstance(methods, str) else list(methods)
    names = [known for name in names for known in (METHODS if name == "all" else [name])]
    if wrong := [name for name in names if name not in METHODS]:
        raise ValueError(f"{unknown('method', wrong[0], METHODS)}, or 'all'")
    if not names:
        raise ValueError("a convergence study needs at least one method; got none")
    return [name for name in METHODS if name in names]


def checked_study(study: Study, seeds: Sequence[int], on: str) -> None:
    """Looks at the problems of all seeds. Raises: ProblemError where one cannot be made or studied."""
    first = study.problem(seeds[0])
    names = [task.name for task in first.tasks]
    for seed in seeds:
        if [task.name for task in study.problem(seed).tasks] != names:
            raise ProblemError(f"the problem of seed {seed} has other tasks than that of seed {seeds[0]}")
    if on not in ("test", "validation"):
        raise ValueError(f"on must be 'test' or 'validation', got {on!r}")
    if on == "test" and first.test is None:
        raise ProblemError(
            f"the problem {first.name!r} has no test data to judge the methods by; give it some, or on='validation', "
            "where the best checkpoints are chosen on the data that they are judged by"
        )
    study.training(seeds[0])


def _told(weighting: WeightingLike) -> Any:
    """What tells a weighting from others."""
    if isinstance(weighting, Method):
        return {"name": weighting.name, "settings": repr(sorted(weighting.settings().items()))}
    return str(weighting)


def _scheduled(schedule: Schedule | None) -> Any:
    """What tells a schedule from others; a teacher is known by the name of its folder."""
    if schedule is None:
        return None
    told: dict[str, Any] = {"kind": schedule.kind}
    for f in fields(schedule):
        value = getattr(schedule, f.name)
        told[f.name] = value.name if isinstance(value, Path) else repr(value)
    return told
