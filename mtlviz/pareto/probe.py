"""What every method would do at one point of a trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlviz.errors import ParetoError
from mtlviz.pareto.arguments import check_seed
from mtlviz.pareto.loop import led_along
from mtlviz.pareto.methods import Methods, labelled, supplies
from mtlviz.pareto.objectives import Objectives, points
from mtlviz.pareto.problems import problem_of
from mtlviz.runlog.records import Floats
from mtlviz.weighting.method import Weighting


@dataclass(frozen=True, eq=False)
class Moment:
    """One point of a trajectory, with the task gradients there and what each of M methods makes of them.

    x (2,); gradients (2, 2), a row a loss, as the methods see them (scaled); methods: M labels; weights (M, 2);
    directions (M, 2): −Σ w_t g_t, before the optimizer. NaN where a method has no weights.
    """

    x: Floats
    gradients: Floats
    methods: tuple[str, ...]
    weights: Floats

    @property
    def directions(self) -> Floats:
        """−Σ w_t g_t of each method (M, 2)."""
        return -self.weights @ self.gradients


def probe(methods: Methods | str | Weighting, path: Any, problem: str | Objectives, *, seed: int = 0) -> Moment:
    """What each method would do at the last point of a path, had it been led along it.

    A method whose weights depend on the steps before is led over every point; the others see the last alone.

    methods: as `descend` takes them. path: points (K, 2), one a step, as a `descend(..., points=None)` keeps them;
    after the end of a trajectory, where they are NaN, no method has weights. problem: as `descend` takes it, with its
    scale and offset. seed: of the methods that draw random numbers.

    Raises: ParetoError for a path that is empty, has a gap or has not two coordinates, or an unknown problem;
    WeightingError as `descend` does.
    """
    chosen = problem_of(problem)
    places = np.ascontiguousarray(points(path))
    if places.ndim != 2 or len(places) == 0:
        raise ParetoError(f"a path has a point or more, (K, 2); came the shape {np.shape(path)}")
    finite = np.array(np.isfinite(places).all(axis=1))
    if finite[-1] and not finite.all():  # at the end they say that the trajectory is over
        first = int(np.argmin(finite))
        raise ParetoError(f"point {first + 1} of the path is not finite: {tuple(map(float, places[first]))}")
    check_seed(seed)
    weightings = labelled(methods)
    common = (chosen.kernel, chosen.constants(), np.array(chosen.scale), chosen.offset)
    weights = np.empty((len(weightings), 2))
    for row, (label, weighting) in enumerate(weightings.items()):
        seen = places if weighting.stateful else places[-1:]
        own = supplies(label, weighting, len(seen), seed)
        weights[row] = led_along(
            *common, own.kernel, own.observer, own.constants, own.state, own.draws, own.positive, seen
        )
    return Moment(places[-1], chosen.gradients(places[-1]), tuple(weightings), weights)
