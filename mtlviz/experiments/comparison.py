"""Every method on the same problem: many runs, on all cores, that a kill cannot undo, and one frame."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.experiments.checkpoints import CHOICES, Select, checkpoint
from mtlviz.experiments.fingerprint import Fingerprint
from mtlviz.experiments.plan import MakeProblem, Methods, Options, Planned, Recipe, labelled, numbered, planned
from mtlviz.experiments.runs import finished, trained
from mtlviz.experiments.workers import Call, checked_jobs, done
from mtlviz.runlog import RunLog
from mtlviz.runlog import folder as run_folder
from mtlviz.training.parts import MakeOptimizer, MakeScheduler

COLUMNS = [
    *("method", "seed", "task", "metric", "direction", "select", "step", "value", "test"),
    *("status", "error", "folder"),
]


def compare(
    problem: Problem | MakeProblem,
    methods: Methods,
    seeds: int | Iterable[int] = 3,
    *,
    steps: int = 2000,
    select: Select = "final",
    scale: Mapping[str, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = -1,
    progress: bool = True,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    validate_every: int = 100,
    layers_every: int = 0,
    fresh: bool = False,
) -> pd.DataFrame:
    """Trains the problem with every method and seed, and returns what each task reached.

    A run that is finished in `folder` is not run again, so a comparison that was killed, or gets more methods or seeds,
    goes on where it was: call it again. Half a run is run anew, and so is one that failed. Runs of other settings, of
    another problem or of another mtlviz have folders of their own beside it. Other are they too where the code of a
    loss, a metric, a trunk or a method of your own changed, with the functions and constants of your modules that it
    uses. A Dataset counts by its class, its length and its first, middle and last sample. What cannot be read, such as
    a random crop, is named in a warning: where that changes, say `fresh`.

    Args:
        problem: a Problem, or a function that makes one from a seed, called as `problem(seed=s)`, such as
            `mv.data.digits`. **What a seed varies**: with a Problem the batches, the dropout and the method's own
            random numbers; all runs start from the same initial parameters. With a function also whatever it makes of
            the seed: for `mv.data.digits` the split, the pictures, which labels are missing and the initial
            parameters. All methods share the problem of a seed.
        methods: names, weightings or functions, as `mv.train` takes them; {label: method} to name them yourself, as in
            a grid of one class; "all" for every name of `mv.weighting.METHODS`. "stl" trains each task alone: the same
            trunk, head, number of updates and, where the tasks share their data, the same batches. It is the papers'
            baseline.
        seeds: how many (0, 1, ...), or which.
        steps: updates of a run.
        select: which validation counts, "final", "best_mean" or "best_per_task" (optimistic); see
            `mtlviz.experiments.checkpoints.checkpoint`. The logs have all of them: another choice trains nothing anew.
        scale: {task: factor}: what some losses are multiplied by in training. Metrics do not feel it.
        folder: where the runs are kept, a run log each. None keeps none, and a killed comparison is lost.
        jobs: processes at once, -1 for one a core, 1 to train in this process. With several, each uses one thread and
            has a copy of the problem, on the GPU too where `device` names one. A `joblib.parallel_config(backend=...)`
            around the call is respected.
        progress: a bar of finished runs, and a line about each that failed.
        optimizer, scheduler, batch_size, device, validate_every, layers_every: of each run, as for `mv.train`.
        fresh: train every run anew, also the finished ones.

    Returns:
        A row per method, seed and task: method, seed, task, metric, direction, select, step (of the chosen validation),
        value (on the validation split), test (on the test split at the end of the run; NaN unless `select` is "final"),
        status ("finished" or "failed"), error ("" unless it failed) and folder. A run that failed loses none of the
        others; its value is NaN. `mv.analysis.delta_m`, `mv.analysis.mean_rank` and `mv.experiments.table` take it.

    Raises:
        WeightingError: for what is no method, or two of one label. ProblemError: for what is no problem, has no
        validation data, does not fit `scale`, or cannot be sent to another process. ValueError: for numbers out of
        range. RunLogError: for a folder that cannot be written. MtlvizError: for a process that was killed. A run that
        another comparison is writing is waited for.
    """
    if select not in CHOICES:
        raise ValueError(f"select must be one of {', '.join(CHOICES)}, got {select!r}")
    jobs = checked_jobs(jobs)
    if not isinstance(problem, Problem) and not callable(problem):
        raise ProblemError(f"compare needs an mtlviz.Problem or a function of seed, got {type(problem).__name__}")
    recipe = Recipe(problem, {} if scale is None else scale)
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every, layers_every)
    labels, numbers = labelled(methods), numbered(seeds)
    reader = Fingerprint()
    with place_of(folder) as place:
        plan, first = planned(recipe, labels, numbers, options, Path(place), reader)
        if reader.unseen and folder is not None:
            warn_unseen("compare", reader.unseen)
        run_folder.make(Path(place))
        errors = _trained(plan, recipe, options, jobs=jobs, progress=progress, fresh=fresh)
        plan.sort(key=lambda run: (list(labels).index(run.method), numbers.index(run.seed)))
        frame = pd.concat([_rows(run, errors.get(run.folder), first, select) for run in plan], ignore_index=True)
    return frame[COLUMNS] if folder is not None else frame[COLUMNS].assign(folder="")


def place_of(folder: str | os.PathLike[str] | None) -> AbstractContextManager[str | os.PathLike[str]]:
    """The folder of the runs; a temporary one for None."""
    return tempfile.TemporaryDirectory(prefix="mtlviz-compare-") if folder is None else nullcontext(folder)


def warn_unseen(needs: str, unseen: list[str]) -> None:
    """Warns of what may have changed unseen; `needs` is the public function that was called."""
    warnings.warn(
        f"{needs} cannot see whether this changed since a run was finished: {', '.join(dict.fromkeys(unseen))}. "
        "Where it did, call it with fresh=True",
        stacklevel=3,
    )


def _trained(
    plan: list[Planned], recipe: Recipe, options: Options, *, jobs: int, progress: bool, fresh: bool
) -> dict[Path, str | None]:
    """Trains what is not finished yet; the error of each run that failed, by its folder."""
    errors: dict[Path, str | None] = {run.folder: run.refused for run in plan if run.refused is not None}
    waiting = [run for run in plan if run.folder not in errors and (fresh or not finished(run))]
    reused = len(plan) - len(waiting) - len(errors)
    with tqdm(total=len(plan), initial=len(plan) - len(waiting), unit="run", disable=not progress) as bar:
        if reused and progress:
            bar.write(f"{reused} of {len(plan)} runs are finished and not trained again; fresh=True trains them anew")
        for run in plan:
            if run.refused is not None:
                bar.write(f"{_called(run)} failed: {run.refused}")
        calls = [Call(_called(run), trained, (run, recipe, options, os.getpid(), fresh)) for run in waiting]
        return errors | done(calls, jobs=jobs, bar=bar, needs="compare", work="the comparison")


def _called(run: Planned) -> str:
    return f"{run.method}, seed {run.seed}" + (f", {run.task}" if run.task else "")


def _rows(run: Planned, error: str | None, problem: Problem, select: Select) -> pd.DataFrame:
    """The rows of one run."""
    if error is None:
        rows = checkpoint(RunLog.open(run.folder), select)
    else:
        tasks = [task for task in problem.run_info().tasks if run.task in (None, task.name)]
        rows = pd.DataFrame(
            {
                "task": [task.name for task in tasks],
                "metric": [task.metric for task in tasks],
                "direction": [task.direction for task in tasks],
                "step": pd.array([pd.NA] * len(tasks), dtype="Int64"),
                "value": np.nan,
                "test": np.nan,
            }
        )
    return rows.assign(
        method=run.method,
        seed=run.seed,
        select=select,
        status="finished" if error is None else "failed",
        error=error or "",
        folder="" if run.refused else str(run.folder),
    )
