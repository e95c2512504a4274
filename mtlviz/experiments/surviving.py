"""What a run reached on the curve that its rewinds left: best and last validations, and how much they wobble."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis import validations
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog

_ABSOLUTE = np.sqrt(2 / np.pi) * np.sqrt(6)  # mean |v₊ − 2v + v₋| of normal values with standard deviation 1


def wobble(values: NDArray[np.float64]) -> float:
    """σ: the standard deviation of one validation about its curve (n,), in the metric's unit; NaN below 5 values.

    It is taken from the second differences v₊ − 2v + v₋ of the later half, which a straight trend does not have:
    mean |·| / (√6 √(2/π)), as of normal values.
    """
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return np.nan
    second = np.diff(values[min(len(values) // 2, len(values) - 5) :], n=2)
    return float(np.abs(second).mean() / _ABSOLUTE)


def reached(log: RunLog) -> pd.DataFrame:
    """Return each task's best and last validation in a run, and how the run treated the task.

    Best is the best on the surviving curve or, where a later rewind went back behind it, the one at which the task
    converged: the best that the run has a checkpoint of. All else is of the surviving curve.

    Returns:
        A row per task: task, best, best_step, final (in the metric's unit), noise (see `wobble`), converged_at (the
        step at which it had converged, on the clock of work; missing where it did not), distilled (the share of the
        surviving updates in which it was), unconverged (the run ended at its cap before it converged), train_steps
        (updates done, discarded ones too), surviving_steps and monitored_on (the split that its validations were
        measured on).
    """
    curves = log.validations
    curves = curves[~curves["discarded"].to_numpy(bool) & np.isfinite(curves["value"].to_numpy(np.float64))]
    steps = log.steps
    steps = steps[~steps["discarded"].to_numpy(bool)]
    monitored = log.info.config.get("monitored_on") or {}
    rows = []
    for task in log.tasks:
        own = curves[(curves["task"] == task.name).to_numpy()].sort_values("position", kind="stable")
        phase = steps.loc[(steps["task"] == task.name).to_numpy(), "phase"]
        rows.append(
            {"task": task.name}
            | _judged(own, _events(log.events, task.name), task.direction)
            | {
                "distilled": float((phase == "distilled").mean()) if len(phase) else np.nan,
                "train_steps": int(log.last_step or 0),
                "surviving_steps": len(phase),
                "monitored_on": monitored.get(task.name, "validation"),
            }
        )
    return pd.DataFrame(rows).astype({"best_step": "Int64", "converged_at": "Int64"})


def _events(events: pd.DataFrame, task: str) -> dict[str, Any]:
    """What the schedule said of a task: its convergence (step and detail), where it was added, whether it was left."""
    own = events[(events["task"] == task).to_numpy()]
    found: dict[str, Any] = {"added": 0, "convergence": None, "unconverged": False}
    for event in own.itertuples():
        if event.kind == "task_added":
            found["added"] = event.position
        elif event.kind == "convergence":
            found["convergence"] = (event.step, event.detail)
    for detail in events.loc[(events["kind"] == "step_cap").to_numpy(), "detail"]:
        found["unconverged"] = task in detail["unconverged"]
    return found


def _judged(own: pd.DataFrame, said: dict[str, Any], direction: str) -> dict[str, Any]:
    """Best and last validation of a task's surviving curve, and how much it wobbles."""
    own = own[own["position"].to_numpy() >= said["added"]]  # a head that waited was judged, but had learned nothing
    values, better = own["value"].to_numpy(np.float64), 1.0 if direction == "max" else -1.0
    at = int(np.argmax(better * values)) if len(values) else -1
    best, step = (values[at], own["step"].iloc[at]) if len(values) else (np.nan, pd.NA)
    converged = pd.NA
    if said["convergence"] is not None:
        converged, detail = said["convergence"]
        if not better * detail["best"] <= better * best:
            best, step = detail["best"], detail["best_step"]
    return {
        "best": best,
        "best_step": step,
        "final": values[-1] if len(values) else np.nan,
        "noise": wobble(values),
        "converged_at": converged,
        "unconverged": said["unconverged"],
    }


def convergence_curves(frame: pd.DataFrame, *, seed: int | None = None) -> pd.DataFrame:
    """Return the validations of a study's runs, for `mv.figures.convergence_curves`.

    Args:
        frame: as `mv.experiments.convergence_study` returns it, of a study that keeps its runs in a folder.
        seed: of which runs; the first of the frame unless given.

    Returns:
        A row per validation: method and task (both in the frame's order), seed, and the columns of
        `mv.analysis.validations`: step, position, discarded, metric, value, direction, best, phase ("supervised" in
        runs without a schedule) and decided (at the validation that was kept when the task converged: the step at which
        that was decided); then behind, how far the value lies from the best that the run kept, 0 or below; above it lie
        at most what a rewind threw away, and the lucky guess of a head that waited.

    Raises:
        FrameError: a column is missing, the seed is not in the frame, or there is no run to read.
    """
    if not isinstance(frame, pd.DataFrame) or not {"method", "seed", "task", "folder"} <= set(frame.columns):
        raise FrameError("convergence_curves needs the frame of a convergence study: method, seed, task and folder.")
    if not len(frame):
        raise FrameError("convergence_curves needs at least one row; the frame has none.")
    seed = int(frame["seed"].iloc[0]) if seed is None else seed
    rows = frame[(frame["seed"] == seed).to_numpy()]
    if not len(rows):
        raise FrameError(f"convergence_curves has no seed {seed}; the frame has {list(frame['seed'].unique())}.")
    if "is_run" in rows.columns:
        rows = rows[rows["is_run"].astype(bool)]
    rows = rows[(rows["folder"] != "") & (rows["status"] == "finished" if "status" in rows.columns else True)]
    if not len(rows):
        raise FrameError(
            "convergence_curves reads the logs of the runs, and this frame names none: call convergence_study with "
            "folder=..., which keeps them."
        )
    runs = rows[["method", "folder"]].drop_duplicates().astype(str)
    parts = [_curves(Path(folder)).assign(method=method, seed=seed) for method, folder in runs.to_numpy()]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(method=_ordered(whole["method"], rows["method"]), task=_ordered(whole["task"], rows["task"]))


def _curves(folder: Path) -> pd.DataFrame:
    frame = validations(RunLog.open(folder)).astype({"task": object})
    if "phase" not in frame.columns:
        frame = frame.assign(phase="supervised", decided=np.nan)
    learned = ~frame["discarded"] & (frame["phase"].astype(object) != "waiting")
    kept = learned | frame["decided"].notna()  # the kept one may be discarded by a later rewind
    value = frame["value"].where(np.isfinite(frame["value"])) * np.where(frame["direction"] == "max", 1.0, -1.0)
    best = value.where(kept).groupby(frame["task"]).transform("max")
    phase, decided = frame["phase"].astype(object), frame["decided"].astype("Int64")
    return frame.assign(phase=phase, decided=decided, behind=value - best)


def _ordered(column: pd.Series, order: Iterable[object]) -> Any:
    names = list(dict.fromkeys(str(name) for name in order))
    return pd.Categorical(column.astype(str), categories=names, ordered=True)
