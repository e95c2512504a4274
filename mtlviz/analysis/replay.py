"""What other weightings would have done at the steps of a run, and with losses of another scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtlviz.analysis.buckets import log_only
from mtlviz.analysis.effects import Effects, effects, projected
from mtlviz.analysis.outside import Inside
from mtlviz.analysis.replayable import TAKEN, Methods, labelled, raise_failures
from mtlviz.analysis.sweeps import Rows, Sweep, parts
from mtlviz.errors import FrameError, WeightingError
from mtlviz.runlog import RunLog
from mtlviz.runlog.frames import categories
from mtlviz.runlog.records import Floats

if TYPE_CHECKING:  # importing a weighting takes a second that a log without replay need not spend
    from mtlviz.weighting.method import Weighting

LEAST, MOST = 1e-100, 1e100  # factors on a loss; the Gramian takes their squares

_COLUMNS = {
    "step": "int64",
    "method": "category",
    "task": "category",
    "weight": "float64",
    "change": "float64",
    "relative": "float64",
    "cosine": "float64",
    "all_improve": "bool",
    "none_worsens": "bool",
}


def replay(
    log: RunLog,
    methods: Methods | str | Weighting,
    *,
    rescale: Mapping[str, float] | None = None,
    steps: int | Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return what each weighting would have done at every step of the trajectory that was taken.

    The weightings see the logged losses and Gramians of the surviving steps, in order and from their initial state; a
    random one draws the numbers that it would have drawn in the run. So the run's own weighting gives the logged
    weights again. It says nothing of where a run of another weighting would have gone.

    Where the run's own update d was no weighted sum Jᵀw of the gradients (AdaTask, GradDrop and the like), the logged
    weights are the nearest ones, and d − Jᵀw is orthogonal to every gradient. The log then has the measure
    "outside_span", s = ‖d − Jᵀw‖ / ‖d‖, and what is said of d is that of Jᵀw times √(1 − s²): exact, too.

    Args:
        log: a RunLog.
        methods: names, `Weighting` instances (copies of them are used), or a mapping of labels to either. A label is
            the method's name; where two have the same, their settings. "all" stands for every name whose inputs a log
            holds and that is not there already.
        rescale: factors c on the losses of some tasks, from 1e-100 to 1e100: the weightings then see c·L_t and the
            gradients c·g_t. What was taken stays as it was.
        steps: which surviving steps to return: at most so many, evenly spaced, or those of these numbers; None all.
            Stateful weightings go through every step all the same.

    Returns:
        A row per method, step and task: step, method and task (categoricals), weight (as the method gave it, in its
        own scale, on the rescaled losses; 0 where the task is absent), change (predicted, to first order, of the
        task's own unscaled loss, per unit length of the shared update), relative (change ÷ ‖g_t‖, from −1, the
        steepest descent, to 1). Of the step: cosine (to the direction that was taken, before the optimizer; NaN
        where either is zero), all_improve (every present task's change is below 0) and none_worsens (none is above),
        both beyond rounding. Where the update is zero, or a task's gradient, change is 0: that task does not improve.
        An absent task's change is NaN. The first method is "taken", the run's own update with the logged weights;
        where the log has outside_span, but not of this step, the change of that update and all cosines to it are NaN.

    Raises:
        WeightingError: an unknown method, two with one label, or, all of them named at once, methods whose inputs no
            log holds or that fail at a step (which is named).
        FrameError: no log, a factor out of range, a task or a step that is not in the log.
    """
    now = log_only(log, needs="replay", because="it takes losses and Gramians").snapshot()
    scale = factors(now, rescale)
    found, failures = labelled(methods)
    surviving = np.flatnonzero(~now.discarded)
    chosen = _chosen(now, surviving, steps)
    weights: dict[str, Floats] = {}
    cause: WeightingError | None = None
    for label, weighting in _reset(now, found).items():
        sweep = Sweep(label, weighting, scale)
        try:
            for new in parts(now, surviving if sweep.stateful else surviving[chosen]):
                sweep.take(new)
        except WeightingError as error:
            failures[label], cause = f"{error}.", cause or error
        else:
            weights[label] = sweep.weights[chosen] if sweep.stateful else sweep.weights
    if failures:
        raise_failures(failures, weights, cause)
    inside = Inside()
    inside.follow(now)
    return tidy(now, surviving[chosen], weights, scale, inside.at(now.recorded_steps[surviving[chosen]]))


