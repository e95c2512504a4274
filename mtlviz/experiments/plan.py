"""What an experiment will train: every method, seed, width and group of tasks, each run in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import mtlviz
from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, WeightingError, unknown
from mtlviz.experiments.fingerprint import Fingerprint
from mtlviz.experiments.recipe import Recipe, said
from mtlviz.training.loop import Training, train
from mtlviz.training.parts import MakeOptimizer, MakeScheduler, WeightingLike, whole
from mtlviz.weighting import METHODS, Method
from mtlviz.weighting.labels import listed

_ROOMS = ("data", "gradients", "interop", "models", "training", "transfer", "weighting")
_FILES = ("task.py", "metrics.py", "randomness.py", "convergence.py", "soft_labels.py")
DIGEST = 10  # characters of it that a folder's name ends with
STL = "stl"  # single-task learning: no weighting, but a training per task

Methods = str | WeightingLike | Iterable[WeightingLike] | Mapping[str, WeightingLike]


@dataclass(frozen=True)
class Options:
    """How every run of an experiment trains; see `mtlviz.train`."""

    steps: int | None
    optimizer: MakeOptimizer | None
    scheduler: MakeScheduler | None
    batch_size: int
    device: str
    validate_every: int
    layers_every: int = 0

    def keywords(self) -> dict[str, Any]:
        """As arguments of `mtlviz.train` and `mtlviz.start`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def training(self, problem: Problem, weighting: WeightingLike, seed: int) -> Training:
        """The training of one run, not begun."""
        return train(problem, weighting=weighting, seed=seed, **self.keywords())


