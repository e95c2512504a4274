"""The arrows at one point: where the updates go, the cone between the gradients, and what has no arrow."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from mtlviz import figures, pareto
from mtlviz.errors import FrameError
from mtlviz.figures import theme
from mtlviz.pareto import Moment
from tests.figures.pareto_checks import METHODS, assert_literal, assert_valid
from tests.figures.test_figures import HOSTILE


def moment_at(x: list[float], methods: tuple[str, ...] = METHODS, problem: str = "quadratics") -> Moment:
    return pareto.probe(list(methods), [x], pareto.PROBLEMS[problem])


def tips(figure: go.Figure) -> dict[str, np.ndarray]:
    """The tip of each arrow, by legend group or, for a task, by name."""
    arrows = [trace for trace in figure.data if trace.legendgroup != "cone"]
    return {trace.legendgroup or trace.name: np.array([trace.x[1], trace.y[1]]) for trace in arrows}


def made(gradients: list[list[float]], weights: list[list[float]]) -> Moment:
    labels = tuple(f"m{i}" for i in range(len(weights)))
    return Moment(np.array([0.25, -1.0]), np.array(gradients), labels, np.array(weights))


def test_arrows_point_where_the_updates_go_and_are_of_one_length() -> None:
    moment = moment_at([0.3, 1.0])
    figure = figures.update_directions(moment, at="start 2, step 700")
    found = tips(figure)
    for t, label in enumerate(("−g₁", "−g₂")):
        g = moment.gradients[t]
        np.testing.assert_allclose(found[label], -g / np.linalg.norm(g), atol=1e-12)
    for m, method in enumerate(METHODS):
        way = moment.directions[m]
        np.testing.assert_allclose(found[method], way / np.linalg.norm(way), atol=1e-12)
        (arrow,) = [trace for trace in figure.data if trace.legendgroup == method]
        w = moment.weights[m]
        assert arrow.name == f"{method} {w[0]:.2g} / {w[1]:.2g}"
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis.scaleratio) == ("x", 1)
    assert "start 2, step 700" in figure.layout.meta["quantity"]
    assert_valid(figure)


@pytest.mark.parametrize(
    "gradients", [[[1, 0], [0, 1]], [[1, 0], [-1, 0.1]], [[3, 1], [2, 2]], [[-1, 0.1], [-1, -0.1]], [[2, 0], [1, 0]]]
)
def test_the_cone_is_all_directions_that_lower_both_losses(gradients: list[list[float]]) -> None:
    moment = made(gradients, [[0.5, 0.5]])
    cone = figures.update_directions(moment).data[0]
    assert cone.name == "lowers both losses"
    rim = np.stack([cone.x, cone.y], axis=-1)[1:-1]
    slopes = rim @ np.array(gradients, float).T
    assert (slopes <= 1e-9).all()
    assert (slopes[1:-1] < 0).all()
    angles = np.linspace(0, 2 * np.pi, 20_001)[:-1]
    lowering = (np.stack([np.cos(angles), np.sin(angles)], -1) @ np.array(gradients, float).T < 0).all(axis=1)
    turns = np.unwrap(np.arctan2(rim[:, 1], rim[:, 0]))
    assert abs(np.ptp(turns) - lowering.mean() * 2 * np.pi) < 1e-3


@pytest.mark.parametrize("gradients", [[[1, 0], [-2, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]])
def test_without_a_common_descent_the_cone_is_empty_and_says_so(gradients: list[list[float]]) -> None:
    figure = figures.update_directions(made(gradients, [[0.5, 0.5]]))
    cone = figure.data[0]
    assert cone.name == "no direction lowers both losses"
    assert np.isnan(cone.x).all()
    assert len(cone.x)  # else the legend would not say it
    assert_valid(figure)


def test_no_update_and_no_weights_are_told_apart() -> None:
    figure = figures.update_directions(made([[1, 0], [-1, 0]], [[0.5, 0.5], [np.nan, np.nan], [1.0, 0.0]]))
    rest, undefined, moving = figure.data[1:4]
    assert rest.name == "m0 0.5 / 0.5, no update"
    assert (rest.mode, set(rest.x), set(rest.y)) == ("markers", {0.0}, {0.0})
    assert undefined.name == "m1: no weights"
    assert np.isnan(undefined.x[1])
    assert moving.name == "m2 1 / 0"
    assert (moving.x[1], moving.y[1]) == (-1.0, 0.0)
    assert_valid(figure)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_an_update_that_is_rounding_is_none(size: float) -> None:
    """Its length is measured against Σ |w_t| ‖g_t‖, here 2 size: what of it did not cancel."""
    moment = made([[size, 0], [-size, 0]], [[1 + 1e-10, 1], [1 + 1e-8, 1], [1, 1 + 1e-8], [-1 - 1e-10, -1]])
    rest, forward, back, negative = figures.update_directions(moment).data[1:5]
    for still in (rest, negative):
        assert still.name.endswith(", no update")
        assert (still.mode, set(still.x), set(still.y)) == ("markers", {0.0}, {0.0})
    for arrow, tip in ((forward, -1.0), (back, 1.0)):
        assert "no update" not in arrow.name
        assert (arrow.x[1], arrow.y[1]) == (tip, 0.0)


def test_a_method_keeps_its_colour_in_the_arrows() -> None:
    figure = figures.update_directions(moment_at([0.3, 1.0]), colours={"mgda": 5, "equal": 12})
    colours = {trace.legendgroup: trace.line.color for trace in figure.data if trace.legendgroup in METHODS}
    assert colours == {"equal": theme.colour(12), "mgda": theme.colour(5), "imtl_g": theme.colour(15)}


def test_hostile_labels_are_shown_literally() -> None:
    moment = pareto.probe(dict.fromkeys(HOSTILE, "equal"), [[0.3, 1.0]], pareto.PROBLEMS["quadratics"])
    assert_literal(figures.update_directions(moment, at=HOSTILE[0]))


def test_what_is_no_moment_is_refused() -> None:
    found = pareto.descend("equal", problem="quadratics", steps=5)
    with pytest.raises(FrameError, match=r"what mtlviz\.pareto\.probe returns, but got Descent"):
        figures.update_directions(found)
