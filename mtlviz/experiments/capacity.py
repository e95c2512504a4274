"""How wide must the shared trunk be: every task alone and all together over the width of what they share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import pandas as pd

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError, WeightingError
from mtlviz.experiments.campaign import Campaign
from mtlviz.experiments.checkpoints import Select
from mtlviz.experiments.plan import STL, Options, Wanted, labelled, numbered
from mtlviz.experiments.recipe import MakeProblem, MakeTrunk, Recipe
from mtlviz.training.parts import MakeOptimizer, MakeScheduler, WeightingLike, whole

COLUMNS = [
    *("width", "kind", "task", "seed", "metric", "direction", "select", "step", "value", "test"),
    *("status", "error", "folder"),
]


def capacity(
    problem: Problem | MakeProblem,
    widths: Iterable[int],
    seeds: int | Iterable[int] = 3,
    *,
    trunk: MakeTrunk | None = None,
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
    """Trains every task alone and all tasks together at every width of the shared trunk, with every seed.

    T tasks are T + 1 runs a width and seed, all with the same number of updates. A run that is finished in `folder` is
    not run again, whatever ended the call: call it again, also with more widths or seeds. For a Dask cluster see
    `mv.experiments.compare`.

    Args:
        problem: a function that makes a problem of a seed and a width, called as `problem(seed=s, width=w)`, such as
            `mv.data.digits`; or a Problem, with `trunk`. **What a seed varies**: with a Problem the batches and the
            initial parameters; with a function whatever it makes of the seed.
        widths: of the shared representation or of whatever the function takes for it, whole numbers from 1.
        seeds: how many (0, 1, ...), or which.
        trunk: for a Problem, a function of a width that makes its trunk, as `lambda width: nn.Linear(10, width)`; what
            it draws from torch's random numbers begins with the seed. Linear heads are made anew, of `outputs`; an
            alignment of the Problem is not kept.
        weighting: of all tasks together, as `mv.train` takes it.
        select: which validation counts, as for `compare`.
        steps, optimizer, scheduler, batch_size, device, validate_every: of each run, as for `mv.train`.
        folder, jobs, progress, fresh: as for `compare`.

    Returns:
        A row per width, kind of run ("alone" or "together"), seed and task: width, kind, task, seed, metric, direction,
        select, step (of the chosen validation), value (on the validation split), test (on the test split at the end of
        the run; NaN unless `select` is "final"), status ("finished" or "failed"), error and folder. A run that failed
        loses none of the others. `mv.analysis.capacity_curves` and `capacity_rule` take it.

    Raises:
        ProblemError: a Problem without `trunk`, a function with one, fewer than two tasks, or as `compare` says.
        ValueError: numbers out of range. WeightingError: what is no weighting.

    Source: Wu, Zhang, Ré, ICLR 2020, arXiv 2005.00944, proposition 1: from a width of the number of tasks on,
    linear tasks need not share anything, and nothing is transferred.
    """
    if isinstance(problem, Problem) and trunk is None:
        raise ProblemError(
            "capacity trains at several widths, and a Problem has one: give trunk=, a function of a width that makes "
            "the trunk, or instead of the Problem a function of seed and width that makes it"
        )
    if trunk is not None and not (isinstance(problem, Problem) and callable(trunk)):
        raise ProblemError("trunk= must be a function of a width, and comes with a Problem; a function makes its own")
    recipe = Recipe(problem, "capacity", trunk=trunk)
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every)
    campaign = Campaign(recipe, options, "the capacity runs", select, jobs, progress=progress, fresh=fresh)
    ((label, method),) = labelled([weighting]).items()
    if method == STL:
        raise WeightingError("weighting is that of all tasks together; each by itself is trained anyway")

    def wanted(names: Sequence[str]) -> list[Wanted]:
        if len(names) < 2:
            raise ProblemError(f"capacity compares tasks alone and together; the problem has {', '.join(names)} only")
        return [*(Wanted(STL, STL, (name,)) for name in names), Wanted(label, method)]

    frame = campaign.frame(wanted, numbered(seeds), folder, _sizes(widths))
    kind = ["alone" if tasks else "together" for tasks in frame["tasks"]]
    frame = frame.assign(kind=kind).sort_values(["width", "kind", "seed"], kind="stable", ignore_index=True)
    return frame[COLUMNS]


def _sizes(widths: Iterable[int]) -> list[int | None]:
    """The widths, the least first. Raises: ValueError for none, one below 1 or one that stands twice."""
    if isinstance(widths, (str, bool)) or not isinstance(widths, Iterable):
        raise ValueError(f"widths must be a list of whole numbers, got {widths!r}")
    numbers = [whole("a width", width, least=1) for width in widths]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"widths must be different numbers, at least one; got {numbers}")
    return [*sorted(numbers)]
