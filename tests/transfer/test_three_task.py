"""The three-task picture: the phenomenon and what reverses it, what a sample depends on, frames and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import TransferError
from mtlviz.intervals import mean_interval
from mtlviz.transfer import Cloud, ThreeTask
from mtlviz.transfer.three_task import _ROWS, TASKS

USUAL = ThreeTask()


def of_task_1(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["task"] == "task 1"].set_index("trained")


def verdicts(picture: ThreeTask, **given: Any) -> list[str]:
    return of_task_1(picture.accuracy(**given)).loc[["with 2", "with 3"], "verdict"].tolist()


def test_task_2_helps_and_task_3_hurts_by_their_intervals() -> None:
    frame = of_task_1(USUAL.accuracy())
    assert frame.loc[["with 2", "with 3", "all"], "verdict"].tolist() == ["positive", "negative", "negative"]
    assert (frame["seeds"] == 100).all()
    assert frame.loc["with 2", "gain"] > 0.005
    assert frame.loc["with 3", "gain"] < -0.02
    assert verdicts(USUAL, seeds=range(1000, 1200)) == ["positive", "negative"]  # of other samples too


def test_the_clouds_decide_who_helps_and_not_the_names() -> None:
    first, second, third = USUAL.clouds
    swapped = replace(USUAL, clouds=(first, third, second))
    assert verdicts(swapped) == ["negative", "positive"]


def test_a_cloud_of_task_3_that_lies_across_the_boundary_helps() -> None:
    first, second, third = USUAL.clouds
    across = replace(third, along=second.along, across=second.across)
    assert verdicts(replace(USUAL, clouds=(first, second, across))) == ["positive", "positive"]


def test_with_one_boundary_for_all_the_points_along_it_help_most() -> None:
    frame = of_task_1(replace(USUAL, boundary=USUAL.shared_boundary).accuracy())
    assert frame.loc[["with 2", "with 3"], "verdict"].tolist() == ["positive", "positive"]
    assert frame.loc["with 3", "gain_low"] > frame.loc["with 2", "gain_high"]


def test_gains_are_paired_and_accuracies_those_of_points_never_seen() -> None:
    picture, seeds = replace(USUAL, samples=(10, 15, 20), noise=0.1), [3, 11, 4]
    frame = picture.accuracy(seeds, confidence=0.9)
    values: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        fits, held = picture.fits((seed,)), picture.held_out(seed, count=20_000)
        for trained, g, t in _ROWS:
            b = np.array([np.cos(fits.angle[0, g]), np.sin(fits.angle[0, g])])
            x, y = held[TASKS[t]]
            right = np.sign(fits.slope[0, g, t] * (x @ b) + fits.intercept[0, g, t]) == y
            values.setdefault((trained, TASKS[t]), []).append(right.mean())
    for row in frame.itertuples():
        counted = np.array(values[row.trained, row.task])
        assert row.accuracy == pytest.approx(counted.mean(), abs=0.008)
        if row.trained == "alone":
            assert np.isnan(row.gain)
            assert row.verdict == ""
        else:
            paired = mean_interval(counted - values["alone", row.task], 0.9)
            assert (row.gain, row.gain_low, row.gain_high) == pytest.approx(paired, abs=0.04)


def test_a_sample_moves_with_its_cloud_and_grows_with_its_count() -> None:
    first, second, third = USUAL.clouds
    moved = replace(USUAL, clouds=(replace(first, centre=(2.0, -1.0)), second, third), samples=(20, 24, 24))
    before, after = USUAL.sample(5), moved.sample(5)
    np.testing.assert_allclose(after["task 1"][0][:8], before["task 1"][0] + (2.0, -1.0))
    for task in ("task 2", "task 3"):
        np.testing.assert_array_equal(after[task][0], before[task][0])
        np.testing.assert_array_equal(after[task][1], before[task][1])
    assert not np.isin(USUAL.held_out(5)["task 1"][0], before["task 1"][0]).any()


def test_clouds_have_their_spreads_and_labels_their_boundary_and_noise() -> None:
    cloud = Cloud((3.0, 4.0), along=3.0, across=0.5, turn=20.0)
    picture = replace(USUAL, clouds=(cloud, *USUAL.clouds[1:]), samples=(10_000, 2, 2), noise=0.25)
    x, y = picture.sample(1)["task 1"]
    np.testing.assert_allclose(x.mean(axis=0), (3.0, 4.0), atol=0.1)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(np.sqrt(values), (0.5, 3.0), rtol=0.03)
    assert np.degrees(np.arctan2(*vectors[::-1, 1])) % 180 == pytest.approx(45 + 20, abs=1)
    true = np.where(x[:, 1] > x[:, 0], 1, -1)  # the boundary runs at 45 degrees
    assert (y != true).mean() == pytest.approx(0.25, abs=0.02)
    held, labels = picture.held_out(1)["task 1"]
    np.testing.assert_array_equal(labels, np.where(held[:, 1] > held[:, 0], 1, -1))


def test_frames_of_the_picture() -> None:
    points = USUAL.points(2)
    assert points["task"].value_counts().loc[list(TASKS)].tolist() == [8, 24, 24]
    assert set(points["label"]) == {-1, 1}
    lines = USUAL.boundaries(2)
    true = lines[lines["trained"] == "true"].set_index("task")
    assert true["angle"].tolist() == pytest.approx([45, 30, 30])
    np.testing.assert_allclose(true["x_2"], np.tan(np.radians(true["angle"])) * true["x_1"], atol=1e-9)
    shared = lines[lines["trained"] == "with 3"]
    assert shared["task"].tolist() == ["task 1", "task 3"]
    assert shared["angle"].nunique() == 1


def test_a_sample_of_one_class_has_no_boundary_and_changes_nothing_for_the_others() -> None:
    first, second, third = USUAL.clouds
    aside = replace(USUAL, clouds=(replace(first, centre=(-50.0, 50.0)), second, third))
    frame, lines = aside.accuracy(20), aside.boundaries(0)
    assert (frame.loc[frame["task"] == "task 1", "accuracy"] == 1.0).all()
    assert of_task_1(frame).loc[["with 2", "with 3"], "verdict"].tolist() == ["undecided", "undecided"]
    assert lines.loc[lines["task"] == "task 1", "trained"].tolist() == ["true"]
    usual = USUAL.accuracy(20)
    pick = (frame["trained"] == "alone") & (frame["task"] == "task 3")
    assert frame.loc[pick, "accuracy"].item() == usual.loc[pick, "accuracy"].item()


def test_a_single_seed_decides_nothing() -> None:
    frame = USUAL.accuracy(1)
    assert frame["low"].isna().all()
    assert set(frame["verdict"]) == {"", "undecided"}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"samples": (1, 24, 24)}, "samples of task 1 must be a whole number from 2, got 1"),
        ({"samples": (8, 24.5, 24)}, "samples of task 2 must be a whole number"),
        ({"samples": (8, 24, 20_000)}, "samples of task 3 must be 10,000 or fewer, got 20,000"),
        ({"samples": (8, 24)}, "samples must be three, a number for each task"),
        ({"clouds": USUAL.clouds[:2]}, "clouds must be three, a Cloud for each task"),
        ({"clouds": ((0, 0), (1, 1), (2, 2))}, "clouds must be three mtlviz.transfer.Cloud"),
        ({"boundary": np.nan}, "boundary must be a finite number from -360 to 360, got nan"),
        ({"shared_boundary": "flat"}, "shared_boundary must be a finite number"),
        ({"noise": 0.6}, "noise must be a finite number from 0 to 0.5"),
        ({"ridge": 0.0}, "ridge must be a finite number from 0.01"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(TransferError, match=match):
        ThreeTask(**given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"along": 0.0}, "along is a standard deviation and must be above 0, got 0.0"),
        ({"across": -1.0}, "across is a standard deviation"),
        ({"across": np.inf}, "across must be a finite number"),
        ({"centre": (0.0, np.nan)}, "coordinate 2 of centre must be a finite number"),
        ({"centre": (0.0, 1.0, 2.0)}, "centre must be two coordinates"),
        ({"turn": np.nan}, "turn must be a finite number"),
    ],
)
def test_a_cloud_that_cannot_be_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(TransferError, match=match):
        Cloud(**({"centre": (0.0, 0.0)} | given))


def test_seeds_and_confidence_are_checked() -> None:
    for seeds, match in (
        (0, "seeds must be a whole number from 1"),
        ([1, 1], "different numbers"),
        ([], "at least one"),
        ([-1], "a seed must be"),
        ("5", "seeds must be"),
    ):
        with pytest.raises(TransferError, match=match):
            USUAL.accuracy(seeds)  # type: ignore[arg-type]
    with pytest.raises(TransferError, match="confidence must be between 0 and 1"):
        USUAL.accuracy(2, confidence=1.0)
    with pytest.raises(TransferError, match="seed must be a whole number from 0"):
        USUAL.sample(-1)
    with pytest.raises(TransferError, match="count must be a whole number from 1"):
        USUAL.held_out(0, count=0)


def test_it_is_found_where_the_house_says() -> None:
    assert mv.transfer.ThreeTask is ThreeTask


def test_turns_are_those_of_the_learned_boundaries_and_know_which_class_is_where() -> None:
    turns = USUAL.turns(30).set_index(["trained", "task", "seed"])["turn"]
    for seed in (0, 7):
        lines = USUAL.boundaries(seed).set_index(["trained", "task"])["angle"]
        for trained, task in (("alone", "task 1"), ("with 2", "task 1"), ("all", "task 3")):
            gap = turns[trained, task, seed] - (lines[trained, task] - lines["true", task])
            assert (gap + 90) % 180 - 90 == pytest.approx(0, abs=1e-9)
    assert turns["with 3", "task 1"].mean() == pytest.approx(USUAL.offset, abs=2)  # pulled to the others' boundary
    assert turns["with 3", "task 1"].std() < turns["alone", "task 1"].std() / 3  # and no longer scattered
    turned = replace(USUAL, boundary=USUAL.boundary - 180).turns(30).set_index(["trained", "task", "seed"])["turn"]
    np.testing.assert_allclose(turned["alone", "task 1"], turns["alone", "task 1"], atol=1e-6)
    opposed = replace(USUAL, clouds=(replace(USUAL.clouds[0], across=0.01), *USUAL.clouds[1:]), noise=0.5)
    assert opposed.turns(200)["turn"].abs().max() > 90  # labels at random: the classes are found the wrong way round
