"""Where on the Pareto set EMTL's relative rates are equal: the points at which it comes to rest, at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from mtlviz.errors import ParetoError
from mtlviz.pareto.arguments import checked_margin, is_whole, several
from mtlviz.pareto.equity import MARGIN, SCALES, at_scales, spread
from mtlviz.pareto.objectives import Objectives
from mtlviz.pareto.problems import problem_of
from mtlviz.runlog.records import Floats
from mtlviz.weighting.emtl import EMTL, Rate

PLACES = 401  # odd, so that the middle of the set is one of them


def rate_balance(
    problem: str | Objectives = "toy",
    *,
    scales: Sequence[float] = SCALES,
    rates: Sequence[Rate] = get_args(Rate),
    offset: float | None = None,
    places: int = PLACES,
) -> pd.DataFrame:
    """The relative rates of the two losses along the Pareto set, at each scale of the first, for each form of rate.

    On the set the two gradients are opposite, MGDA's update vanishes, and only EMTL's p moves the point: towards the
    minimum of the loss with the higher rate. Where the rates are equal, p rests.

    problem, scales, offset: as `equity` takes them. rates: forms, as `EMTL` takes `rate`. places: how many, evenly,
    inside the set; at its two ends one gradient vanishes.

    Returns a row per (rate, scale, place): rate, scale, place (0 at the first loss's minimum, 1 at the second's), x1,
    x2, rate_1, rate_2, balance = (r₁ − r₂) / (|r₁| + |r₂|), above 0 where p favours the first loss, and gap, how far
    the mean own loss lies above the best.

    Raises: as `equity` does for problem and scales, WeightingError for an unknown form, ParetoError for no list of
    rates, or for places that are no whole number from 3.
    Differs: EMTL is a reconstruction; see `EMTL`.
    """
    if not (is_whole(places) and places >= 3):
        raise ParetoError(f"places must be a whole number, 3 places or more; got {places!r}")
    methods = [EMTL(rate=rate) for rate in several("rates", rates, get_args(Rate))]
    scaled = at_scales(problem, scales, offset)
    place = np.linspace(0.0, 1.0, places + 2)[1:-1]
    return pd.concat([_along(method, each, place) for method in methods for each in scaled], ignore_index=True)


def rest_points(
    problem: str | Objectives = "toy",
    *,
    scales: Sequence[float] = SCALES,
    rates: Sequence[Rate] = get_args(Rate),
    offset: float | None = None,
    places: int = PLACES,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Where on the Pareto set EMTL's tilt leads and stays, by form of rate and scale: what the rates promise.

    From both sides of a rest point p favours the loss that leads there: the balance of `rate_balance` grows through 0
    along the set, or points towards its end. It does not tell from which start a descent comes there, nor whether
    MGDA's weights leave p anything to tilt.

    problem, scales, rates, offset, places: as `rate_balance` takes them. margin: as `equity` takes it.

    Returns a row per (rate, scale, rest point): rate, scale, place, x1, x2, gap as in `rate_balance`, and best,
    whether that mean of the own losses counts as the best average.

    Raises: as `rate_balance` does, and ParetoError for a margin out of range.
    """
    share = checked_margin(margin)
    balance = rate_balance(problem, scales=scales, rates=rates, offset=offset, places=places)
    known = problem_of(problem)
    reach = share * spread(known)
    rows = []
    for (rate, scale), line in balance.groupby(["rate", "scale"], sort=False):
        place = _rests(line["place"].to_numpy(), line["balance"].to_numpy())
        x = known.set_at(place)
        for each, point, gap in zip(place, x, known.gap(known.own_losses(x)), strict=True):
            rows.append((rate, scale, each, *point, gap, gap <= reach))
    return pd.DataFrame(rows, columns=["rate", "scale", "place", "x1", "x2", "gap", "best"])


def _along(method: EMTL, problem: Objectives, place: Floats) -> pd.DataFrame:
    """The rows of one form and one scale."""
    x = problem.set_at(place)
    losses, gradients = problem.losses(x), problem.gradients(x)
    gramians = gradients @ gradients.swapaxes(-1, -2)
    r = np.array([method.explain(*pair).rates for pair in zip(losses, gramians, strict=True)])
    with np.errstate(invalid="ignore"):
        balance = (r[:, 0] - r[:, 1]) / np.abs(r).sum(axis=1)
    columns = {"rate": method.rate, "scale": problem.scale[0], "place": place, "x1": x[:, 0], "x2": x[:, 1]}
    return pd.DataFrame(
        columns | {"rate_1": r[:, 0], "rate_2": r[:, 1], "balance": balance, "gap": problem.gap(problem.own_losses(x))}
    )


def _rests(place: Floats, balance: Floats) -> Floats:
    """The places of the rest points along a line."""
    up = np.flatnonzero((balance[:-1] < 0) & (balance[1:] >= 0))
    share = balance[up] / (balance[up] - balance[up + 1])
    inside = place[up] + share * (place[up + 1] - place[up])
    return np.concatenate([[0.0] * bool(balance[0] > 0), inside, [1.0] * bool(balance[-1] < 0)])
