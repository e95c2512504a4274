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
    """

    step: int  # the work done: 1 for the first update; only grows
    position: int  # the place on the surviving trajectory; a rewind moves it back
    time: float  # seconds since the run began
    losses: Floats  # (T,)
    weights: Floats  # (T,) raw, as the weighting returned them
    gramian: Floats  # (T, T) of the shared gradients, symmetric
    samples: Integers  # (T,) labelled samples in the batch
    learning_rate: float  # of the optimizer's first parameter group
    phases: tuple[str, ...]  # (T,) each one of PHASES
    layers: Floats | None = None  # (K, T, T) one Gramian per layer, where recorded; they add up to `gramian`


@dataclass(frozen=True, slots=True)
class Validation:
    """One task's metric on the validation split after `step` updates."""

    step: int
    position: int
    task: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the run (`task` None) or to one task after `step` updates.

    A `rewind` carries `detail={"to": p}`: the parameters are again those of position p.
    """

    step: int
    position: int
    kind: str
    task: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON values


@dataclass(frozen=True, slots=True)
class Measure:
    """Any further diagnostic: `name`, of a task, of a pair of tasks, of a layer, or of the run."""

    step: int
    name: str
    value: float
    task: str | None = None
    other: str | None = None
    layer: str | None = None


Record = Step | Validation | Event | Measure
