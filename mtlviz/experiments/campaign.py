"""All runs of an experiment: what is not finished is trained, and what each run reached is put in one frame."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.experiments.checkpoints import CHOICES, Select, checkpoint
from mtlviz.experiments.fingerprint import Fingerprint
from mtlviz.experiments.plan import Options, Planned, Wanted, planned
from mtlviz.experiments.recipe import Recipe
from mtlviz.experiments.runs import finished, namesakes, trained
from mtlviz.experiments.workers import Call, Process, checked_jobs, done
from mtlviz.runlog import RunLog
from mtlviz.runlog import folder as run_folder


@dataclass(frozen=True)
class Campaign:
    """How the runs of an experiment are trained and read; see `mtlviz.experiments.compare` for what it takes.

    work: what it is called where a process dies, as "the comparison".

    Raises: ValueError for an unknown `select`, or `jobs` that are no number of processes.
    """

    recipe: Recipe
    options: Options
    work: str
    select: Select
    jobs: int
    progress: bool
    fresh: bool

    def __post_init__(self) -> None:
        if self.select not in CHOICES:
            raise ValueError(f"select must be one of {', '.join(CHOICES)}, got {self.select!r}")
        checked_jobs(self.jobs)

    def frame(
        self,
        wanted: Callable[[Sequence[str]], Iterable[Wanted]],
        seeds: Sequence[int],
        folder: str | os.PathLike[str] | None,
        widths: Sequence[int | None] = (None,),
    ) -> pd.DataFrame:
        """Trains what is wanted of a problem's tasks and is not finished in `folder`; what each task reached.

        Returns: a row per run and task: method, tasks (those that trained, () for all), width, seed, task, metric,
        direction, select, step, value, test, status, error and folder.

        Raises: see `mtlviz.experiments.compare`.
        """
        return self.frames([(self.recipe, wanted)], seeds, folder, widths)

    def frames(
        self,
        parts: Sequence[tuple[Recipe, Callable[[Sequence[str]], Iterable[Wanted]]]],
        seeds: Sequence[int],
        folder: str | os.PathLike[str] | None,
        widths: Sequence[int | None] = (None,),
    ) -> pd.DataFrame:
        """`frame` of several recipes, each with what is wanted of it: all their runs train side by side."""
        reader, needs = Fingerprint(), self.recipe.needs
        with place_of(folder) as place:
            plans = [
                (recipe, *planned(recipe, wanted, seeds, self.options, place, reader, width=width))
                for recipe, wanted in parts
                for width in widths
            ]
            for recipe, _ in parts:
                _same_tasks([first for known, _, first in plans if known is recipe], widths)
            if reader.unseen and folder is not None:
                warn_unseen(needs, reader.unseen)
            run_folder.make(place)
            errors = self._trained([(run, recipe) for recipe, plan, _ in plans for run in plan])
            rows = [_rows(run, errors.get(run.folder), first, self.select) for _, plan, first in plans for run in plan]
        frame = pd.concat(rows, ignore_index=True)
        return frame if folder is not None else frame.assign(folder="")

    def _trained(self, plan: list[tuple[Planned, Recipe]]) -> dict[Path, str | None]:
        """Trains what is not finished yet; the error of each run that failed, by its folder."""
        errors: dict[Path, str | None] = {run.folder: run.refused for run, _ in plan if run.refused is not None}
        waiting = [
            (run, recipe) for run, recipe in plan if run.folder not in errors and (self.fresh or not finished(run))
        ]
        reused = len(plan) - len(waiting) - len(errors)
        with tqdm(total=len(plan), initial=len(plan) - len(waiting), unit="run", disable=not self.progress) as bar:
            if reused and self.progress:
                bar.write(
                    f"{reused} of {len(plan)} runs are finished and not trained again; fresh=True trains them anew"
                )
            if self.progress and not self.fresh and (told := namesakes([run for run, _ in waiting])):
                bar.write(told)
            for run, _ in plan:
                if run.refused is not None:
                    bar.write(f"{run} failed: {run.refused}")
            shared = (self.options, Process.this(), self.fresh)
            calls = [Call(str(run), run.folder, trained, (run, recipe, *shared)) for run, recipe in waiting]
            return errors | done(calls, jobs=self.jobs, bar=bar, needs=self.recipe.needs, work=self.work)


@contextmanager
def place_of(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of the runs, as every process finds it; a temporary one for None."""
    if folder is not None:
        yield Path(os.path.abspath(folder))
    else:
        with tempfile.TemporaryDirectory(prefix="mtlviz-runs-") as place:
            yield Path(place)


def _same_tasks(problems: Sequence[Problem], widths: Sequence[int | None]) -> None:
    """Raises: ProblemError where the problems of some widths have other tasks."""
    names = [[task.name for task in problem.tasks] for problem in problems]
    if wrong := [width for width, own in zip(widths, names, strict=True) if own != names[0]]:
        raise ProblemError(f"the problem of width {wrong[0]} has other tasks than that of width {widths[0]}")


def warn_unseen(needs: str, unseen: list[str]) -> None:
    """Warns of what may have changed unseen; `needs` is the public function that was called."""
    warnings.warn(
        f"{needs} cannot see whether this changed since a run was finished: {', '.join(dict.fromkeys(unseen))}. "
        "Where it did, call it with fresh=True",
        stacklevel=4,
    )


def _rows(run: Planned, error: str | None, problem: Problem, select: Select) -> pd.DataFrame:
    """The rows of one run."""
    if error is None:
        rows = checkpoint(RunLog.open(run.folder), select)
    else:
        tasks = [task for task in problem.run_info().tasks if not run.tasks or task.name in run.tasks]
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
        tasks=pd.Series([run.tasks] * len(rows), index=rows.index, dtype=object),
        width=run.width,
        seed=run.seed,
        select=select,
        status="finished" if error is None else "failed",
        error=error or "",
        folder="" if run.refused else str(run.folder),
    )
