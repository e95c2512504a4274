"""What training emits: one frozen record per step, validation, event and measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PHASES = ("supervised", "distilled", "waiting")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One update of the model; everything is taken before the update, at the parameters that it starts from.

    A task without a labelled sample in the batch is absent: its loss, its row and column of the Gramians are NaN
    (never zero), its weight is 0 and its sample count 0.

    Args:
        step: updates done once this one is, 1 for the first; only grows.
        position: updates on the surviving trajectory, 1 <= position <= step; a rewind moves it back.
        time: seconds since the run began.
        losses: (T,) in each loss's own unit.
        weights: (T,) raw, as the weighting returned them.
        gramian: (T, T) inner products of the tasks' gradients of the shared parameters, symmetric, in units of
            loss² per parameter².
        samples: (T,) labelled samples in the batch.
        learning_rate: of the optimizer's first parameter group.
        phases: (T,) of PHASES: "supervised", "distilled" or "waiting".
        layers: (K, T, T) one Gramian per layer, where recorded, else None; they add up to `gramian`.
    """

    step: int
    position: int
    time: float
    losses: Floats
    weights: Floats
    gramian: Floats
    samples: Integers
    learning_rate: float
    phases: tuple[str, ...]
    layers: Floats | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """One task's metric on the validation split.

    Args:
        step: updates done before it, from 0; may not go back.
        position: updates on the surviving trajectory, 0 <= position <= step.
        task: the task's name.
        metric: the metric's name: "accuracy", "pr_auc", ...
        value: in the metric's own unit; NaN where it is undefined.
    """

    step: int
    position: int
    task: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the run, or to one of its tasks.

    The kinds that a log knows; others may be added, and are kept as they are:
    - "start", "pause", "resume": the run goes on, halts, goes on again;
    - "stop", "finish": it ended before its last planned update, or with it;
    - "nonfinite": the task's loss or gradient became NaN or infinite, which ended the run;
    - "error": an exception ended the run; detail has its "type", "message" and "traceback";
    - "convergence": the task's validations stopped improving; detail tells its "best", and the "best_step" and
      "best_position" of it;
    - "rewind": the parameters are again those of position p, detail={"to": p}: later positions were thrown away;
    - "distillation": from here on the task learns from soft labels;
    - "task_added": the task begins to learn;
    - "step_cap": the run did all the steps it may before every task had converged.

    Args:
        step: updates done before it, from 0; may not go back.
        position: updates on the surviving trajectory, 0 <= position <= step.
        kind: as above.
        task: the name of the task that it is about; None for the run itself.
        detail: JSON values.
    """

    step: int
    position: int
    kind: str
    task: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measure:
    """Any further diagnostic of the run, of a task, of a pair of tasks, or of a layer.

    Args:
        step: updates done before it, from 0; in any order.
        name: what was measured.
        value: a number in the measure's own unit.
        task: the name of the task, or of the pair's first task; None for the run.
        other: the name of the pair's second task, or None.
        layer: the name of the layer, or None.
    """

    step: int
    name: str
    value: float
    task: str | None = None
    other: str | None = None
    layer: str | None = None


Record = Step | Validation | Event | Measure
