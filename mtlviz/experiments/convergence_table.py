"""The table of a study of asynchronous convergence, as Lu et al. print it: changes over the final uniform model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mtlviz.analysis import method_table
from mtlviz.analysis.comparison import not_ranked
from mtlviz.errors import FrameError
from mtlviz.experiments.tables import NOTHING, Table, best_and_second, number

BASELINE = "uniform (final)"
AVERAGE = "average"
DECIMALS = 2
KEY = ["task", "metric", "direction"]


@dataclass(frozen=True, eq=False, repr=False)
class ConvergenceTable(Table):
    """A `Table` that keeps its numbers.

    frame: a row per method and task and one for the average (task and metric "average"), in the table's order: method,
    task, metric, change (mean over seeds, in points, above 0 is better), std (over seeds, n − 1; NaN for one), seeds
    (how many have a change), train_steps (mean over seeds) and mark ("best", "second" or "").
    """

    frame: pd.DataFrame = field(default_factory=pd.DataFrame)


def convergence_table(
    frame: pd.DataFrame,
    *,
    baseline: str | None = None,
    average: Sequence[str] | None = None,
    unranked: str | Sequence[str] = ("stl",),
) -> ConvergenceTable:
    """The table of a study: per method the updates it took, its change over the baseline in each task, and the average.

    A change is taken within each seed, in the metric's own unit and so that above 0 is better; shown is its mean ± the
    standard deviation over seeds. The best of a column is bold and the second underlined, as the numbers are shown:
    equal ones share the mark.

    Args:
        frame: as `mv.experiments.convergence_study` returns it; a table from a paper with the columns method, task,
            metric, direction, value and train_steps will do.
        baseline: the method that the others are measured against: "uniform (final)" unless given.
        average: the tasks that are averaged. Unless given: those whose metric is better when it is greater, which are
            in percentage points; an error in a unit of its own, such as an RMSE, is left out, and the caption says so.
        unranked: methods that are not marked; "stl", which is not one model but many, where the frame has it.

    Returns:
        A `ConvergenceTable`: in a notebook it shows itself; `.frame` has the numbers, `.style` is a pandas Styler,
        `.markdown()` and `.latex()` are texts. Its caption says what was judged on the data that it was chosen on,
        which runs failed, and which never converged.

    Raises:
        FrameError: what the frame lacks, a baseline that is not in it, or tasks to average that it has not.
    """
    methods = list(method_table(frame)["method"].unique())
    baseline = BASELINE if baseline is None else baseline
    if baseline not in methods:
        raise FrameError(f"convergence_table needs the baseline {baseline!r}; the frame has {', '.join(methods)}.")
    if "on" in frame.columns and frame["on"].nunique(dropna=False) > 1:
        raise FrameError("convergence_table needs rows of one split; the column `on` has several. Take those of one.")
    if "train_steps" not in frame.columns:
        raise FrameError("convergence_table needs the column train_steps: the updates of each run.")
    changes = _changes(frame, baseline)
    averaged = _averaged(changes, average)
    mean = averaged.mean(axis=1, skipna=False) if averaged.shape[1] else pd.Series(np.nan, index=changes.index)
    columns = [(str(key[0]), str(key[1]), changes[key]) for key in changes.columns]
    columns.append((AVERAGE, AVERAGE, mean))
    ranked = np.array([name not in not_ranked(unranked, methods) for name in methods])
    steps = _steps(frame, methods)
    cells, marks, parts = (
        {("", "train steps"): [cell for cell, _ in steps]},
        {("", "train steps"): [0] * len(steps)},
        [],
    )
    for task, metric, column in columns:
        each = column.groupby(level="method")
        told = pd.DataFrame({"change": each.mean(), "std": each.std(), "seeds": each.count()}).reindex(methods)
        head = ("", AVERAGE) if column is mean else (task, metric)
        cells[head] = [
            number(row["change"], np.nan if name == baseline else row["std"], DECIMALS, signed=True)
            for name, row in told.iterrows()
        ]
        marks[head] = best_and_second(told["change"].to_numpy(np.float64), DECIMALS, ranked)
        told = told.assign(task=task, metric=metric, mark=np.array(["", "best", "second"])[marks[head]])
        parts.append(told.assign(train_steps=[count for _, count in steps]).rename_axis("method").reset_index())
    index = pd.Index(methods, name="method")
    numbers = pd.concat(parts, ignore_index=True).assign(seeds=lambda rows: rows["seeds"].fillna(0).astype(int))
    numbers = numbers[["method", "task", "metric", "change", "std", "seeds", "train_steps", "mark"]]
    left_out = [str(key[0]) for key in changes.columns if key not in averaged.columns]
    caption = " ".join([*_heading(frame, baseline), *_average_note(left_out, average), *_notes(frame)])
    return ConvergenceTable(pd.DataFrame(cells, index=index), pd.DataFrame(marks, index=index), caption, numbers)


def _changes(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The change of each (method, seed) row over the baseline of its seed, a column per task and metric."""
    rows = frame.assign(seed=frame["seed"] if "seed" in frame.columns else 0)
    rows = rows.astype(dict.fromkeys(["method", *KEY], object)).assign(value=_finite(rows["value"]))
    order = pd.MultiIndex.from_frame(rows[KEY].drop_duplicates())
    wide = rows.pivot(index=["method", "seed"], columns=KEY, values="value").reindex(columns=order)
    base = wide.xs(baseline, level="method").reindex(wide.index.get_level_values("seed"))
    better = np.where(order.get_level_values("direction") == "max", 1.0, -1.0)
    return (wide - base.to_numpy()) * better


