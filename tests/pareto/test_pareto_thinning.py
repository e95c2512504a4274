"""Thinning: the line through the points that stay passes all others, in both planes, and keeps its ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz import pareto
from mtlviz.pareto import Descent
from mtlviz.pareto.result import Ends
from mtlviz.runlog.records import Floats

METHODS = ["equal", "mgda", "emtl"]
SMOOTH = 6000
"""Points that a browser redraws in 85 ms: measured on 12 lines of 500 under a dragged handle. The lab's 40
trajectories, of 8 methods from 5 starts, may have no more in a plane."""


def walked(paths: Floats, problem: str = "quadratics") -> Descent:
    """A descent whose trajectories (J, K, 2) are these paths, one start a path."""
    J, K, _ = paths.shape
    steps = max(K - 1, 1)
    ends = Ends(*(np.zeros((1, J), int) for _ in range(3)), np.zeros((1, J, 2)))
    x = paths[None]
    return Descent(
        problem=pareto.PROBLEMS[problem], methods=("equal",), starts=np.nan_to_num(paths[:, 0]), steps=steps, lr=1.0,
        optimizer="sgd", tolerance=0.01, step=np.arange(K), x=x, weights=np.ones_like(x), ends=ends,
    )  # fmt: skip


def furthest(line: Floats, kept: Floats, unit: Floats) -> float:
    """The greatest distance of the points (K, 2) from the polyline through the kept ones, in these units."""
    points, corners = line / unit, line[kept] / unit
    if len(corners) == 1:
        return float(np.linalg.norm(points - corners[0], axis=1).max())
    begin, along = corners[:-1], np.diff(corners, axis=0)
    length = (along**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num(np.clip(((points[:, None] - begin) * along).sum(axis=2) / length, 0, 1))
    return float(np.linalg.norm(points[:, None] - begin - share[..., None] * along, axis=2).min(axis=1).max())


def units(descent: Descent) -> tuple[Floats, Floats]:
    return np.ptp(np.array(descent.problem.bounds), axis=1), np.ptp(descent.problem.front, axis=0)


def assert_within(descent: Descent, tolerance: float) -> None:
    kept = pareto.thinned(descent, tolerance=tolerance)
    K = len(descent.step)
    borders = np.unique(np.round(np.linspace(0, K - 1, 6)).astype(int))
    for place in np.ndindex(kept.shape[:2]):
        there = np.isfinite(descent.x[place][:, 0])
        assert not kept[place][~there].any()
        if not there.any():
            continue
        last = np.flatnonzero(there)[-1]
        assert kept[place][[0, last]].all()
        assert kept[place][borders[borders <= last]].all()
        for points, unit in zip((descent.x[place], descent.losses[place]), units(descent), strict=True):
            assert furthest(points[: last + 1], kept[place][: last + 1], unit) <= tolerance * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 150),
    rough=st.sampled_from([1e-4, 1e-2, 0.3]),
    drift=st.sampled_from([0.0, 0.02]),
    tolerance=st.sampled_from([0.001, 0.003, 0.05]),
)
def test_what_is_left_out_lies_on_the_line_in_both_planes(
    seed: int, count: int, rough: float, drift: float, tolerance: float
) -> None:
    draw = np.random.default_rng(seed)
    paths = np.cumsum(draw.normal(drift, rough, (3, count, 2)), axis=1) + draw.uniform(-2, 2, (3, 1, 2))
    paths[1, draw.integers(0, count + 1) :] = np.nan  # one that ends early, or is never there
    assert_within(walked(paths), tolerance)


@pytest.mark.parametrize(("problem", "steps"), [("toy", 8000), ("quadratics", 3000), ("fonseca_fleming", 3000)])
def test_real_trajectories_are_thinned_to_what_a_screen_shows(problem: str, steps: int) -> None:
    descent = pareto.descend(METHODS, problem=problem, steps=steps)
    assert_within(descent, 0.003)
    kept = pareto.thinned(descent)
    assert 40 * kept.sum(axis=2).mean() <= SMOOTH
    assert (pareto.thinned(descent, tolerance=1e-6).sum(axis=2) >= kept.sum(axis=2)).all()


def test_a_straight_walk_keeps_its_ends_and_the_borders_of_time() -> None:
    ramp = np.linspace(-1, 1, 101)
    path = np.stack([ramp, np.zeros(101)], axis=-1)[None]
    kept = pareto.thinned(walked(path), tolerance=0.5)
    assert np.flatnonzero(kept[0, 0]).tolist() == [0, 20, 40, 60, 80, 100]


def test_a_turn_is_kept_and_rest_is_not() -> None:
    out = np.linspace(0, 2, 40)
    path = np.concatenate([np.stack([out, 0 * out], 1), np.stack([out[::-1], 0 * out], 1), np.zeros((40, 2))])
    kept = np.flatnonzero(pareto.thinned(walked(path[None]), tolerance=0.01)[0, 0])
    assert {39, 40} & set(kept.tolist())  # the furthest point, where it turns back along the same line
    assert np.isin(kept[kept >= 80], [95, 119]).all()  # at rest: a border of time, and the last
