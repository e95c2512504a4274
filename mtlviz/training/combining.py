"""How a step's task gradients become one update: weightings, functions and aggregators, asked and checked alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mtlviz.errors import WeightingError
from mtlviz.gradients.aggregator import Aggregator, Combined, StepView
from mtlviz.runlog import derived
from mtlviz.runlog.records import Floats
from mtlviz.weighting import Method, Weighting
from mtlviz.weighting.kernels import Mask

Function = Callable[[Floats, Floats], Floats]


def method_name(method: Method | Function) -> str:
    """What the log calls a method or a function."""
    return getattr(method, "name", getattr(method, "__name__", repr(method)))


def combination(
    method: Method | Function, view: StepView, *, step: int, tasks: Sequence[str], held: Mask | None = None
) -> Combined:
    """The checked weights (T,) of a step, 0 where a task is absent, and the direction where it is not Jᵀw.

    held: (T,) tasks that are to stay as they are. The method balances the others, as though these were absent, and they
    get the mean of those weights: their gradients vanish, which a method such as MGDA would take for an optimum. Where
    every present task is held, the method balances them all; so does, always, an aggregator that cannot leave one out.

    Raises: WeightingError naming the method and the step for losses that the method cannot take, and for weights
    nobody can use. An exception of the user's own code passes, with a note that names them.
    """
    if held is None or not (held & view.present).any() or (isinstance(method, Aggregator) and not method.leaves_out):
        return _balanced(method, view, step=step, tasks=tasks)
    if not (view.present & ~held).any():
        return _balanced(method, view, step=step, tasks=tasks)
    learning = _balanced(method, _without(view, held), step=step, tasks=tasks)
    weights = derived.with_held(learning.weights, view.present, held)
    direction = learning.direction
    if direction is not None:
        extra = torch.from_numpy(np.where(held, weights, 0.0)).to(direction)
        direction = direction + extra @ view.gradients.jacobian.to(direction)
    return Combined(weights, direction)


def _without(view: StepView, held: Mask) -> StepView:
    """The view in which some tasks are absent."""
    losses, gramian = view.losses.copy(), view.gramian.copy()
    representation = None if view.representation is None else view.representation.copy()
    losses[held] = np.nan
    for matrix in (gramian, representation):
        if matrix is not None:
            matrix[held, :] = np.nan
            matrix[:, held] = np.nan
    present = view.present & ~held
    return replace(view, losses=losses, gramian=gramian, representation=representation, present=present)


def _balanced(method: Method | Function, view: StepView, *, step: int, tasks: Sequence[str]) -> Combined:
    """What the method makes of the tasks that are present, checked."""
    name = method_name(method)
    if isinstance(method, Weighting) and method.positive:
        _check_positive(name, view, step, tasks)
    try:
        if isinstance(method, Aggregator):
            given = method.combine(view)
        elif isinstance(method, Weighting):
            gramian = view.gramian if view.representation is None else view.representation
            given = Combined(method(view.losses, gramian, view.present))
        else:
            given = Combined(method(view.losses.copy(), view.gramian.copy()))  # type: ignore[operator]
    except WeightingError as error:
        raise WeightingError(f"{error} (at step {step}; the tasks are {', '.join(tasks)})") from error
    except Exception as error:  # the user's own method may raise anything: it goes on, with where it came up
        error.add_note(f"(in the weighting {name}, at step {step})")
        raise
    weights = _numbers(name, given.weights, step)
    if weights.shape != view.losses.shape:
        raise WeightingError(
            f"weighting {name} must return one weight per task, shape {view.losses.shape}; "
            f"got {weights.shape} at step {step}"
        )
    weights[~view.present] = 0.0
    if not np.isfinite(weights).all():
        values = ", ".join(f"{task}: {value:g}" for task, value in zip(tasks, weights, strict=True))
        raise WeightingError(f"weighting {name} returned weights that are not finite at step {step} ({values})")
    if given.direction is not None and not torch.isfinite(given.direction).all():
        raise WeightingError(f"weighting {name} returned a direction that is not finite at step {step}")
    return Combined(weights, given.direction)


def _check_positive(name: str, view: StepView, step: int, tasks: Sequence[str]) -> None:
    for t, task in enumerate(tasks):
        if view.present[t] and view.losses[t] <= 0:
            raise WeightingError(f"{name} needs losses above 0; task {task!r} has {view.losses[t]:g} at step {step}")


def _numbers(name: str, weights: Any, step: int) -> Floats:
    try:
        if isinstance(weights, torch.Tensor):
            weights = weights.detach().cpu().numpy()
        weights = np.asarray(weights)
        if weights.dtype.kind not in "biuf":
            raise TypeError(f"real numbers were needed, {weights.dtype} came")
        return weights.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise WeightingError(f"weighting {name} returned no numbers at step {step}: {error}") from error


def cancelling(view: StepView, combined: Combined) -> bool:
    """Whether Jᵀw is a thousand times shorter than what it is the sum of, so that float32 would lose it."""
    weights, gramian = combined.weights[view.present], view.gramian[np.ix_(view.present, view.present)]
    parts = float(np.abs(weights) @ np.sqrt(np.diag(gramian)))
    return bool(parts > 1e3 * np.sqrt(max(float(weights @ gramian @ weights), 0.0)))