def ready(log: RunLog, methods: Methods | str | Weighting) -> dict[str, Weighting]:
    """Return a copy of each method, reset as the run's own was and told the tasks' classes, by label.

    Args, Raises: as `replay`.
    """
    found, refusals = labelled(methods)
    if refusals:
        raise_failures(refusals, found, None)
    return _reset(log, found)


def _reset(log: RunLog, found: dict[str, Weighting]) -> dict[str, Weighting]:
    seed = log.info.config.get("weighting_seed", 0)
    for weighting in found.values():
        weighting.reset(seed=seed if isinstance(seed, int) else 0)
        weighting.prepare([task.classes for task in log.tasks])
        weighting.introduce(log.names)
    return found


def factors(log: RunLog, rescale: Mapping[str, float] | None) -> Floats:
    """Return the factor (T,) on each task's loss.

    Raises:
        FrameError: naming a task that the log does not have, or a factor that is no number from `LEAST` to `MOST`.
    """
    scale = np.ones(len(log.names))
    for task, factor in (rescale or {}).items():
        if task not in log.names:
            raise FrameError(f"replay cannot rescale {task!r}; the tasks of this log are {', '.join(log.names)}.")
        number = isinstance(factor, int | float | np.integer | np.floating) and not isinstance(factor, bool)
        if not (number and LEAST <= factor <= MOST):
            raise FrameError(f"replay needs a factor from {LEAST:g} to {MOST:g} for {task}; came {factor!r}.")
        scale[log.names.index(task)] = factor
    return scale


def tidy(log: RunLog, rows: Rows, weights: Mapping[str, Floats], scale: Floats, inside: Floats) -> pd.DataFrame:
    """Return the frame of `replay`, from the weights of each method at its first steps of those at `rows`.

    Args:
        log: a snapshot.
        rows: (n,) places of the steps in the log's arrays.
        weights: by label, (m, T) each with m ≤ n.
        scale: the factors (T,) on the losses under which the methods gave these weights.
        inside: (n,) as `Inside.at` gives it.
    """
    labels, T = [TAKEN, *weights], len(log.names)
    if not len(rows):
        return _empty(log, labels)
    given = np.zeros((len(labels), len(rows), T))  # beyond a method's steps: nothing, cut off below
    for index, own in enumerate(weights.values(), start=1):
        given[index, : len(own)] = own
    factor = np.ones((len(labels), 1, T))
    factor[1:] = scale
    found: list[Effects] = []
    begin = 0
    for new in parts(log, rows):
        end = begin + len(new.step)
        given[0, begin:end] = new.weights
        known = effects(given[:, begin:end] * factor, new.weights, new.gramians, new.present)
        found.append(projected(known, inside[begin:end], new.present))
        begin = end
    has = np.arange(len(rows)) < np.array([len(rows), *map(len, weights.values())])[:, None]  # (methods, n)
    method, place = np.nonzero(has)

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in found], axis=1)[has]

    return pd.DataFrame(
        {
            "step": np.repeat(log.recorded_steps[rows][place], T),
            "method": categories(np.repeat(method, T), labels),
            "task": categories(np.tile(np.arange(T), len(method)), log.names),
            "weight": given[has].ravel(),
            **{name: column(name).ravel() for name in ("change", "relative")},
            **{name: np.repeat(column(name), T) for name in ("cosine", "all_improve", "none_worsens")},
        },
        copy=False,
    )


def _empty(log: RunLog, labels: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _COLUMNS.items()})
    none = np.empty(0, np.intp)
    return frame.assign(method=categories(none, labels), task=categories(none, log.names))


def _chosen(log: RunLog, surviving: Rows, steps: int | Sequence[int] | None) -> Rows:
    """Return the places in `surviving` of the steps to return."""
    if steps is None:
        return np.arange(len(surviving))
    if isinstance(steps, int | np.integer) and not isinstance(steps, bool):
        if steps < 1:
            raise FrameError(f"replay needs at least 1 step to return, but steps is {steps!r}.")
        return np.unique(np.linspace(0, len(surviving) - 1, min(int(steps), len(surviving))).round().astype(np.intp))
    known = log.recorded_steps[surviving]
    wanted = np.unique(np.asarray(steps))
    missing = wanted[~np.isin(wanted, known)]
    if len(missing):
        raise FrameError(f"replay needs recorded steps that no rewind discarded; these are not: {missing[:5].tolist()}")
    return np.searchsorted(known, wanted)
