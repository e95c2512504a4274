"""Remedies: a problem trained as it is and with each change that may help, on the same seeds, in one frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.experiments.campaign import Campaign
from mtlviz.experiments.checkpoints import Select
from mtlviz.experiments.comparison import COLUMNS
from mtlviz.experiments.plan import Options, Wanted, labelled, numbered
from mtlviz.experiments.recipe import MakeProblem, Recipe
from mtlviz.training.parts import MakeOptimizer, MakeScheduler, WeightingLike
from mtlviz.weighting import Method

Change = Callable[[Problem], Problem]
Remedy = Change | str | Method | tuple[Change, WeightingLike]
AS_IT_IS = "as it is"


def remedies(
    problem: Problem | MakeProblem,
    remedies: Mapping[str, Remedy],
    seeds: int | Iterable[int] = 5,
    *,
    weighting: WeightingLike = "equal",
    steps: int = 2000,
    select: Select = "final",
    folder: str | os.PathLike[str] | None = None,
    jobs: int = -1,
    progress: bool = True,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    validate_every: int = 100,
    fresh: bool = False,
) -> pd.DataFrame:
    """Trains a problem "as it is" and with each remedy, on the same seeds, and returns what each task reached.

    Runs are kept, reused and told apart in `folder` as `compare` does it.

    Args:
        problem: a Problem, or a function that makes one from a seed, as `compare` takes it.
        remedies: {label: remedy}: a function that makes another problem of one, such as `lambda p: p.aligned()`,
            `lambda p: p.duplicated({"small": 4})`, `svd_weighted` or `functools.partial` of them; or a method, by its
            name or itself; or both, (function, method). Of a Problem a function makes one for all seeds, else one for
            each.
        seeds: how many (0, 1, ...), or which.
        weighting: of the problem as it is, and of every remedy that names none.
        steps, select, folder, jobs, progress, optimizer, scheduler, batch_size, device, validate_every, fresh: see
            `compare`.

    Returns:
        The frame of `compare`, with a remedy's label for the method, the problem as it is first, and a column more:
        versus, which is "as it is" for every remedy and "" for that. `mv.analysis.remedy_changes` takes it, and what
        takes the frame of `compare`.

    Raises:
        ProblemError: for what is no remedy, one that does not fit the problem or returns none; else as `compare`.
    """
    if not isinstance(remedies, Mapping) or not remedies:
        raise ProblemError(
            f"remedies must be {{label: function of a problem, or method}}, at least one; got {remedies!r}"
        )
    if AS_IT_IS in remedies:
        raise ProblemError(f"{AS_IT_IS!r} is what the remedies are measured against; give the remedy another label")
    variants = {AS_IT_IS: Variant(problem, weighting)}
    variants |= {label: _variant(label, problem, remedy, weighting) for label, remedy in remedies.items()}
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every)
    settings: dict[str, Any] = {"select": select, "jobs": jobs, "progress": progress, "fresh": fresh, "folder": folder}
    frame = trained(variants, seeds, options, needs="remedies", **settings)
    return frame.assign(versus=frame["method"].map(lambda label: "" if label == AS_IT_IS else AS_IT_IS))


@dataclass(frozen=True)
class Variant:
    """A problem as one remedy would have it: the problem or what makes it of a seed, and the method."""

    problem: Problem | MakeProblem
    weighting: WeightingLike


@dataclass(frozen=True)
class Changed:
    """Makes the problem of a seed, and of that another one. Raises: ProblemError where the change fails, naming it."""

    label: str
    problem: Problem | MakeProblem
    change: Change

    def __call__(self, *, seed: int) -> Problem:
        """The changed problem of a seed."""
        made = self.problem if isinstance(self.problem, Problem) else self.problem(seed=seed)
        return changed(self.label, made, self.change)


def changed(label: str, problem: Problem, change: Change) -> Problem:
    """What a change makes of a problem. Raises: ProblemError naming it, where it fails or makes anything else."""
    try:
        made: Any = change(problem)
    except Exception as error:  # the user's own function may raise anything: its label is told
        raise ProblemError(f"the remedy {label!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, Problem):
        raise ProblemError(f"the remedy {label!r} must return a Problem, it returned a {type(made).__name__}")
    return made


def trained(
    variants: Mapping[str, Variant],
    seeds: int | Iterable[int],
    options: Options,
    *,
    needs: str,
    select: Select,
    jobs: int,
    progress: bool,
    fresh: bool,
    folder: str | os.PathLike[str] | None,
) -> pd.DataFrame:
    """Trains every variant with every seed; the frame of `compare`, in the variants' order, by their labels."""
    methods, numbers = labelled({label: variant.weighting for label, variant in variants.items()}), numbered(seeds)
    parts = [(Recipe(variant.problem, needs), _wants(label, methods[label])) for label, variant in variants.items()]
    campaign = Campaign(parts[0][0], options, f"the {needs}", select, jobs, progress=progress, fresh=fresh)
    return campaign.frames(parts, numbers, folder)[COLUMNS]


def _wants(label: str, weighting: WeightingLike) -> Callable[[Sequence[str]], list[Wanted]]:
    return lambda names: [Wanted(label, weighting)]


def _variant(label: str, problem: Problem | MakeProblem, remedy: Any, weighting: WeightingLike) -> Variant:
    """The variant of a remedy. Raises: ProblemError for what is none."""
    if isinstance(remedy, (str, Method)):
        return Variant(problem, remedy)
    change, method = remedy if isinstance(remedy, tuple) and len(remedy) == 2 else (remedy, weighting)
    if isinstance(change, type) or not callable(change):
        raise ProblemError(
            f"the remedy {label!r} must be a function of a problem that returns one, a method, or a pair of them; got "
            f"{remedy!r}"
        )
    if isinstance(problem, Problem):
        return Variant(changed(label, problem, change), method)
    return Variant(Changed(label, problem, change), method)
