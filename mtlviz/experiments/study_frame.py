"""The frame of a study: what each task reached in every run, and which GradNorm counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mtlviz.analysis import task_table
from mtlviz.experiments.study_plan import BAM, BAM_ANNEALED, BEST, GRADNORM, STL, UNIFORM, Study, StudyRun
from mtlviz.experiments.study_runs import best_tests
from mtlviz.experiments.surviving import reached
from mtlviz.runlog import RunLog
from mtlviz.training.schedules import Sequential

COLUMNS = [
    *(
        "method",
        "seed",
        "task",
        "metric",
        "direction",
        "on",
        "value",
        "test",
        "test_best",
        "best",
        "best_step",
        "final",
    ),
    *("drop", "noise", "converged_at", "distilled", "unconverged", "train_steps", "surviving_steps", "seconds"),
    *("monitored_on", "setting", "is_run", "status", "error", "folder"),
]
Errors = Mapping[Path | tuple[str, int], str]
Runs = Mapping[tuple[str, int], Sequence[StudyRun]]


def study_frame(
    study: Study, methods: Sequence[str], seeds: Sequence[int], runs: Runs, errors: Errors, on: str, *, keeps: bool
) -> pd.DataFrame:
    """The rows of all methods and seeds, in their order; see `mtlviz.experiments.convergence_study`."""
    parts = []
    for method in methods:
        own = UNIFORM if method == BEST else method
        each = [_of(study, runs[own, seed], seed, errors.get((own, seed)), errors) for seed in seeds]
        rows = pd.concat(each, ignore_index=True)
        if method == GRADNORM:
            rows = _one_alpha(rows)
        elif method == STL:
            rows["setting"] = "each task alone, for as many updates as the others have for all"
        elif method in (BAM, BAM_ANNEALED):
            rows["train_steps"] += rows["seed"].map({seed: _updates(runs[UNIFORM, seed]) for seed in seeds})
            rows["setting"] = "train steps count those of the uniform run that teaches it"
        rows = rows.assign(method=method, is_run=method != BEST)
        parts.append(_at_best(rows) if method == BEST else rows)
    frame = pd.concat(parts, ignore_index=True)
    better = np.where(frame["direction"] == "max", 1.0, -1.0)
    frame["drop"] = np.where(frame["is_run"], better * (frame["best"] - frame["final"]), np.nan)
    frame = frame.assign(on=on, value=frame["test" if on == "test" else "final"])
    return frame[COLUMNS] if keeps else frame[COLUMNS].assign(folder="")


def _of(study: Study, runs: Sequence[StudyRun], seed: int, error: str | None, errors: Errors) -> pd.DataFrame:
    """The rows of a method's runs of one seed, those of GradNorm's candidates too."""
    if not runs:
        return _failed(study, seed, None, error or "", "")
    parts = []
    for run in runs:
        failed = errors.get(run.folder)
        if failed is None:
            rows = _finished(run).assign(seed=seed, status="finished", error="", folder=str(run.folder))
        else:
            rows = _failed(study, seed, run.task or None, failed, str(run.folder))
        parts.append(rows.assign(setting=_setting(run)))
    return pd.concat(parts, ignore_index=True)


def _setting(run: StudyRun) -> str:
    """What tells a run from others of its method: the α, or the order of the tasks."""
    return f"order {' → '.join(run.schedule.order)}" if isinstance(run.schedule, Sequential) else run.variant


def _updates(runs: Sequence[StudyRun]) -> int:
    return max((run.steps or 0 for run in runs), default=0)


def _finished(run: StudyRun) -> pd.DataFrame:
    log = RunLog.open(run.folder)
    table = task_table(log)[["task", "metric", "direction", "test"]].assign(task=log.names)
    tests = best_tests(run)
    table["test_best"] = [tests.get(name, np.nan) for name in log.names]
    return table.merge(reached(log), on="task", how="left").assign(seconds=float(log.time or 0.0))


def _failed(study: Study, seed: int, task: str | None, error: str, folder: str) -> pd.DataFrame:
    problem = study.problem(seed)
    tasks = [known for known in problem.run_info().tasks if task in (None, known.name)]
    frame = pd.DataFrame({key: [getattr(task, key) for task in tasks] for key in ("name", "metric", "direction")})
    frame = frame.rename(columns={"name": "task"})
    for column in ("best_step", "converged_at", "train_steps", "surviving_steps"):
        frame[column] = pd.array([pd.NA] * len(tasks), dtype="Int64")
    frame[["test", "test_best", "best", "final", "noise", "distilled", "seconds"]] = np.nan
    frame["monitored_on"] = [problem.monitor.get(name, "validation") for name in frame["task"]]
    return frame.assign(unconverged=False, setting="", status="failed", error=error, folder=folder, seed=seed)


def _at_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Each task at its best checkpoint, as if that were the end of a run."""
    return rows.assign(test=rows["test_best"], final=rows["best"])


def _one_alpha(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the α that is best on validation for all seeds: the mean over tasks and seeds of the last value.

    Tasks whose metric is an error, in a unit of its own, count only where there are no others. A candidate that failed
    for a seed is not taken where another did not.
    """
    scores = (
        rows[rows["direction"] == "max"] if (rows["direction"] == "max").any() else rows.assign(final=-rows["final"])
    )
    means = scores.groupby("setting", sort=False)["final"].agg(lambda values: values.mean(skipna=False))
    if means.isna().all():
        return rows[rows["setting"] == rows["setting"].iloc[0]].assign(setting="no α of it was trained to the end")
    best = str(means.idxmax())
    told = ", ".join(f"{str(name).removeprefix('α = ')}: {value:.2f}" for name, value in means.items())
    said = f"{best}, by the mean validation at the end ({told})"
    return rows[rows["setting"] == best].assign(setting=said)
