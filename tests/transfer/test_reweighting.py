"""Algorithm 2: clean above noisy with standardised labels, and weights that no scale, coding or missing label moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import TransferError
from mtlviz.transfer import shared_fit, single_fit, svd_task_weights

DRAWS, SAMPLES, FEATURES = 100, 400, 10


def motivating(
    seed: int, noise: float = 1.0, samples: int = SAMPLES
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """The paper's example: y₁ = Xθ and y₂ = Xθ + ε, one θ, one X."""
    rng = np.random.default_rng([11, seed])
    x, theta = rng.normal(size=(samples, FEATURES)), rng.normal(size=FEATURES)
    theta /= np.linalg.norm(theta)
    return x, {"clean": x @ theta, "noisy": x @ theta + noise * rng.normal(size=samples)}, theta


def weights(x: Any, labels: Any, column: str = "weight", **options: Any) -> dict[str, float]:
    return svd_task_weights(x, labels, **options).set_index("task")[column].to_dict()


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_standardised_labels_put_the_clean_task_first_in_every_draw_and_raw_ones_do_not(noise: float) -> None:
    drawn = [svd_task_weights(*motivating(seed, noise)[:2]).set_index("task") for seed in range(DRAWS)]
    assert all(frame.loc["clean", "weight"] > frame.loc["noisy", "weight"] for frame in drawn)
    raw = np.mean([frame.loc["clean", "raw_weight"] > frame.loc["noisy", "raw_weight"] for frame in drawn])
    assert raw < 0.6
    frame = svd_task_weights(*motivating(0)[:2], standardize=False)
    np.testing.assert_array_equal(frame["weight"], frame["raw_weight"])


def test_weight_on_the_clean_task_moves_what_is_shared_to_the_truth() -> None:
    x, labels, theta = motivating(3, noise=5.0, samples=60)
    cosines = []
    for weight in (1.0, 4.0, 100.0, 1e6):
        fit = shared_fit({task: (x, y) for task, y in labels.items()}, weights={"clean": weight, "noisy": 1.0})
        cosines.append(abs(fit.directions[:, 0] @ theta) / np.linalg.norm(fit.directions))
    assert cosines == sorted(cosines)
    assert cosines[0] < 0.999 < 1 - 1e-6 < cosines[-1]


def test_with_equal_rank_and_tasks_alpha_is_the_length_of_theta() -> None:
    x, labels, _ = motivating(1)
    frame = svd_task_weights(x, labels, rank=2)
    lengths = [np.linalg.norm(x.T @ y) / len(y) for y in labels.values()]
    np.testing.assert_allclose(frame["raw_alpha"], lengths)
    theta = np.stack([x.T @ y for y in labels.values()], axis=1)
    leading = np.linalg.svd(theta)[0][:, :1]
    by_hand = np.linalg.norm(leading.T @ theta, axis=0) / SAMPLES
    np.testing.assert_allclose(svd_task_weights(x, labels)["raw_alpha"], by_hand)
    assert list(frame["samples"]) == [SAMPLES, SAMPLES]
    assert frame["weight"].mean() == pytest.approx(1)


def test_neither_scale_nor_shift_nor_sign_of_a_label_moves_the_weights() -> None:
    x, labels, _ = motivating(2)
    first = weights(x, labels)
    assert weights(x, {"clean": 1000 * labels["clean"] - 7, "noisy": -0.01 * labels["noisy"]}) == pytest.approx(first)
    assert weights(pd.DataFrame(x), {name: pd.Series(y) for name, y in labels.items()}) == pytest.approx(first)
    assert weights(x, dict(reversed(labels.items()))) == pytest.approx(first)
    assert weights(x, {**labels, "clean": labels["clean"] * 5}, "raw_weight") != pytest.approx(
        weights(x, labels, "raw_weight")
    )


def test_two_classes_count_as_one_column_of_numbers_in_whichever_coding() -> None:
    x, labels, _ = motivating(4)
    yes = labels["noisy"] > 0
    codings = [yes.astype(float), yes, yes.astype(int), np.where(yes, 7, 3), np.stack([yes, ~yes], axis=1).astype(int)]
    codings.append(np.stack([labels["noisy"] > 0] * 2, axis=1).astype(float))  # the same thing said twice
    expected = weights(x, {"clean": labels["clean"], "yes": codings[0]})
    for coding in codings[1:]:
        assert weights(x, {"clean": labels["clean"], "yes": coding}) == pytest.approx(expected)


