"""What a run is: its tasks, layers, configuration and origin, as written to `run.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a log remembers of a task; `direction` is "max" or "min": which way its metric gets better."""

    name: str
    metric: str
    direction: str
    loss: str = ""
    outputs: int | None = None
    samples: Mapping[str, int] = field(default_factory=dict)  # labelled samples per split


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a log remembers of a run."""

    problem: str
    tasks: tuple[TaskInfo, ...]
    layers: tuple[str, ...] = ()  # names of the K layers whose Gramians may be recorded
    config: Mapping[str, Any] = field(default_factory=dict)  # JSON values: weighting, steps, seed, optimizer, ...
