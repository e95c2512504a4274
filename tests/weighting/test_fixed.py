"""Fixed weights: they find their tasks by name, in training, replay and the descent, and say what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import WeightingError
from mtlviz.weighting import METHODS, Fixed
from tests.problems import crossing

BY_NAME = {"rare": 3.0, "kind": 1.0, "size": 0.25}  # not the order of the tasks
IN_ORDER = [1.0, 0.25, 3.0]


def recorded(weighting: Any, problem: mv.Problem | None = None) -> mv.RunLog:
    problem = problem or crossing()
    log = mv.RunLog.create(None, problem)
    for record in mv.train(problem, weighting=weighting, steps=4):
        log.append(record)
    return log


@pytest.mark.parametrize("weights", [BY_NAME, pd.Series(BY_NAME), IN_ORDER, np.array(IN_ORDER)])
def test_weights_find_their_tasks(weights: Any) -> None:
    method = Fixed(weights)
    method.introduce(["kind", "size", "rare"])
    np.testing.assert_array_equal(method(np.ones(3), np.eye(3)), IN_ORDER)
    absent = method(np.array([1.0, np.nan, 1.0]), np.eye(3), np.array([True, False, True]))
    np.testing.assert_array_equal(absent, [1.0, 0.0, 3.0])
    if not isinstance(weights, (list, np.ndarray)):
        method.introduce(["size", "rare"])  # a part of the problem
        np.testing.assert_array_equal(method(np.ones(2), np.eye(2)), [0.25, 3.0])


def test_a_run_is_that_of_a_problem_whose_losses_have_these_scales() -> None:
    log = recorded(Fixed(BY_NAME))
    np.testing.assert_array_equal(log.weights, np.tile(IN_ORDER, (4, 1)))
    scaled = recorded("equal", crossing().scaled(BY_NAME))
    np.testing.assert_allclose(log.losses * IN_ORDER, scaled.losses, rtol=1e-4)


def test_replay_descent_and_the_method_inside_are_told_the_names() -> None:
    log = recorded("equal")
    replayed = mv.analysis.replayed_weights(mv.analysis.replay(log, {"mine": Fixed(BY_NAME)}))
    mean = replayed[replayed["method"] == "mine"].groupby("task", observed=True)["weight"].mean()
    assert {str(task): weight for task, weight in mean.items()} == pytest.approx(BY_NAME)
    named = Fixed({"loss 2": 1.0, "loss 1": 2.0})
    options = {"starts": [[1.0, 2.0]], "steps": 20, "optimizer": "sgd"}
    places = [
        mv.pareto.descend({"it": named}, scale=(1, 1), **options),
        mv.pareto.descend("equal", scale=(2, 1), **options),
    ]
    np.testing.assert_allclose(*(descent.trajectories[["x1", "x2"]].to_numpy() for descent in places), rtol=1e-12)
    inside = mv.weighting.EMTL(inside=Fixed(BY_NAME))
    inside.introduce(["kind", "size", "rare"])
    np.testing.assert_array_equal(inside.explain(np.ones(3), np.eye(3)).alpha, IN_ORDER)


def test_it_is_made_again_from_its_settings_and_goes_on_from_its_state() -> None:
    assert repr(Fixed(**Fixed(BY_NAME).settings())) == repr(Fixed(BY_NAME))
    method = Fixed(IN_ORDER)
    method(np.ones(3), np.eye(3))
    again = Fixed(IN_ORDER)
    again.load_state_dict(method.state_dict())
    with pytest.raises(WeightingError, match="cannot go on"):
        Fixed([1, 1, 1]).load_state_dict(method.state_dict())
    assert "fixed" not in METHODS  # which are made without arguments
    text = " ".join(Fixed.__doc__.split())
    assert "Source:" in text
    assert "heads get" in text


@pytest.mark.parametrize("weights", [{}, [], {"a": -1.0}, [0.0, 0.0], [np.nan], [np.inf, 1], {"a": "much"}, 3, None])
def test_what_is_no_weight_is_told(weights: Any) -> None:
    with pytest.raises(WeightingError, match="fixed: weights must be"):
        Fixed(weights)


def test_weights_that_do_not_fit_the_tasks_are_told_before_the_first_step() -> None:
    with pytest.raises(WeightingError, match="no weight for 'size'; the weights are of kind, rare, sise"):
        mv.train(crossing(), weighting=Fixed({"kind": 1, "rare": 1, "sise": 1}), steps=1)
    with pytest.raises(WeightingError, match="fixed: weights has 2 entries and there are 3 tasks"):
        list(mv.train(crossing(), weighting=Fixed([1, 1]), steps=1))
    with pytest.raises(WeightingError, match="introduce"):
        Fixed(BY_NAME)(np.ones(3), np.eye(3))