def _averaged(changes: pd.DataFrame, average: Sequence[str] | None) -> pd.DataFrame:
    """The columns that are averaged. Raises: FrameError for a task that is not there."""
    tasks = changes.columns.get_level_values("task")
    if average is None:
        return changes.loc[:, changes.columns.get_level_values("direction") == "max"]
    chosen = [average] if isinstance(average, str) else list(average)
    if unknown := [task for task in chosen if task not in tasks]:
        raise FrameError(f"average names {', '.join(map(repr, unknown))}; the tasks are {', '.join(tasks.unique())}.")
    return changes.loc[:, tasks.isin(chosen)]


def _finite(column: pd.Series) -> np.ndarray:
    values = column.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _steps(frame: pd.DataFrame, methods: list[str]) -> list[tuple[str, float]]:
    """Per method the updates of its runs: as a cell, and the mean over seeds."""
    known = frame.assign(count=_finite(frame["train_steps"])).groupby("method", sort=False)
    seeds = "seed" if "seed" in frame.columns else "method"
    told = []
    for method in methods:
        counts = known.get_group(method).groupby(seeds)["count"].max().dropna()
        spread = counts.std() if counts.nunique() > 1 else np.nan
        told.append((number(counts.mean(), spread, 0) if len(counts) else NOTHING, float(counts.mean())))
    return told


def _heading(frame: pd.DataFrame, baseline: str) -> list[str]:
    """What the numbers are."""
    seeds = frame["seed"].nunique() if "seed" in frame.columns else 1
    on = f" on the {frame['on'].iloc[0]} split" if "on" in frame.columns else ""
    parts = [f"Changes over {baseline}{on}, in the metric's unit; above 0 is better."]
    parts += [f"Mean ± standard deviation over {seeds} seeds."] if seeds > 1 else []
    return [*parts, "Train steps count discarded work too."]


def _average_note(left_out: list[str], average: Sequence[str] | None) -> list[str]:
    if not left_out:
        return []
    why = "" if average is not None else ", whose metric is an error in a unit of its own"
    return [f"The average leaves out {', '.join(left_out)}{why}."]


def _notes(frame: pd.DataFrame) -> list[str]:
    """What a reader must know of the runs: what was chosen on the judging data, settings, failures, caps."""
    parts = []
    if "monitored_on" in frame.columns and "on" in frame.columns:
        same = frame[frame["monitored_on"] == frame["on"]]
        if tasks := list(dict.fromkeys(same["task"].astype(str))):
            parts.append(
                f"Warning: {', '.join(tasks)} chosen on the data it is judged by: when it converges, its best "
                f"checkpoint and the settings of methods were taken on the {frame['on'].iloc[0]} split."
            )
    if "setting" in frame.columns:
        told = frame[["method", "setting"]].drop_duplicates().dropna().astype(str)
        each = told[told["setting"] != ""].groupby("method", sort=False)["setting"].agg(" or ".join)
        parts += [f"{method}: {setting}." for method, setting in each.items()]
    seeds = frame["seed"].nunique() if "seed" in frame.columns else 1
    for column, verb in (("status", "failed"), ("unconverged", "ended at the step cap without having converged")):
        if column in frame.columns:
            hit = frame[frame[column] == "failed"] if column == "status" else frame[frame[column].fillna(False)]
            count = hit.groupby("method", sort=False)["seed"].nunique().reset_index()
            parts += [
                f"{method}: {verb} for {n} of {seeds} seeds."
                for method, n in zip(count["method"].astype(str), count["seed"], strict=True)
            ]
    return parts
