"""The equity experiment: which methods reach the front and the best average, whatever the scale of a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from mtlviz.errors import ParetoError
from mtlviz.pareto.arguments import checked_margin, several
from mtlviz.pareto.descent import descend
from mtlviz.pareto.methods import Methods, labelled, warn_of
from mtlviz.pareto.objectives import Objectives, checked_number
from mtlviz.pareto.problems import problem_of
from mtlviz.pareto.result import DIVERGED, ON_THE_FRONT, UNDEFINED, Descent
from mtlviz.weighting.emtl import EMTL, Merge, Rate
from mtlviz.weighting.method import Weighting

COMPARED = ("emtl", "mgda", "nash_mtl", "imtl_g", "bandit_mtl", "cagrad", "pcgrad", "equal")
"""EMTL, the method inside it, those that its paper compares it with on the toy, and three more."""

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Factors of the first loss."""

BETAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
RHOS = (0.01, 0.03, 0.1, 0.3, 0.69)
"""Constants of EMTL; β = 1 is MGDA, and ρ = 0.69 hardly constrains two tasks, log 2 = 0.693."""

MARGIN = 0.04

_CONSTANTS = ("rate", "merge", "eta", "beta", "rho")
_KEYS = ("scale", "start")
_OUTCOMES = ("verdict", "distance_to_front", "distance_to_best", "gap", "loss_1", "loss_2")


