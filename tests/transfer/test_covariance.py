"""Task covariances: equation 5 from an SVD of the inputs themselves, invariances, streams, and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtlviz.transfer import TaskCovariance, covariance_cosine, covariance_score
from tests.strategies import seeds

Floats = NDArray[np.float64]
sizes = st.integers(2, 40)
widths = st.integers(1, 8)


def made(seed: int, m: int, d: int) -> Floats:
    """Inputs (m, d) of features of unequal size that depend on each other, not centred."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(m, d)) * 2.0 ** rng.uniform(-3, 3, d) + rng.normal(size=d)) @ rng.normal(size=(d, d))


def planted(spectrum: Floats, m: int, seed: int) -> Floats:
    """Inputs (m, d) whose covariance has just this spectrum, in directions of their own."""
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.normal(size=(len(spectrum), len(spectrum))))[0]
    return np.linalg.qr(rng.normal(size=(m, len(spectrum))))[0] * np.sqrt(spectrum) @ V.T


def rotation(d: int, seed: int) -> Floats:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def cut(X: Floats, mass: float) -> tuple[Floats, bool]:
    """M = U_r D_r^½ (d, r) from the singular values of X, and whether its rank is a clear one."""
    _, S, Vt = np.linalg.svd(X, full_matrices=False)
    D = S**2
    reached = np.cumsum(D) / D.sum()
    r = 1 + int(np.argmax(reached >= mass - 1e-12))
    clear = mass == 1 or (np.abs(reached - mass).min() > 1e-9 and (r == len(D) or D[r - 1] - D[r] > 1e-6 * D[0]))
    return Vt[:r].T * S[:r], clear


def literal_score(M_1: Floats, M_2: Floats) -> float:
    return np.linalg.norm(M_1.T @ M_2) / (np.linalg.norm(M_1) * np.linalg.norm(M_2))


