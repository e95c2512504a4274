"""What a descent returns: the trajectories, and a verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.pareto.loop import FINE, LEFT, NO_WEIGHTS, NOT_POSITIVE
from mtlviz.pareto.objectives import Objectives
from mtlviz.pareto.thinning import thinned
from mtlviz.runlog.records import Floats, Integers

VERDICTS = ("on the front", "still moving", "stuck", "diverged", "undefined")
ON_THE_FRONT, MOVING, STUCK, DIVERGED, UNDEFINED = VERDICTS

STILL = 1e-3  # of the diagonal of the plane: who moves less in the last tenth of the steps may have come to rest,
SLOW = 0.1  # if that is also less than this part of its pace, which in a short run leads nowhere far


@dataclass(frozen=True, eq=False)
class Ends:
    """How each of M × N trajectories ended.

    code (M, N): of `mtlviz.pareto.loop`. last (M, N): the last step with weights, -1 where there is none. conflicts
    (M, N): the steps, up to the last, with a conflict. late (M, N, 2): the point after nine tenths of the steps; where
    a trajectory ended early, its last point, NaN if it had none.
    """

    code: Integers
    last: Integers
    conflicts: Integers
    late: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Descent:
    """The trajectories of M methods from N starts, of each K points that were kept.

    problem: with its scale and offset. methods: M labels. starts (N, 2). steps, lr, optimizer, tolerance: as `descend`
    was told. step (K,): of the points. x (M, N, K, 2): the points. weights (M, N, K, 2): what the method gives there.
    After the end of a trajectory that diverged or became undefined both are NaN.
    """

    problem: Objectives
    methods: tuple[str, ...]
    starts: Floats
    steps: int
    lr: float
    optimizer: str
    tolerance: float
    step: NDArray[np.int64]
    x: Floats
    weights: Floats
    ends: Ends

    def __repr__(self) -> str:
        methods = ", ".join(self.methods)
        run = f"scale {self.problem.scale}, {self.steps:,} steps of {self.optimizer}, lr {self.lr:g}"
        return f"Descent({methods} from {len(self.starts)} starts on {self.problem.name}, {run})"

    @cached_property
    def losses(self) -> Floats:
        """The losses (M, N, K, 2) at the points, each in its own units: before scale and offset."""
        return self.problem.own_losses(self.x)

    @cached_property
    def cosine(self) -> Floats:
        """The cosine (M, N, K) of the two task gradients; a conflict where it is below 0, NaN where one is 0."""
        g = self.problem.gradients(self.x)
        lengths = np.hypot(g[..., 0], g[..., 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip((g[..., 0, :] * g[..., 1, :]).sum(axis=-1) / lengths.prod(axis=-1), -1.0, 1.0)

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """The points (M, N, K) that a screen can show apart, as `thinned` finds them."""
        return thinned(self)

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """A row per (method, start, step): method, start (from 1), step, x1, x2, loss_1, loss_2 (in own units),
        weight_1, weight_2, cosine, conflict; all but the first three missing after the end of a trajectory."""
        methods, starts, kept, _ = self.x.shape
        columns = {
            "method": self._method_column(starts * kept),
            "start": np.tile(np.repeat(np.arange(1, starts + 1), kept), methods),
            "step": np.tile(self.step, methods * starts),
        }
        for name, values in (("x{}", self.x), ("loss_{}", self.losses), ("weight_{}", self.weights)):
            columns |= {name.format(t + 1): values[..., t].ravel() for t in range(2)}
        cosine = self.cosine.ravel()
        conflict = pd.array(cosine < 0, dtype="boolean")
        conflict[np.isnan(self.x[..., 0]).ravel()] = pd.NA
        return pd.DataFrame(columns | {"cosine": cosine, "conflict": conflict})

    @cached_property
    def last(self) -> Floats:
        """The last point (M, N, 2) of each trajectory; NaN where there was none."""
        return np.where((self.ends.code == FINE)[..., None], self.x[:, :, -1], self.ends.late)

    @cached_property
    def equal_weights(self) -> Floats:
        """The minima (K, 2) of the weighted sum at the problem's scale, K > 1 where several tie: where equal weights
        go, unless they end in a local minimum."""
        return self.problem.minimisers(self.problem.scale)

    @cached_property
    def distance_to_front(self) -> Floats:
        """How far (M, N) the last points lie from the front, in the plane of the own losses."""
        return self.problem.distance_to_front(self.problem.own_losses(self.last))

    @cached_property
    def verdict(self) -> NDArray[np.object_]:
        """The verdict (M, N) on each trajectory, of `VERDICTS`; `verdicts` says what they mean."""
        (low1, high1), (low2, high2) = self.problem.bounds
        moved = np.hypot(*np.moveaxis(self.last - self.ends.late, -1, 0))
        way = np.hypot(*np.moveaxis(self.last - self.starts, -1, 0))
        pace = self.lr if self.optimizer == "adam" else way / self.steps
        far = np.minimum(STILL * np.hypot(high1 - low1, high2 - low2), SLOW * pace * max(self.steps // 10, 1))
        near = self.distance_to_front <= self.tolerance * np.hypot(*np.ptp(self.problem.front, axis=0))
        verdict = np.where(near, ON_THE_FRONT, np.where(moved <= far, STUCK, MOVING)).astype(object)
        verdict[self.ends.code == LEFT] = DIVERGED
        verdict[np.isin(self.ends.code, (NOT_POSITIVE, NO_WEIGHTS))] = UNDEFINED
        return verdict

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A row per (method, start), on the last point of each trajectory.

        verdict: "on the front", within the tolerance; "stuck", at rest elsewhere: in the last tenth of the steps it
        came no farther than a thousandth of the plane's diagonal, and less than a tenth as far as its pace would lead,
        which is lr a step under Adam and its own mean under SGD; "still moving", if not; "diverged", far out of the
        plane or not a number; "undefined", where the method has no weights. detail says of the last two where and why.
        distance_to_front: in the plane of own losses. distance_to_best: in the plane of parameters, to the nearest
        best-average point. gap: how far the mean of the own losses lies above the best. conflict_rate: the share of
        the points, one before each step and the last, at which the gradients conflict; on the front they always do, so
        it grows with the time spent there. last_step: the last with weights, -1 where there is none.

        "stuck" speaks of the last tenth of the steps: who jumps to and fro across a valley may come on later.
        """
        count = len(self.starts)
        losses = self.problem.own_losses(self.last)
        with np.errstate(invalid="ignore", divide="ignore"):
            conflict_rate = self.ends.conflicts / (self.ends.last + 1)
        columns = {
            "method": self._method_column(count),
            "start": np.tile(np.arange(1, count + 1), len(self.methods)),
            "verdict": pd.Categorical(self.verdict.ravel(), VERDICTS),
            "distance_to_front": self.distance_to_front.ravel(),
            "distance_to_best": self.problem.distance_to_best(self.last).ravel(),
            "gap": self.problem.gap(losses).ravel(),
            "loss_1": losses[..., 0].ravel(),
            "loss_2": losses[..., 1].ravel(),
            "conflict_rate": conflict_rate.ravel(),
            "last_step": self.ends.last.ravel(),
            "detail": self._details().ravel(),
        }
        return pd.DataFrame(columns)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per method: starts; on_the_front, how many of them get there; sound, how many neither diverged nor
        became undefined; the means of distance_to_best and gap over those, and of conflict_rate over all."""
        rows = self.verdicts
        sound = ~rows.verdict.isin([DIVERGED, UNDEFINED])
        rows = rows.assign(
            on_the_front=rows.verdict == ON_THE_FRONT,
            sound=sound,
            distance_to_best=rows.distance_to_best.where(sound),
            gap=rows.gap.where(sound),
        )
        means = {name: (name, "mean") for name in ("distance_to_best", "gap", "conflict_rate")}
        grouped = rows.groupby("method", observed=False, sort=False)
        return grouped.agg(
            starts=("start", "size"), on_the_front=("on_the_front", "sum"), sound=("sound", "sum"), **means
        ).reset_index()

    def _method_column(self, repeats: int) -> pd.Categorical:
        return pd.Categorical(np.repeat(np.array(self.methods, dtype=object), repeats), list(self.methods))

    def _details(self) -> NDArray[np.object_]:
        details = np.full(self.ends.code.shape, "", dtype=object)
        for place in zip(*np.nonzero(self.ends.code != FINE), strict=True):
            step, method = self.ends.last[place] + 1, self.methods[place[0]]
            details[place] = {
                NOT_POSITIVE: f"{method} needs losses above 0, and at step {step:,} one is not; raise the offset",
                NO_WEIGHTS: f"{method} gives no finite weights at step {step:,}; where it takes logarithms of losses, "
                "raise the offset",
                LEFT: f"far outside of the plane, or no number, from step {step:,} on",
            }[int(self.ends.code[place])]
        return details