@dataclass(frozen=True)
class Wanted:
    """What is trained with every seed: a method, by its label, on some tasks by themselves; () is all of them.

    weighting: as `mv.train` takes it, or "stl" for a task that no weighting concerns.
    """

    method: str
    weighting: WeightingLike
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One run to do: on some tasks by themselves, or all: (). `settings` are what makes it this run and no other."""

    method: str
    seed: int
    tasks: tuple[str, ...]
    weighting: WeightingLike
    settings: Mapping[str, Any]
    folder: Path
    width: int | None = None
    refused: str | None = None  # why it cannot even begin

    def __str__(self) -> str:
        width = "" if self.width is None else f"width {self.width}"
        return ", ".join(filter(None, (self.method, width, f"seed {self.seed}", " + ".join(self.tasks))))


def labelled(methods: Methods) -> dict[str, WeightingLike]:
    """The methods by label: names by themselves, weightings by their repr, functions by their name.

    Raises: WeightingError for no method, an unknown name, something that is no method, or two of one label.
    """
    if isinstance(methods, Mapping):
        labels = dict(methods)
        if wrong := [label for label in labels if not isinstance(label, str) or not label.strip()]:
            raise WeightingError(f"methods needs labels that are texts, {{label: method}}; got {wrong[0]!r}")
    else:
        labels = {}
        for method in listed(methods, METHODS):
            label = _label(method)
            if label in labels:
                raise WeightingError(f"the method {label} stands twice; give {{label: method}} with a label for each")
            labels[label] = method
    if not labels:
        raise WeightingError("compare needs at least one method; got none")
    for method in labels.values():
        if isinstance(method, str):
            if method != STL and method not in list(METHODS):
                raise WeightingError(unknown("weighting", method, (STL, *METHODS)))
        elif isinstance(method, type) or not (callable(method) or isinstance(method, Method)):
            raise WeightingError(f"a method must be a name, a Weighting or a function, got {method!r}")
    return labels


def _label(method: Any) -> str:
    if isinstance(method, str):
        return method
    label = getattr(method, "__name__", None) or repr(method)
    return type(method).__name__ if " at 0x" in label or "\n" in label else label


def numbered(seeds: int | Iterable[int]) -> list[int]:
    """The seeds: 0 to n − 1, or those given. Raises: ValueError for none, one below 0 or one that stands twice."""
    if isinstance(seeds, (int, np.integer)) and not isinstance(seeds, bool):
        return list(range(whole("seeds", int(seeds), least=1)))
    if isinstance(seeds, (str, bool)) or not isinstance(seeds, Iterable):
        raise ValueError(f"seeds must be a number of seeds or a list of them, got {seeds!r}")
    numbers = [whole("a seed", seed, least=0) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be different numbers, at least one; got {numbers}")
    return numbers


def planned(
    recipe: Recipe,
    wanted: Callable[[Sequence[str]], Iterable[Wanted]],
    seeds: Sequence[int],
    options: Options,
    folder: Path,
    reader: Fingerprint,
    *,
    width: int | None = None,
) -> tuple[list[Planned], Problem]:
    """Every run that is wanted of the tasks, all of the first seed first, and the first seed's problem.

    Raises: ProblemError or ValueError for a problem or options that no method can train with.
    """
    first = recipe.made(seeds[0], width)
    if first.validation is None:
        raise ProblemError(f"{recipe.needs} needs validation data, and the problem {first.name!r} has none")
    names = [task.name for task in first.tasks]
    wants = list(wanted(names))
    common = common_settings(options.training(first, "equal", seeds[0]))
    for name in ("optimizer", "scheduler"):
        common[f"{name}_code"] = reader.told(f"the {name}", getattr(options, name))
    methods = {want.method: want.weighting for want in wants}
    known = {name: {} if it == STL else _weighting(first, it, options, reader) for name, it in methods.items()}
    told = identity(first, reader)
    plan: list[Planned] = []
    for seed in seeds:
        problem = first if seed == seeds[0] or recipe.fixed(width) else recipe.made(seed, width)
        if [task.name for task in problem.tasks] != names:
            raise ProblemError(f"the problem of seed {seed} has other tasks than that of seed {seeds[0]}")
        told = told if problem is first else identity(problem, reader)
        for want in wants:
            own = common | {"seed": seed, "problem": told, "method": want.method, "tasks": list(want.tasks)}
            own |= known[want.method]
            label = want.method if width is None else f"{want.method}-width{width}"
            place = folder / folder_name(label, "+".join(want.tasks), seed, own)
            refused = known[want.method].get("refused")
            weighting = "equal" if want.weighting == STL else want.weighting
            plan.append(Planned(want.method, seed, want.tasks, weighting, own, place, width, refused))
    return plan, first


def common_settings(training: Training) -> dict[str, Any]:
    """What all runs share that are made as this one was, as JSON values."""
    config = dict(training.run_info().config)
    groups = [{k: v for k, v in group.items() if k != "params"} for group in training.optimizer.param_groups]
    scheduler = training.scheduler.state_dict() if training.scheduler is not None else {}
    own = {"optimizer_settings": groups, "scheduler_settings": scheduler, "code": code()}
    left_out = ("weighting", "weighting_settings", "weighting_seed", "seed")
    return json.loads(json.dumps({k: v for k, v in (config | own).items() if k not in left_out}, default=repr))


@cache
def code() -> str:
    """The version of mtlviz, and a digest of the rooms and files whose code decides what a run computes."""
    home = Path(mtlviz.__file__).parent
    files = sorted(path for room in _ROOMS for path in (home / room).rglob("*.py")) + [home / name for name in _FILES]
    return f"{mtlviz.__version__} {hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:16]}"


def _weighting(problem: Problem, method: WeightingLike, options: Options, reader: Fingerprint) -> dict[str, Any]:
    """What tells a method from others; `refused` is why it cannot train this problem.

    Its kernels are compiled here, once, before many processes would do it at the same time.
    """
    try:
        config = options.training(problem, method, 0).run_info().config
    except Exception as error:  # noqa: BLE001 - the user's own code: that method fails, and the others train
        return {"refused": said(error)}
    own = {k: config.get(k) for k in ("weighting", "weighting_settings")}
    own["weighting_code"] = reader.told("a method", method)
    return json.loads(json.dumps(own, default=repr))


def identity(problem: Problem, reader: Fingerprint) -> str:
    """A digest of the tasks with the code of their losses and metrics, of the model and of the data."""
    parts = [problem.name]
    for task in problem.tasks:
        judge = task.judge
        parts.append(repr((task.name, judge.label, judge.direction, task.outputs, task.scale)))
        parts += [reader.told(f"the loss of {task.name!r}", task.loss)]
        parts += [reader.told(f"the metric of {task.name!r}", judge.value)]
        parts += [reader.told(f"the soft labels of {task.name!r}", task.soft)]
    parts += [repr(problem.model), reader.told("the model", problem.model)]
    parts += [repr(sorted(problem.monitor.items())), repr(problem.sampling and problem.sampling.config())]
    for split in (problem.train, problem.validation, problem.test):
        parts.append("" if split is None else reader.told(f"the {split.name} data", split))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def folder_name(method: str, task: str | None, seed: int, settings: Mapping[str, Any]) -> str:
    """The name of a run's folder: readable, and different wherever the settings are."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:DIGEST]
    names = [re.sub(r"[^\w.=-]+", "_", name).strip("._")[:60] for name in (method, task) if name]
    return "-".join([*names, f"seed{seed}", digest])