@given(seeds, sizes, sizes, widths, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
@settings(max_examples=60)
def test_the_score_is_equation_5_symmetric_and_between_0_and_1(seed: int, m: int, n: int, d: int, mass: float) -> None:
    x, y = made(seed, m, d), made(seed + 1, n, d)
    one, other = TaskCovariance.of(x), TaskCovariance.of(y)
    score = covariance_score(one, other, mass=mass)
    assert 0 <= score <= 1
    assert covariance_score(other, one, mass=mass) == pytest.approx(score, abs=1e-12)
    assert covariance_cosine(other, one) == covariance_cosine(one, other)
    (M_1, clear), (M_2, also) = cut(x, mass), cut(y, mass)
    assume(clear and also)
    assert score == pytest.approx(literal_score(M_1, M_2), abs=1e-7)


@given(seeds, sizes, sizes, st.integers(2, 8), st.integers(-40, 40), st.sampled_from([0.9, 0.99, 1.0]))
@settings(max_examples=60)
def test_neither_scale_nor_a_common_rotation_changes_a_score(
    seed: int, m: int, n: int, d: int, power: int, mass: float
) -> None:
    x, y, Q = made(seed, m, d), made(seed + 1, n, d), rotation(d, seed + 2)
    assume(cut(x, mass)[1] and cut(y, mass)[1])
    one, other = TaskCovariance.of(x), TaskCovariance.of(y)
    moved = TaskCovariance.of(x @ Q * 10.0**power), TaskCovariance.of(y @ Q / 3)
    assert covariance_score(*moved, mass=mass) == pytest.approx(covariance_score(one, other, mass=mass), abs=1e-7)
    assert covariance_cosine(*moved) == pytest.approx(covariance_cosine(one, other), abs=1e-9)


@given(seeds, st.lists(st.integers(0, 9), min_size=1, max_size=6), widths)
@settings(max_examples=60)
def test_a_stream_and_parts_put_together_are_the_whole(seed: int, lengths: list[int], d: int) -> None:
    X = made(seed, sum(lengths) + 4, d)
    parts = np.split(X, np.cumsum([2, *lengths]))  # the first has two rows, the last the rest, some have none
    whole, streamed = TaskCovariance.of(X), TaskCovariance.of(iter(parts))
    together = TaskCovariance.of(X[:2]) + TaskCovariance.of(X[2:])
    for found in (streamed, together):
        assert found.samples == whole.samples == len(X)
        np.testing.assert_allclose(found.moment, whole.moment, rtol=1e-10, atol=1e-10 * np.abs(whole.moment).max())
        np.testing.assert_allclose(found.moment, X.T @ X, rtol=1e-10, atol=1e-10 * np.abs(whole.moment).max())
        np.testing.assert_array_equal([found.low, found.high], [X.min(axis=0), X.max(axis=0)])


@given(seeds, st.integers(1, 30))
@settings(max_examples=25)
def test_scores_of_streams_are_those_of_the_whole_away_from_the_cut(seed: int, size: int) -> None:
    spectrum = np.array([60, 25, 10, 4.5, 0.3, 0.2])  # 99 % is passed at the fourth, at 99.5 %
    x, y = planted(spectrum, 50, seed), planted(spectrum, 80, seed + 1)
    whole = TaskCovariance.of(x), TaskCovariance.of(y)
    rows = np.random.default_rng(seed).permutation(50)
    streamed = TaskCovariance.of(x[rows[i : i + size]] for i in range(0, 50, size)), whole[1]
    assert [each.rank() for each in (*whole, *streamed)] == [4] * 4
    assert covariance_score(*streamed) == pytest.approx(covariance_score(*whole), abs=1e-10)
    assert covariance_score(*whole) == pytest.approx(literal_score(cut(x, 0.99)[0], cut(y, 0.99)[0]), abs=1e-10)


def test_mass_that_is_just_reached_counts_however_it_was_rounded() -> None:
    for seed in range(5):
        equal = TaskCovariance.of(planted(np.full(100, 7.0), 120, seed))
        assert (equal.rank(0.99), equal.rank(0.5), equal.rank(1.0), equal.rank(1e-9)) == (99, 50, 100, 1)


def test_ranks_and_scores_by_hand() -> None:
    one, other = TaskCovariance.of([[2, 0], [0, 1]]), TaskCovariance.of([[1, 0], [0, 2]])  # C = diag(4, 1), diag(1, 4)
    assert [one.rank(mass) for mass in (0.5, 0.8, 0.81, 1.0)] == [1, 1, 2, 2]
    assert covariance_score(one, other, mass=1.0) == pytest.approx(8**0.5 / 5)
    assert covariance_score(one, other, mass=0.8) == 0.0  # one direction of each, at right angles
    assert covariance_cosine(one, other) == pytest.approx(8 / 17)
    np.testing.assert_allclose(one.spectrum, [4, 1])
    np.testing.assert_allclose(other.directions, [[0, 1], [1, 0]], atol=1e-15)


@given(seeds, sizes, widths)
@settings(max_examples=25)
def test_a_task_is_like_itself_as_its_spectrum_says_and_wholly_where_it_has_one_direction(
    seed: int, m: int, d: int
) -> None:
    covariance = TaskCovariance.of(made(seed, m, d))
    for mass in (0.9, 1.0):
        D = covariance.spectrum[: covariance.rank(mass)]
        assert covariance_score(covariance, covariance, mass=mass) == pytest.approx(np.linalg.norm(D) / D.sum())
    rng = np.random.default_rng(seed)
    line = TaskCovariance.of(np.outer(rng.normal(size=m), rng.normal(size=d)))
    assert line.rank(1.0) == 1
    assert covariance_score(line, line, mass=1.0) == pytest.approx(1.0, abs=1e-12)
    assert covariance_score(line, line) == pytest.approx(1.0, abs=1e-12)


@given(seeds, sizes, sizes, widths)
@settings(max_examples=25)
def test_the_cosine_is_the_squared_score_over_both_scores_with_themselves(seed: int, m: int, n: int, d: int) -> None:
    one, other = TaskCovariance.of(made(seed, m, d)), TaskCovariance.of(made(seed + 1, n, d))
    own = [covariance_score(each, each, mass=1.0) for each in (one, other)]
    expected = covariance_score(one, other, mass=1.0) ** 2 / (own[0] * own[1])
    assert covariance_cosine(one, other) == pytest.approx(expected, abs=1e-9)
    assert covariance_cosine(one, TaskCovariance.of(3 * made(seed, m, d))) == pytest.approx(1.0)


@given(seeds, sizes, widths)
@settings(max_examples=40)
def test_spectrum_and_directions_make_the_covariance_and_signs_are_settled(seed: int, m: int, d: int) -> None:
    X = made(seed, m, d)
    covariance = TaskCovariance.of(X)
    D, U = covariance.spectrum, covariance.directions
    scale = D[0]
    np.testing.assert_allclose(U * D @ U.T, X.T @ X, atol=1e-9 * scale)
    np.testing.assert_allclose(U.T @ U, np.eye(d), atol=1e-12)
    assert (np.diff(D) <= 0).all()
    assert D[-1] >= 0
    assert (U[np.abs(U).argmax(axis=0), np.arange(d)] > 0).all()
    np.testing.assert_allclose(D[: min(m, d)], np.linalg.svd(X, compute_uv=False) ** 2, atol=1e-9 * scale)
    assert covariance.shares.sum() == pytest.approx(1.0)