def test_classes_without_meaning_weigh_less_than_those_with_and_many_classes_no_more_than_few() -> None:
    x, labels, _ = motivating(5)
    rng = np.random.default_rng(0)
    edges = {
        count: np.digitize(labels["clean"], np.quantile(labels["clean"], np.arange(1, count) / count))
        for count in (3, 12)
    }
    frame = weights(x, {"few": edges[3], "many": edges[12], "random": rng.integers(0, 12, SAMPLES)})
    assert frame["random"] < 0.6 * min(frame["few"], frame["many"])
    assert frame["many"] < frame["few"]


def test_a_task_with_half_its_labels_weighs_about_as_much() -> None:
    x, labels, _ = motivating(6, samples=4000)
    rng = np.random.default_rng(1)
    half = np.where(rng.random(4000) < 0.5, labels["noisy"], np.nan)
    classes = np.where(rng.random(4000) < 0.25, (labels["noisy"] > 0).astype(int), -100)
    full = weights(x, {**labels, "class": (labels["noisy"] > 0).astype(int)})
    part = svd_task_weights(x, {"clean": labels["clean"], "noisy": half, "class": classes})
    assert list(part["samples"]) == [4000, int(np.isfinite(half).sum()), int((classes >= 0).sum())]
    for column in ("weight", "raw_weight"):
        assert part.set_index("task")[column].to_dict() == pytest.approx(
            full if column == "weight" else weights(x, {**labels, "class": (labels["noisy"] > 0).astype(int)}, column),
            rel=0.1,
        )


def test_the_more_labels_are_made_random_the_less_a_task_weighs() -> None:
    x, labels, _ = motivating(7)
    rng = np.random.default_rng(2)
    place, other = rng.random(SAMPLES), rng.normal(size=SAMPLES)
    found = []
    for share in (0.0, 0.2, 0.5, 0.9):
        tested = np.where(place < share, other, labels["clean"])
        found.append(weights(x, {"clean": labels["clean"], "tested": tested})["tested"])
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(1)


def test_the_weights_train() -> None:
    x, labels, _ = motivating(0)
    weighting = mv.weighting.Fixed(svd_task_weights(x, labels).set_index("task")["weight"])
    weighting.introduce(["noisy", "clean"])
    noisy, clean = weighting(np.ones(2), np.eye(2))
    assert clean > noisy
    assert single_fit(x, labels["clean"]).shape == (FEATURES,)


X = np.random.default_rng(0).normal(size=(6, 2))
Y = np.arange(6.0)


@pytest.mark.parametrize(
    ("x", "labels", "rank", "message"),
    [
        (X, {}, 1, "one task or more"),
        (X, [Y], 1, "labels must be"),
        (X[:, 0], {"a": Y}, 1, r"x must be \(m, d\) with two samples or more, got \(6,\)"),
        (X[:1], {"a": Y[:1]}, 1, "two samples or more"),
        (np.where(X > 0, X, np.nan), {"a": Y}, 1, "x has values that are not finite in"),
        ([["a", "b"]] * 6, {"a": Y}, 1, "x must be numbers"),
        (X, {"a": Y[:5]}, 1, r"task 'a' needs labels \(6,\) or \(6, c\), one for each sample; got \(5,\)"),
        (X, {"a": Y, "b": np.ones(6)}, 1, "task 'b': its labels are all 1, so there is nothing to learn"),
        (X, {"a": np.full(6, 0.1)}, 1, "task 'a': its labels are all 0.1"),
        (X, {"a": np.full(6, 3)}, 1, "task 'a': its labels are all 3"),
        (X, {"a": np.stack([Y, np.ones(6)], axis=1)}, 1, "task 'a': its column 1 is constant"),
        (X, {"a": np.full(6, np.nan)}, 1, "task 'a' needs two labels or more in each column, got 0"),
        (X, {"a": np.full(6, -100)}, 1, "task 'a' needs two labels or more in each column, got 0"),
        (X, {"a": np.where(Y < 1, Y, np.nan)}, 1, "got 1"),
        (X, {"a": np.where(Y < 1, np.inf, Y)}, 1, "task 'a' has labels that are infinite"),
        (X, {"a": ["yes"] * 6}, 1, "task 'a' needs labels that are numbers"),
        (X, {"a": np.empty((6, 0))}, 1, "task 'a' needs labels"),
        (X, {"a": Y}, 0, "rank must be a whole number from 1"),
        (X, {"a": Y}, 2, "rank must be from 1 to the number of tasks, 1; got 2"),
        (np.zeros((6, 2)), {"a": Y}, 1, "no task's labels go with any column of x"),
    ],
)
def test_what_gives_no_weights_is_told(x: Any, labels: Any, rank: int, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        svd_task_weights(x, labels, rank=rank)
