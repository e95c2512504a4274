"""The methods that a descent runs, under their labels."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlviz.errors import WeightingError
from mtlviz.pareto.loop import Handed, unobserved
from mtlviz.runlog.records import Floats
from mtlviz.weighting import METHODS, labels, named
from mtlviz.weighting.kernels import OBSERVED, SIGNATURE
from mtlviz.weighting.labels import Methods
from mtlviz.weighting.method import Method, Weighting

REFUSED = frozenset({"graddrop", "adatask"})
"""The methods whose update is no weighted sum of the task gradients; known without importing them and torch."""


@dataclass(frozen=True)
class Supplies:
    """What the compiled loop needs of one method, for one descent."""

    kernel: Handed
    observer: Handed
    constants: Floats
    state: Floats  # fresh; to be copied for each trajectory
    draws: Floats  # (S, D)
    positive: bool


def labelled(methods: Methods | str | Weighting) -> dict[str, Weighting]:
    """The weightings by label: their names, or what a mapping calls them; two of one name are told by their settings.

    Raises: WeightingError for something that is no weighted sum, an unknown name, or two methods of one label.
    """
    found: dict[str, Weighting] = labels.labelled("the descent", methods, _weighting)
    if not found:
        raise WeightingError(f"a descent needs one method or more; choose among {', '.join(_choices())}")
    return found


def warn_of(weightings: Mapping[str, Weighting]) -> None:
    """Warns, at the line that called the caller, of what the weightings say of two tasks, each note once."""
    for note in dict.fromkeys(note for weighting in weightings.values() for note in weighting.notes(2)):
        warnings.warn(note, UserWarning, stacklevel=3)


def supplies(label: str, weighting: Weighting, steps: int, seed: int) -> Supplies:
    """What a descent of `steps` steps needs of this weighting.

    Raises: WeightingError, naming the method, where its kernel is not compiled, its settings do not fit two losses, or
    it does not return two weights.
    """
    weighting = copy.deepcopy(weighting)
    try:
        weighting.prepare((1, 1))
        weighting.introduce(("loss 1", "loss 2"))
        constants, state, draws = weighting.fresh(2, steps + 1, seed=seed)
    except WeightingError as error:
        raise WeightingError(f"{label} cannot descend on two objectives: {error}") from error
    if SIGNATURE not in getattr(weighting.kernel, "nopython_signatures", ()):
        raise WeightingError(
            f"{label} needs a compiled kernel for the descent: decorate it with mtlviz.weighting.kernels.kernel"
        )
    trial = weighting.kernel(np.ones(2), np.eye(2), np.ones(2, dtype=np.bool_), constants, state.copy(), draws[0])
    if np.shape(trial) != (2,):
        raise WeightingError(
            f"{label}: its kernel must return weights (2,) of two losses; it returned {np.shape(trial)}"
        )
    observer = Handed(weighting.observer or unobserved, OBSERVED)
    return Supplies(Handed(weighting.kernel, SIGNATURE), observer, constants, state, draws, bool(weighting.positive))


def _choices() -> list[str]:
    return [name for name in METHODS if name not in REFUSED]


def _weighting(method: Any) -> Weighting:
    if isinstance(method, str):
        if method in REFUSED:
            raise WeightingError(_no_weighted_sum(method))
        method = named(method)
    if isinstance(method, Method) and not isinstance(method, Weighting):
        raise WeightingError(_no_weighted_sum(method.name))
    if not isinstance(method, Weighting):
        raise WeightingError(f"a descent needs names of methods or Weighting instances; came {method!r}")
    return method


def _no_weighted_sum(name: str) -> str:
    return f"{name}: its update is no weighted sum of the task gradients; the descent takes {', '.join(_choices())}"
