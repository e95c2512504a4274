"""Transfer, measured: every task alone, every pair and all together, and what each task gains by the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal, get_args

import pandas as pd

from mtlviz.analysis.transfer import ALL, transfer_gains
from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, WeightingError, unknown
from mtlviz.experiments.campaign import Campaign
from mtlviz.experiments.checkpoints import Select
from mtlviz.experiments.plan import STL, Options, Wanted, labelled, numbered
from mtlviz.experiments.recipe import MakeProblem, Recipe
from mtlviz.intervals import is_share
from mtlviz.training.parts import MakeOptimizer, MakeScheduler, WeightingLike

Group = Literal["alone", "pairs", "all"]
GROUPS: tuple[str, ...] = get_args(Group)

COLUMNS = [
    *("seed", "trained", "source", "task", "metric", "direction", "select", "step", "value", "test"),
    *("status", "error", "folder"),
]


def transfer_runs(
    problem: Problem | MakeProblem,
    seeds: int | Iterable[int] = 3,
    *,
    weighting: WeightingLike = "equal",
    groups: Sequence[Group] = ("alone", "pairs", "all"),
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
    """Trains every task alone, every pair of tasks and all together, with every seed; what each task reached.

    The runs of a seed are paired: each begins with the same trunk and heads, does as many updates, and a task sees the
    same rows in the same updates whoever trains beside it (see `mv.Problem.of_tasks` for two exceptions). T tasks are
    T + T(T − 1)/2 + 1 runs a seed. A task alone has no weighting; beside others with "equal" the trunk follows the sum
    of their gradients, so that it also takes longer steps where the optimizer does not normalise them.

    A run that is finished in `folder` is not run again, whatever ended the call: call it again. The folder may be that
    of `mv.experiments.compare`, whose "stl" is each task alone. For a Dask cluster see there too.

    Args:
        problem: a Problem, or a function that makes one from a seed, called as `problem(seed=s)`; see
            `mv.experiments.compare`, which says what a seed varies.
        seeds: how many (0, 1, ...), or which. An interval needs two at least.
        weighting: of the tasks that train together, as `mv.train` takes it.
        groups: which of "alone", "pairs" and "all" to train. Of two tasks the pair is all of them: it is trained once,
            and told as the pair where "pairs" is among the groups.
        steps: updates of a run.
        select: which validation counts, as for `compare`.
        folder, jobs, progress, fresh: as for `compare`.
        optimizer, scheduler, batch_size, device, validate_every: of each run, as for `mv.train`.

    Returns:
        A row per seed, trained group and task: seed, trained ("a", "a + b" or "all"), source ("" for a task alone, the
        other of a pair, or "all"), task, metric, direction, select, step (of the chosen validation), value (on the
        validation split), test (on the test split at the end of the run; NaN unless `select` is "final"), status
        ("finished" or "failed"), error and folder. A run that failed loses none of the others; its value is NaN.

    Raises:
        ProblemError: fewer than two tasks, a task that is called "all", or as `compare` says. ValueError: unknown
        groups, or numbers out of range. WeightingError: what is no weighting.
    """
    recipe = Recipe(problem, "transfer")
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every)
    campaign = Campaign(recipe, options, "the transfer runs", select, jobs, progress=progress, fresh=fresh)
    chosen, numbers = _chosen(groups), numbered(seeds)
    ((label, method),) = labelled({_label(weighting): weighting}).items()
    if method == STL:
        raise WeightingError("weighting is that of tasks that train together; groups=['alone'] trains each by itself")

    def wanted(names: Sequence[str]) -> list[Wanted]:
        _checked(names)
        wants = [Wanted(STL, STL, (name,)) for name in names if "alone" in chosen]
        pairs = list(combinations(names, 2)) if "pairs" in chosen else []
        whole = [()] if "all" in chosen and not (len(names) == 2 and pairs) else []
        return wants + [Wanted(label, method, tasks) for tasks in [*pairs, *whole]]

    frame = campaign.frame(wanted, numbers, folder)
    told = [_told(tasks, str(task)) for tasks, task in zip(frame["tasks"], frame["task"], strict=True)]
    frame[["trained", "source"]] = pd.DataFrame(told, index=frame.index)
    return frame[COLUMNS]


def transfer(
    problem: Problem | MakeProblem,
    seeds: int | Iterable[int] = 3,
    *,
    weighting: WeightingLike = "equal",
    groups: Sequence[Group] = ("alone", "pairs", "all"),
    confidence: float = 0.95,
    on: Literal["value", "test"] = "value",
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
    """Measures what each task gains when each other task, or all others, train beside it.

    Args:
        confidence, on: of the intervals, and which number they are of; see `mv.analysis.transfer_gains`.
        problem, seeds, weighting, ...: see `transfer_runs`.

    Returns:
        A row per source and target, as `mv.analysis.transfer_gains(transfer_runs(problem, seeds))` gives it: source,
        target, metric, direction, seeds, alone, together, gain, low, high, verdict and failed.
        `mv.figures.transfer_gains` draws it.

    Raises: as `transfer_runs`, and ValueError for groups without "alone" or with it only, a confidence outside
        (0, 1) or an unknown `on`; FrameError where no run has a test metric that is asked for.
    """
    chosen = _chosen(groups)
    if "alone" not in chosen:
        raise ValueError(f"a gain is measured against each task alone, and groups={chosen} leave it out")
    if set(chosen) == {"alone"}:
        raise ValueError(f"a gain is measured beside other tasks, and groups={chosen} trains each alone only")
    if not is_share(confidence):
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
    if on not in ("value", "test"):
        raise ValueError(f"on must be 'value' or 'test', got {on!r}")
    if on == "test" and select != "final":
        raise ValueError(f"test metrics are those of the end of a run: on='test' needs select='final', not {select!r}")
    if on == "test" and Recipe(problem, "transfer").made(numbered(seeds)[0]).test is None:
        raise ProblemError("on='test' needs test data, and the problem has none")
    runs = transfer_runs(
        problem, seeds, weighting=weighting, groups=groups, steps=steps, select=select, folder=folder, jobs=jobs,
        progress=progress, optimizer=optimizer, scheduler=scheduler, batch_size=batch_size, device=device,
        validate_every=validate_every, fresh=fresh,
    )  # fmt: skip
    return transfer_gains(runs, confidence=confidence, on=on)


def _chosen(groups: Sequence[str]) -> list[str]:
    """The groups. Raises: ValueError for an unknown one, or none."""
    names = [groups] if isinstance(groups, str) else list(groups)
    if strangers := [name for name in names if name not in GROUPS]:
        raise ValueError(unknown("group", strangers[0], GROUPS))
    if not names:
        raise ValueError(f"groups needs at least one of {', '.join(GROUPS)}; got none")
    return names


def _label(weighting: WeightingLike) -> str:
    """The label under which `compare` would have the weighting's runs."""
    return weighting if isinstance(weighting, str) else next(iter(labelled([weighting])))


def _checked(names: Sequence[str]) -> None:
    """Raises: ProblemError for tasks between which nothing is transferred, or one that `source` cannot name."""
    if len(names) < 2:
        raise ProblemError(f"transfer takes two tasks at least; the problem has {', '.join(names)} only")
    if ALL in names:
        raise ProblemError(f"transfer calls all tasks together {ALL!r}, and a task has that name; rename it")


def _told(tasks: tuple[str, ...], task: str) -> tuple[str, str]:
    """What was trained, and which source that is to a task."""
    if not tasks:
        return ALL, ALL
    return " + ".join(tasks), next((name for name in tasks if name != task), "")
