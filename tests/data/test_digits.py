"""The digits problem: real images, no leakage, unequal tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import mtlviz as mv
from mtlviz.data.digits import LABELLED, PAIRS, digit_pairs
from mtlviz.errors import ProblemError


def test_no_source_image_is_in_two_splits_and_labels_are_scikit_learns() -> None:
    splits = digit_pairs(seed=3)
    seen = [set(part.sources.ravel()) for part in splits.values()]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    target = load_digits().target
    for name, part in splits.items():
        assert part.images.shape == (PAIRS[name], 1, 12, 16)
        np.testing.assert_array_equal(part.digits, target[part.sources])


def test_both_digits_are_in_the_picture() -> None:
    images = load_digits().images / 16
    part = digit_pairs(seed=0)["test"]
    for picture, sources in zip(part.images[:50, 0], part.sources[:50], strict=True):
        assert picture.max() == pytest.approx(images[sources].max())
        for source in sources:
            inside = [
                (picture[top : top + 8, left : left + 8] >= images[source] - 1e-6).all()
                for top in range(5)
                for left in range(9)
            ]
            assert any(inside)


def test_tasks_are_unequal_and_labels_are_right() -> None:
    problem = mv.data.digits(seed=1)
    assert problem.train.samples() == LABELLED
    x, targets = problem.validation.shared.inputs, problem.validation.shared.targets
    left, right = targets["left"], targets["right"]
    assert x.shape == (1000, 1, 12, 16)
    torch.testing.assert_close(targets["sum"], (left + right) / 18)
    assert torch.equal(targets["same"] == 1, left == right)
    assert 0.05 < targets["same"].mean() < 0.2  # imbalanced
    assert torch.equal(targets["larger"], torch.where(left > right, 0, torch.where(left < right, 1, 2)))


def test_the_same_seed_gives_the_same_problem_and_leaves_the_users_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = mv.data.digits(seed=0), mv.data.digits(seed=0), mv.data.digits(seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.train.shared.inputs, second.train.shared.inputs)
    for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(first.train.shared.inputs, other.train.shared.inputs)


def test_sizes_out_of_range_are_named() -> None:
    with pytest.raises(ProblemError, match=r"not \['dev'\]"):
        mv.data.digits(pairs={"dev": 100})
    with pytest.raises(ProblemError, match="seed must be a whole number from 0, got -3"):
        mv.data.digits(seed=-3)
    with pytest.raises(ProblemError, match="pairs must be"):
        mv.data.digits(pairs=5)
    with pytest.raises(ProblemError, match="at least 50"):
        mv.data.digits(pairs={"train": 10})