def equity(
    methods: Methods | str | Weighting = COMPARED,
    *,
    scales: Sequence[float] = SCALES,
    problem: str | Objectives = "toy",
    offset: float | None = None,
    starts: Any = None,
    steps: int = 35_000,
    lr: float = 1e-3,
    optimizer: str = "adam",
    seed: int = 0,
    tolerance: float = 0.01,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Every method from every start, with the first loss at each scale: where it ends, in the losses' own units.

    methods, problem, offset, starts, steps, lr, optimizer, seed, tolerance: as `descend` takes them. The defaults are
    Navon et al.'s five starts, and Adam as theirs. scales: factors of the first loss, positive and all different; the
    second loss keeps the problem's, 1 by default. margin: the best average counts as reached where the mean own loss
    lies above it by no more than this share of what lies between the best and the worst mean along the front: on the
    toy 0.04 is 0.196, so a mean below −14.896, the best being −15.092.

    Returns a row per (method, scale, start): method, scale, start (from 1), verdict, distance_to_front,
    distance_to_best, gap, loss_1, loss_2, best (bool: the best average is reached), detail; all but `best` as in
    `Descent.verdicts`. A warning of a method, such as BanditMTL's that ρ = 1.2 does not constrain two tasks, comes
    once, not once a scale.

    Raises: ParetoError for no scale, one that is not positive or comes twice, or a margin out of range; and all that
    `descend` raises.
    Source: Yuan and Zhang, arXiv 2306.09373 v2, figure 1.
    Differs: the paper's text gives neither scales nor starts; and EMTL is a reconstruction, see `EMTL`.
    """
    weightings, scaled = labelled(methods), at_scales(problem, scales, offset)
    options: dict[str, Any] = {"steps": steps, "lr": lr, "optimizer": optimizer, "seed": seed, "tolerance": tolerance}
    runs = _runs(weightings, scaled, starts, margin, options)
    warn_of(weightings)
    return runs


def robustness(
    betas: Sequence[float] = BETAS,
    rhos: Sequence[float] = RHOS,
    *,
    etas: Sequence[float] = (0.5,),
    rates: Sequence[Rate] = ("loss_over_norm",),
    merges: Sequence[Merge] = ("product",),
    scales: Sequence[float] = SCALES,
    problem: str | Objectives = "toy",
    offset: float | None = None,
    starts: Any = None,
    steps: int = 35_000,
    lr: float = 1e-3,
    optimizer: str = "adam",
    tolerance: float = 0.01,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """EMTL with every combination of its constants and forms: does the verdict depend on them?

    betas, rhos, etas, rates, merges: as `EMTL` takes β, ρ, η, rate and merge; all of EMTL is a reconstruction. The
    rest as `equity` takes it.

    Returns a row per (combination, scale, start): rate, merge, eta, beta, rho, and the columns of `equity`.

    Raises: WeightingError for a constant out of range or an unknown form, naming it; ParetoError for something that is
    no list, an empty list, a constant that is no number, and all that `equity` raises.
    """
    forms = several("rates", rates, ("loss_over_norm",)), several("merges", merges, ("product",))
    lists = {"etas": (etas, (0.5,)), "betas": (betas, BETAS), "rhos": (rhos, RHOS)}
    constants = [[checked_number(name, each) for each in several(name, *both)] for name, both in lists.items()]
    combinations = list(dict.fromkeys(product(*forms, *constants)))
    named = {
        str(number): EMTL(rate=rate, merge=merge, eta=eta, beta=beta, rho=rho)
        for number, (rate, merge, eta, beta, rho) in enumerate(combinations)
    }
    options: dict[str, Any] = {"steps": steps, "lr": lr, "optimizer": optimizer, "tolerance": tolerance}
    runs = _runs(named, at_scales(problem, scales, offset), starts, margin, options)
    warn_of(named)
    known = pd.DataFrame(combinations, columns=list(_CONSTANTS)).loc[runs["method"].cat.codes]
    return pd.concat([known.reset_index(drop=True), runs.assign(method="emtl")], axis=1)


def reached(runs: pd.DataFrame, by: Sequence[str] = ("method", "scale")) -> pd.DataFrame:
    """How many runs of each group end on the front and at the best average.

    runs: of `equity` or `robustness`. by: the columns that make a group, which come first.

    Returns a row per group in the order in which they appear: `by`, runs, on_the_front, best, all three counts.

    Raises: ParetoError for something that is no frame, for no list of columns, or a column that the frame lacks.
    """
    if not isinstance(runs, pd.DataFrame):
        raise ParetoError(f"runs must be a frame, as equity and robustness return it; came {runs!r}")
    by = several("by", by, ("method", "scale"))
    wanted = [*by, "verdict", "best"]
    if missing := [name for name in wanted if name not in runs.columns]:
        raise ParetoError(f"reached needs the columns {', '.join(wanted)}; the frame lacks {', '.join(missing)}")
    counted = runs.assign(on_the_front=runs["verdict"] == ON_THE_FRONT)
    groups = counted.groupby(list(by), sort=False, observed=True)
    counts = {"runs": ("best", "size"), "on_the_front": ("on_the_front", "sum"), "best": ("best", "sum")}
    return groups.agg(**counts).reset_index()  # type: ignore[call-overload]


def at_scales(problem: str | Objectives, scales: Sequence[float], offset: float | None) -> list[Objectives]:
    """The problem with the first loss at each scale."""
    usual = problem_of(problem, offset=offset)
    factors = several("scales", scales, (0.1, 1, 10))
    scaled = [usual.scaled((factor, usual.scale[1]), usual.offset) for factor in factors]
    if len({each.scale for each in scaled}) < len(scaled):
        raise ParetoError(f"scales must differ, since each is a group of runs; came {factors!r}")
    return scaled


def spread(problem: Objectives) -> float:
    """How far the worst mean of the own losses along the front lies above the best."""
    return float(problem.gap(problem.front).max())


def _runs(
    weightings: Mapping[str, Weighting], scaled: Sequence[Objectives], starts: Any, margin: Any, options: dict[str, Any]
) -> pd.DataFrame:
    """The rows of every scale, by method; warns of nothing."""
    share = checked_margin(margin)
    ends = [_ends(descend(weightings, starts, each, points=2, warn=False, **options), share) for each in scaled]
    return pd.concat(ends, ignore_index=True).sort_values("method", kind="stable", ignore_index=True)


def _ends(descent: Descent, margin: float) -> pd.DataFrame:
    """The rows of one scale."""
    rows = descent.verdicts
    near = rows["gap"] <= margin * spread(descent.problem)
    sound = ~rows["verdict"].isin([DIVERGED, UNDEFINED])
    rows = rows.assign(scale=descent.problem.scale[0], best=sound & near)
    return rows[["method", *_KEYS, *_OUTCOMES, "best", "detail"]]
