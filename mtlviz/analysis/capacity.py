"""What tasks reach over the width of the trunk, alone and together, and whether sharing saves capacity."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.scores import numbers_of, one_metric
from mtlviz.errors import FrameError
from mtlviz.intervals import mean_interval

MEAN = "mean of tasks"
"""What the rows of the mean over tasks are called."""

NEEDED = ("width", "kind", "task", "seed", "metric", "direction", "value")
KINDS = ("alone", "together")
CURVES = [
    *("kind", "task", "metric", "direction", "width", "seeds", "value", "low", "high", "best", "failed"),
]
RULE = ["seed", "together", "alone", "widths", "holds", "settled", "seeds", "share"]

On = Literal["value", "test"]


def capacity_curves(frame: pd.DataFrame, *, confidence: float = 0.95, on: On = "value") -> pd.DataFrame:
    """Return what each task reached at each width, alone and together, over the seeds.

    Args:
        frame: as `mv.experiments.capacity` returns it.
        confidence: of Student's two-sided interval over the seeds.
        on: "value" (on the validation split) or "test".

    Returns:
        A row per kind, task and width, in the frame's order: kind ("alone" or "together"), task, metric, direction,
        width, seeds (with a value), value (their mean), low, high (NaN for one seed), best (whether the mean is the
        best of its kind and task; of equal ones the narrowest) and failed (seeds without a value). Where all tasks have
        one metric, the task "mean of tasks" is their mean, over the seeds that have all of them.

    Raises:
        FrameError: a column is missing, a kind or direction is unknown, a row stands twice, `select` differs, a task
        has several metrics, or `on` is unknown or has no numbers. ValueError: a confidence outside (0, 1).
    """
    rows = _checked(frame, on, "capacity_curves")
    tasks = list(dict.fromkeys(rows["task"]))
    if rows[["metric", "direction"]].drop_duplicates().shape[0] == 1:
        of = {"task": MEAN, "metric": rows["metric"].iloc[0], "direction": rows["direction"].iloc[0]}
        whole = rows.groupby(["kind", "width", "seed"], sort=False)[on].agg(lambda values: values.mean(skipna=False))
        rows = pd.concat([rows, whole.reset_index().assign(**of)], ignore_index=True)
        tasks.append(MEAN)
    found = []
    for (kind, task, width), group in rows.groupby(["kind", "task", "width"], sort=True):
        numbers = group[on].to_numpy(np.float64)
        mean, low, high = mean_interval(numbers, confidence)
        known = int(np.isfinite(numbers).sum())
        found.append(
            {"kind": kind, "task": task, "metric": group["metric"].iloc[0], "direction": group["direction"].iloc[0]}
            | {"width": width, "seeds": known, "value": mean, "low": low, "high": high}
            | {"failed": len(numbers) - known}
        )
    curves = pd.DataFrame(found)
    score = curves["value"] * _better(curves["direction"])
    best = score.groupby([curves["kind"], curves["task"]]).transform("max")
    first = ~curves[score == best].duplicated(["kind", "task"])
    curves["best"] = first.reindex(curves.index, fill_value=False).astype(bool)
    curves["place"] = curves["task"].map({task: place for place, task in enumerate(tasks)})
    return curves.sort_values(["kind", "place", "width"], kind="stable", ignore_index=True)[CURVES]


def capacity_rule(frame: pd.DataFrame, *, on: On = "value") -> pd.DataFrame:
    """Return whether the rule of thumb holds: together the best width is below the sum of the best widths alone.

    Together the best width is that of the best mean over tasks; where the metrics differ, of the best mean over tasks
    of the relative change ±(M_t − B_t) / |B_t| against B_t, the best that the task reached alone. Of equal ones the
    narrowest counts. Near its best a curve is flat, so that noise moves the best width a lot: see how many seeds agree.

    Args:
        frame, on: as for `capacity_curves`.

    Returns:
        First a row for the means over seeds, then one a seed: seed (missing in the first), together (the best width),
        alone (the sum of the best widths), widths (the best width of each task alone, as a text), holds, settled (False
        where a best width lies at the end of the grid, and a wider or narrower one could turn the answer), seeds (how
        many it counts) and share (of the seeds for which the rule holds; in the first row only). A seed in which a run
        failed has no answer and no part in the means; a task with B_t = 0 has none in a relative change.

    Raises:
        FrameError: as `capacity_curves`, and where a kind of run is missing.

    Source: Wu, Zhang, Ré, ICLR 2020, arXiv 2005.00944, the rule of thumb on model capacity. Differs: what each seed
    says of it, whether the grid could turn it, and the case of different metrics are ours.
    """
    rows = _checked(frame, on, "capacity_rule")
    if missing := [kind for kind in KINDS if not (rows["kind"] == kind).any()]:
        raise FrameError(f"capacity_rule needs runs {missing[0]}; the frame has none.")
    tasks = list(dict.fromkeys(rows["task"]))
    direction = rows.drop_duplicates("task").set_index("task").loc[tasks, "direction"]
    one = rows[["metric", "direction"]].drop_duplicates().shape[0] == 1
    wide = rows.pivot(index=["kind", "task", "seed"], columns="width", values=on).sort_index(axis=1)
    wide = wide.mul(_better(direction.loc[wide.index.get_level_values("task")]), axis=0)  # more is better
    widths = wide.columns.to_numpy()
    seeds = list(dict.fromkeys(rows["seed"]))
    whole = [seed for seed in seeds if _whole(wide[wide.index.get_level_values("seed") == seed], tasks)]
    counted = [[seed] if seed in whole else [] for seed in seeds]
    groups = [wide[wide.index.get_level_values("seed").isin(some)] for some in (whole, *counted)]
    means = [group.groupby(level=["kind", "task"]).mean() for group in groups]
    answers = [_answer(mean, tasks, widths, relative=not one) for mean in means]
    told = pd.DataFrame(answers).astype(
        {"together": "Int64", "alone": "Int64", "holds": "boolean", "settled": "boolean"}
    )
    known = told["holds"].iloc[1:].dropna()
    told["seed"] = pd.array([pd.NA, *seeds], dtype="Int64")
    told["seeds"] = [len(known), *told["holds"].iloc[1:].notna().astype(int)]
    told["share"] = [float(known.mean()) if len(known) else np.nan, *[np.nan] * len(seeds)]
    return told[RULE]


def _whole(rows: pd.DataFrame, tasks: list[str]) -> bool:
    """Whether a seed has every run."""
    return len(rows) == len(KINDS) * len(tasks) and bool(np.isfinite(rows.to_numpy(np.float64)).all())


def _answer(values: pd.DataFrame, tasks: list[str], widths: NDArray[Any], *, relative: bool) -> dict[str, Any]:
    """What the rule says of values (2 T, W), more being better, indexed by kind and task."""
    nothing = {"together": pd.NA, "alone": pd.NA, "widths": "", "holds": pd.NA, "settled": pd.NA}
    alone, together = (
        values.reindex(pd.MultiIndex.from_product([[kind], tasks])).to_numpy(np.float64) for kind in KINDS
    )
    if not np.isfinite([alone, together]).all():
        return nothing
    best = alone.argmax(axis=1)
    if relative:
        base = alone[np.arange(len(tasks)), best]
        together = (together - base[:, None])[base != 0] / np.abs(base[base != 0, None])
    if not len(together):
        return nothing
    chosen = int(together.mean(axis=0).argmax())
    total, last = int(widths[best].sum()), len(widths) - 1
    holds = bool(widths[chosen] < total)
    narrower = widths[0] > 1  # there is nothing below 1
    if holds:
        turns = chosen == last or (narrower and (best == 0).any())
    else:
        turns = (narrower and chosen == 0) or (best == last).any()
    told = ", ".join(f"{task} {widths[place]}" for task, place in zip(tasks, best, strict=True))
    return {"together": int(widths[chosen]), "alone": total, "widths": told, "holds": holds, "settled": not turns}


def _better(direction: pd.Series) -> NDArray[np.float64]:
    return np.where(direction == "max", 1.0, -1.0)


def _checked(frame: Any, on: str, needs: str) -> pd.DataFrame:
    """The rows, with names as texts and what is not finite as NaN. Raises: FrameError, see `capacity_curves`."""
    if on not in ("value", "test"):
        raise FrameError(f"{needs} is on='value' or on='test', not {on!r}.")
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"{needs} needs a frame as mv.experiments.capacity returns it, got {type(frame).__name__}.")
    columns = list(dict.fromkeys((*NEEDED, on)))
    if missing := [column for column in columns if column not in frame.columns]:
        came = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(f"{needs} needs the frame of capacity; missing: {', '.join(missing)}; got: {came}.")
    if not len(frame):
        raise FrameError(f"{needs} needs at least one row; the frame has none.")
    if "select" in frame.columns and frame["select"].nunique(dropna=False) > 1:
        raise FrameError(f"{needs} needs rows of one `select`; the frame mixes several. Take those of one.")
    rows = frame[columns].astype({"kind": object, "task": object})
    rows = rows.assign(**{on: numbers_of(rows[on], needs)})
    for column, choices in (("direction", ("max", "min")), ("kind", KINDS)):
        if wrong := sorted(set(map(str, rows[column])) - set(choices)):
            raise FrameError(f"{needs} needs the {column} {' or '.join(map(repr, choices))}, not {wrong[0]!r}.")
    one_metric(rows, needs)
    if (rows["task"] == MEAN).any():
        raise FrameError(f"{needs} calls the mean over tasks {MEAN!r}, and a task has that name; rename it.")
    if rows.duplicated(["width", "kind", "task", "seed"]).any():
        first = rows[rows.duplicated(["width", "kind", "task", "seed"])].iloc[0]
        raise FrameError(
            f"{needs} needs a row per width, kind, task and seed; {first['task']!r} {first['kind']} at width "
            f"{first['width']} stands twice for seed {first['seed']}. Select the rows of one experiment."
        )
    if rows[on].isna().all():
        hint = ": give the problem test data, and take select='final'" if on == "test" else ": every run failed"
        raise FrameError(f"{needs} has no {on} to show{hint}.")
    return rows
