"""The descent: every method from every start, in compiled code on all cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mtlviz.errors import ParetoError, unknown
from mtlviz.pareto.arguments import check_seed, is_whole
from mtlviz.pareto.kernels import PLANE
from mtlviz.pareto.loop import OPTIMIZERS, Handed, trajectory
from mtlviz.pareto.methods import Methods, Supplies, labelled, supplies, warn_of
from mtlviz.pareto.objectives import Objectives, points
from mtlviz.pareto.problems import problem_of
from mtlviz.pareto.result import Descent, Ends
from mtlviz.runlog.records import Floats, Integers
from mtlviz.weighting.method import Weighting

MOST_STEPS = 10_000_000
MOST_KEPT = 20_000_000  # points of all trajectories together, 640 MB with their weights
_FAR = 100.0  # of the size of the plane that is shown: beyond, a trajectory has diverged


def descend(
    methods: Methods | str | Weighting,
    starts: Any = None,
    problem: str | Objectives = "toy",
    *,
    scale: Sequence[float] | None = None,
    offset: float | None = None,
    steps: int = 35_000,
    lr: float = 1e-3,
    optimizer: str = "adam",
    points: int | None = 2000,
    seed: int = 0,
    tolerance: float = 0.01,
    warn: bool = True,
) -> Descent:
    """Every method from every start: x ← x − lr · (SGD or Adam of) Σ w_t g_t, w the weights of the method's kernel.

    It is the kernel that training and replay run, with its state, which each trajectory has for itself; FAMO observes
    the losses after each step. The plane has no layers, so MGDA-UB's representation is the point itself.

    methods: names, `Weighting` instances, or {label: either}; those whose update is a weighted sum of the task
    gradients. starts: (N, 2) or (2,), by default the problem's own. problem: a name of `PROBLEMS` or an `Objectives`.
    scale: the factor of each loss, two positive numbers; by default that of the `Objectives`, and for a name the usual
    one, (0.1, 1) for the toy and (1, 1) for the others. offset: added to both losses, for methods that need positive
    ones; by default that of the `Objectives`. steps: of each trajectory. lr: > 0. optimizer: "adam" (torch's defaults)
    or "sgd". points: how many points of a trajectory are kept at most, evenly, the first and last among them; None
    keeps all, up to 20 million of all trajectories. seed: of the methods that draw random numbers, the same numbers for
    every start. tolerance: how far from the front a trajectory counts as on it, as a share of the front's diagonal, in
    own losses. warn: whether to warn, once, of what a method's `Weighting.notes` say of two tasks, such as BanditMTL's
    that ρ = 1.2 does not constrain them; False where another thread than the caller's descends.

    Raises: ParetoError for an unknown problem or optimizer, a start that is not finite or has not two coordinates, or a
    number out of range; WeightingError for an unknown method, or one that cannot descend on two objectives.
    """
    chosen = problem_of(problem, scale, offset)
    places = _checked_starts(chosen.starts if starts is None else starts)
    _check_numbers(steps, lr, optimizer, points, tolerance)
    check_seed(seed)
    weightings = labelled(methods)
    _check_memory(len(weightings) * len(places), steps + 1 if points is None else min(points, steps + 1))
    supplied = [supplies(label, weighting, steps, seed) for label, weighting in weightings.items()]
    kept = _kept(steps, points)
    x, weights, ends = _trajectories(chosen, supplied, places, kept, lr, optimizer == "adam")
    if warn:
        warn_of(weightings)
    return Descent(
        problem=chosen,
        methods=tuple(weightings),
        starts=places,
        steps=steps,
        lr=lr,
        optimizer=optimizer,
        tolerance=tolerance,
        step=kept,
        x=x,
        weights=weights,
        ends=ends,
    )


def _trajectories(
    problem: Objectives, methods: Sequence[Supplies], starts: Floats, kept: Integers, lr: float, adam: bool
) -> tuple[Floats, Floats, Ends]:
    """The points and the weights (M, N, K, 2) at the steps `kept` (K,), and how each trajectory ended."""
    x = np.full((len(methods), len(starts), len(kept), 2), np.nan)
    weights = np.full_like(x, np.nan)
    late = np.full((len(methods), len(starts), 2), np.nan)
    limit = _FAR * max(abs(bound) for bounds in problem.bounds for bound in bounds)
    common = (Handed(problem.kernel, PLANE), problem.constants(), np.array(problem.scale), problem.offset)

    def run(job: tuple[int, int]) -> tuple[int, int, int]:
        method, start = job
        own = _loop_arguments(methods[method])
        options = (starts[start].copy(), lr, adam, limit)
        return trajectory(*common, *own, *options, kept, x[job], weights[job], late[job])

    jobs = [(method, start) for start in range(len(starts)) for method in range(len(methods))]
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        outcomes = np.array(list(pool.map(run, jobs))).reshape(len(starts), len(methods), 3)
    code, last, conflicts = (outcomes[..., part].T for part in range(3))
    return x, weights, Ends(code, last, conflicts, late)


def _loop_arguments(method: Supplies) -> tuple[Any, ...]:
    return method.kernel, method.observer, method.constants, method.state.copy(), method.draws, method.positive


def _kept(steps: int, points: int | None) -> Integers:
    """The steps (K,) that are kept."""
    if points is None or points > steps:
        return np.arange(steps + 1)
    return np.unique(np.round(np.linspace(0, steps, points)).astype(np.int64))


def _checked_starts(starts: Any) -> Floats:
    try:
        places = np.atleast_2d(points(starts))
    except ParetoError as error:
        raise ParetoError(f"starts: {error}") from error
    if places.ndim != 2 or len(places) == 0:
        raise ParetoError(f"starts are points of the plane, (N, 2); came the shape {np.shape(starts)}")
    broken = np.flatnonzero(~np.isfinite(places).all(axis=1))
    if len(broken):
        raise ParetoError(f"start {broken[0] + 1} is not finite: {tuple(map(float, places[broken[0]]))}")
    return places


def _check_numbers(steps: Any, lr: Any, optimizer: Any, points: Any, tolerance: Any) -> None:
    if not (is_whole(steps) and 1 <= steps <= MOST_STEPS):
        raise ParetoError(f"steps must be a whole number from 1 to {MOST_STEPS:,}, got {steps!r}")
    if not _positive(lr):
        raise ParetoError(f"lr must be positive and finite, got {lr!r}")
    if optimizer not in OPTIMIZERS:
        raise ParetoError(unknown("optimizer", optimizer, OPTIMIZERS))
    if points is not None and not (is_whole(points) and points >= 2):
        raise ParetoError(f"points must be a whole number from 2 up, or None for all, got {points!r}")
    if not _positive(tolerance):
        raise ParetoError(f"tolerance must be positive and finite, got {tolerance!r}")


def _check_memory(trajectories: int, points: int) -> None:
    if trajectories * points > MOST_KEPT:
        raise ParetoError(
            f"{trajectories} trajectories of {points:,} points each are more than fit in memory; give points, at most "
            f"{MOST_KEPT // trajectories:,}"
        )


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(0 < value < np.inf)
