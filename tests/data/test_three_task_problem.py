"""The three-task picture as a problem: its data, its loss, and that training it comes near the exact fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mtlviz as mv
from mtlviz.errors import ProblemError

SEED = 3


def test_it_holds_the_sample_of_the_picture_and_points_never_trained_on() -> None:
    picture = mv.transfer.ThreeTask(samples=(8, 24, 30), noise=0.2)
    problem = mv.data.three_task(picture, seed=SEED)
    assert problem.train.samples() == {"task 1": 8, "task 2": 24, "task 3": 30}
    held = picture.held_out(SEED, count=2500)
    for task, (x, y) in picture.sample(SEED).items():
        rows = problem.train.by_task[task]
        np.testing.assert_allclose(rows.inputs, x, atol=1e-5)
        np.testing.assert_array_equal(rows.targets, (y > 0).astype(float))
        for split, part in ((problem.validation, slice(500)), (problem.test, slice(500, None))):
            assert split is not None
            np.testing.assert_allclose(split.by_task[task].inputs, held[task][0][part], atol=1e-5)
            np.testing.assert_array_equal(split.by_task[task].targets, held[task][1][part] > 0)
    assert [task.scale for task in problem.tasks] == pytest.approx([3 * n / 62 for n in (8, 24, 30)])


def test_training_it_comes_near_the_exact_fit_and_a_wider_trunk_lets_task_1_go_its_own_way() -> None:
    # Boundaries far apart, so that sharing costs much, and wrong labels, so that the ridge hardly matters.
    picture = mv.transfer.ThreeTask(boundary=55.0, samples=(30, 60, 60), noise=0.05, ridge=0.01)
    exact = picture.accuracy([SEED]).set_index(["trained", "task"])["accuracy"] * 100
    scores = {}
    for width in (1, 3):
        training = mv.train(
            mv.data.three_task(picture, seed=SEED, width=width),
            steps=120,
            batch_size=60,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1),
            layers_every=0,
            validate_every=120,
        )
        last = [record for record in training if isinstance(record, mv.Validation)][-3:]
        scores[width] = {record.task: record.value for record in last}
    for task in ("task 1", "task 2", "task 3"):
        assert scores[1][task] == pytest.approx(exact["all", task], abs=4)
    assert exact["alone", "task 1"] > exact["all", "task 1"] + 5
    assert scores[3]["task 1"] == pytest.approx(exact["alone", "task 1"], abs=4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ProblemError, match=r"picture must be an mtlviz\.transfer\.ThreeTask"):
        mv.data.three_task((1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ProblemError, match="seed must be a whole number from 0, got -1"):
        mv.data.three_task(seed=-1)
    with pytest.raises(ProblemError, match="width must be a whole number from 1, got 0"):
        mv.data.three_task(width=0)
