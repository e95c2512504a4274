"""What is drawn below and above the trajectories: contours, the front, the weighted-sum line and the marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtlviz import figures
from tests.figures.pareto_checks import PROBLEMS, descent, named


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.1, 1.0), (1.0, 0.01)])
def test_the_weighted_sum_line_touches_the_front_and_nothing_lies_below_it(
    problem: str, scale: tuple[float, float]
) -> None:
    found = descent(problem, scale=scale)
    figure = figures.pareto_trajectories(found, plane="losses")
    (line,) = named(figure, "least s₁L₁ + s₂L₂")
    ends_of_line = np.stack([line.x, line.y], axis=-1)
    across = np.array(scale) / np.linalg.norm(scale)
    height = ends_of_line @ across
    front = found.problem.front
    size = np.linalg.norm(np.ptp(front, axis=0))
    assert abs(height[0] - height[1]) < 1e-9 * size  # along s₁L₁ + s₂L₂ = const
    above = front @ across - height[0]
    assert -1e-9 * size < above.min() < 1e-5 * size  # touches, and never crosses
    (mark,) = named(figure, "minimum of the weighted sum")
    np.testing.assert_allclose(np.stack([mark.x, mark.y], -1) @ across, height[0], atol=1e-9 * size)
    for axis, values in (("xaxis", line.x), ("yaxis", line.y)):
        low, high = figure.layout[axis].range
        room = 1e-9 * (high - low)
        assert low - room <= min(values) <= max(values) <= high + room
    assert any(np.isclose(ends_of_line[i, t], figure.layout[axis].range).any() for i in (0, 1)
               for t, axis in enumerate(("xaxis", "yaxis")))  # as far as the axes go  # fmt: skip


def test_both_marks_of_a_tie_are_drawn() -> None:
    figure = figures.pareto_trajectories(descent("fonseca_fleming"))
    for axis in ("x", "x2"):
        for name in ("best average", "minimum of the weighted sum"):
            assert len(named(figure, name, axis)[0].x) == 2


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_front_is_in_the_picture_whatever_goes_astray(problem: str) -> None:
    found = descent(problem)
    far = found.x.copy()
    far[0, 0, -1] = 1e6
    for case in (found, replace(found, x=far)):
        figure = figures.pareto_trajectories(case, plane="losses")
        for t, axis in enumerate(("xaxis", "yaxis")):
            low, high = figure.layout[axis].range
            front = found.problem.front[:, t]
            assert low < front.min() < front.max() < high
            assert np.ptp(front) > 0.2 * (high - low)


def test_contours_are_evenly_spread_over_the_plane() -> None:
    found = descent("toy")
    land = found.problem.landscape(80)
    own = {"loss 1": land.losses[..., 0], "loss 2": land.losses[..., 1], "average": land.losses.mean(axis=2)}
    for contours, z in own.items():
        (contour,) = [
            trace
            for trace in figures.pareto_trajectories(found, landscape=land, contours=contours, plane="parameters").data
            if trace.type == "contour"
        ]
        order = np.argsort(z, axis=None)
        heights = contour.z.ravel()[order]
        assert (np.diff(heights) >= 0).all()  # the same landscape, with another scale
        levels = np.arange(contour.contours.start, contour.contours.end + 1)
        below = np.array([(heights < level).mean() for level in levels])
        np.testing.assert_allclose(np.diff(below), 1 / (len(levels) + 1), atol=0.02)
