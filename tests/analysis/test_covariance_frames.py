"""Frames of task covariances: what they say is what the covariances say, pair by pair and in the tasks' order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mtlviz import analysis
from mtlviz.errors import TransferError
from mtlviz.transfer import TaskCovariance, covariances

NAMES = ["z", "a", "m"]  # not in the alphabet's order


def inputs() -> dict[str, np.ndarray]:
    """Inputs of three tasks, with 9, 20 and 12 rows of 4 features."""
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=(m, 4)) @ rng.normal(size=(4, 4)) for name, m in zip(NAMES, (9, 20, 12), strict=True)}


def square(frame: pd.DataFrame, column: str) -> np.ndarray:
    return frame[column].to_numpy().reshape(3, 3)


def test_scores_are_those_of_each_pair_in_the_tasks_order() -> None:
    x = inputs()
    frame = analysis.covariance_scores(x, mass=0.9)
    assert list(frame.columns) == ["task_a", "task_b", "score", "cosine"]
    assert frame["task_a"].tolist() == [name for name in NAMES for _ in NAMES]
    assert frame["task_b"].tolist() == NAMES * 3
    for column in ("task_a", "task_b"):
        assert frame[column].cat.categories.tolist() == NAMES
        assert frame[column].cat.ordered
    score, cosine = square(frame, "score"), square(frame, "cosine")
    np.testing.assert_array_equal(score, score.T)
    np.testing.assert_array_equal(np.diag(cosine), 1.0)
    for i, a in enumerate(NAMES):
        for j, b in enumerate(NAMES):
            assert score[i, j] == pytest.approx(analysis.covariance_similarity(x[a], x[b], mass=0.9))
            assert cosine[i, j] == pytest.approx(analysis.covariance_cosine(x[a], x[b]))
    assert (score < 1).all()


def test_similarity_by_hand() -> None:
    x_1, x_2 = [[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]
    assert analysis.covariance_similarity(x_1, x_2) == pytest.approx(8**0.5 / 5)
    assert analysis.covariance_similarity(x_1, x_2, mass=0.8) == 0.0
    assert analysis.covariance_cosine(x_1, x_2) == pytest.approx(8 / 17)
    swapped = analysis.covariance_similarity(x_1, x_2, embed=lambda x: np.array(x)[:, :1])
    assert swapped == pytest.approx(1.0)  # one feature is one direction


def test_spectra_by_hand() -> None:
    frame = analysis.covariance_spectra({"b": np.diag([3.0, 1.0]), "a": np.diag([1.0, 2.0])}, mass=0.9)
    assert frame["task"].tolist() == ["b", "b", "a", "a"]
    assert frame["task"].cat.categories.tolist() == ["b", "a"]
    assert frame["index"].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(frame["value"], [9, 1, 4, 1])
    np.testing.assert_allclose(frame["share"], [0.9, 0.1, 0.8, 0.2])
    np.testing.assert_allclose(frame["cumulative"], [0.9, 1, 0.8, 1])
    assert frame["kept"].tolist() == [True, False, True, True]


def test_alignment_is_the_cosine_of_leading_directions_pair_by_pair() -> None:
    x = inputs()
    frame = analysis.covariance_alignment(x, directions=3)
    assert list(frame.columns) == ["task_a", "task_b", "direction_a", "direction_b", "cosine"]
    pairs = frame[["task_a", "task_b"]].drop_duplicates()
    assert list(zip(pairs["task_a"], pairs["task_b"], strict=True)) == [("z", "a"), ("z", "m"), ("a", "m")]
    directions = {name: np.linalg.svd(each)[2] for name, each in x.items()}  # rows
    assert len(frame) == 3 * 9
    for row in frame.itertuples():
        one, other = directions[row.task_a][row.direction_a - 1], directions[row.task_b][row.direction_b - 1]
        assert row.cosine == pytest.approx(abs(one @ other), abs=1e-9)


def test_alignment_compares_no_more_directions_than_a_task_has() -> None:
    line = np.outer([1.0, 2.0, 3.0], [1.0, 1.0, 0.0])
    frame = analysis.covariance_alignment({"line": line, "all": np.diag([3.0, 2.0, 1.0])})
    assert frame["direction_a"].tolist() == [1, 1, 1]
    assert frame["direction_b"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(frame["cosine"], [0.5**0.5, 0.5**0.5, 0], atol=1e-12)
    for directions in (0, -1, 2.5, True, "3", None):
        with pytest.raises(TransferError, match="directions must be a whole number from 1"):
            analysis.covariance_alignment({"a": line, "b": line}, directions=directions)
    with pytest.raises(TransferError, match="at least 2; got the tasks"):
        analysis.covariance_alignment({"a": line})


@pytest.mark.parametrize("name", ["covariance_scores", "covariance_spectra", "covariance_alignment"])
def test_covariances_taken_once_serve_every_frame(name: str) -> None:
    x = inputs()
    made = getattr(analysis, name)
    streamed = {task: iter(np.array_split(each, 4)) for task, each in x.items()}
    once = covariances(streamed)
    pd.testing.assert_frame_equal(made(once), made(x), rtol=1e-10, atol=1e-10)
    pd.testing.assert_frame_equal(
        made(x, embed=np.abs), made({task: np.abs(each) for task, each in x.items()}), rtol=1e-10
    )
    x["a"][3, 2] = np.nan
    with pytest.raises(TransferError, match="task 'a': feature 2 of row 3 is nan"):
        made(x)
    with pytest.raises(TransferError, match="tasks 'z' and 'n' have 4 and 2 features"):
        made({"z": x["z"], "n": np.eye(2)})
    with pytest.raises(TransferError, match=r"needs \{task: inputs\}, got ndarray"):
        made(x["z"])


@pytest.mark.parametrize("mass", [0.0, 1.5])
def test_a_wrong_mass_is_told_before_anything_is_read(mass: float) -> None:
    read = []
    source = (read.append(1) for _ in range(1))
    for asked in (analysis.covariance_scores, analysis.covariance_spectra):
        with pytest.raises(TransferError, match="mass must be a share"):
            asked({"a": source}, mass=mass)
    with pytest.raises(TransferError, match="mass must be a share"):
        analysis.covariance_similarity(source, source, mass=mass)
    assert not read


def test_the_two_inputs_of_a_pair_are_named_and_a_generator_is_no_two() -> None:
    with pytest.raises(TransferError, match="tasks 'x_1' and 'x_2' have 3 and 2 features"):
        analysis.covariance_similarity(np.eye(3), np.eye(2))
    batches = iter([np.eye(3)])
    with pytest.raises(TransferError, match="task 'x_2' is empty"):
        analysis.covariance_cosine(batches, batches)
    one = TaskCovariance.of(np.eye(3))
    assert analysis.covariance_cosine(one, one) == pytest.approx(1.0)
