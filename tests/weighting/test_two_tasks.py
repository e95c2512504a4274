"""The closed forms of two tasks, against the loops for any number of tasks and against arithmetic of many digits."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from mtlviz.runlog.records import Floats
from mtlviz.weighting import (
    EMTL,
    IMTLG,
    MGDA,
    AlignedMTL,
    BanditMTL,
    CAGrad,
    DualProj,
    FairGrad,
    NashMTL,
    PCGrad,
    UPGrad,
    Weighting,
)
from mtlviz.weighting.solvers.conflict_averse import conflict_averse
from mtlviz.weighting.solvers.fairness import fair_weights
from mtlviz.weighting.solvers.log_odds import border_of_two, divergence_of_two
from mtlviz.weighting.solvers.min_norm import min_norm
from tests.strategies import gramians_of_two, seeds

LOSSES = np.ones(2)
OPPOSITE = np.array([[1.0, -1.0], [-1.0, 1.0]])


def beside_a_third(method: Weighting, gramian: Floats, losses: Floats = LOSSES) -> Floats:
    """The weights (2,) of the two tasks in a step in which a third one is absent: the loops for any number."""
    wide = np.full((3, 3), np.nan)
    wide[:2, :2] = gramian
    return method(np.append(losses, np.nan), wide, np.array([True, True, False]))[:2]


def cosine(gramian: Floats) -> float:
    return float(gramian[0, 1] / np.sqrt(gramian[0, 0]) / np.sqrt(gramian[1, 1])) if gramian.diagonal().all() else 0.0


@pytest.mark.parametrize(
    "method",
    [PCGrad(), PCGrad(reduction="mean"), UPGrad(), DualProj()],
    ids=str,
)
@settings(max_examples=200)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
def test_projections_are_those_of_the_loops(method: Weighting, gramian: Floats) -> None:
    got = method(LOSSES, gramian)
    method.reset()  # for another number of tasks
    expected = beside_a_third(method, gramian)
    method.reset()
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("method", [UPGrad, DualProj, AlignedMTL])
@settings(max_examples=100)
@given(gramian=gramians_of_two(), preference=st.tuples(st.floats(0, 9), st.floats(1e-3, 9)))
def test_preferences_are_those_of_the_loops(
    method: type[Weighting], gramian: Floats, preference: tuple[float, float]
) -> None:
    assume(method is not AlignedMTL or well_off_the_rank(gramian, 1.2e-7))
    expected = beside_a_third(method(preference=[*preference, 0.0]), gramian)
    atol = 1e-9 * sum(preference) if method is AlignedMTL else 0.0
    got = method(preference=preference)(LOSSES, gramian)
    assert (np.abs(got - expected) <= 1e-12 * np.abs(expected) + atol).all()


@settings(max_examples=200)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
@example(gramian=np.ones((2, 2)))
def test_imtl_g_is_that_of_the_loops(gramian: Floats) -> None:
    """The loops' own rounding grows as the cosine nears ±1; the equal parts along both gradients do not."""
    assume(not 1e-11 < 1 + cosine(gramian) < 4e-11)  # where the loops decide by their own rounding
    got, loops = IMTLG()(LOSSES, gramian), beside_a_third(IMTLG(), gramian)
    np.testing.assert_allclose(got, loops, rtol=1e-12 + min(1e-15 / max(1 - abs(cosine(gramian)), 1e-16), 1e-3))
    parts = got * np.sqrt(gramian.diagonal())
    assert parts[0] == pytest.approx(parts[1], rel=1e-14) or not gramian.diagonal().all()


def well_off_the_rank(gramian: Floats, tolerance: float) -> bool:
    """Whether the smaller eigenvalue is not where it begins to count."""
    with mp.workdps(60):
        a, b, product = mpf(gramian[0, 0]), mpf(gramian[1, 1]), mpf(gramian[0, 1])
        if a + b == 0:
            return True
        high = (a + b + mp.sqrt((a - b) ** 2 + 4 * product**2)) / 2
        part = (a * b - product**2) / high**2
        return not tolerance < part < 4 * tolerance


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize("tolerance", [1.2e-7, 1e-3, 0.7])
@settings(max_examples=100)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
@example(gramian=np.ones((2, 2)))
@example(gramian=np.eye(2))
def test_aligned_mtl_is_the_root_of_the_inverse(gramian: Floats, scale: str, tolerance: float) -> None:
    """In 60 digits: √(σ / λ) (v·p) v, summed over the eigenvalues that count."""
    assume(well_off_the_rank(gramian, tolerance))
    got = AlignedMTL(scale=scale, tolerance=tolerance)(LOSSES, gramian)  # type: ignore[arg-type]
    with mp.workdps(60):
        values, vectors = mp.eigsy(mp.matrix(gramian.tolist()))
        pairs = [(values[k], (vectors[0, k], vectors[1, k])) for k in (1, 0)]
        counted = [pair for pair in pairs if pair[0] > 2 * mpf(tolerance) * pairs[0][0]]
        if not counted:
            np.testing.assert_array_equal(got, 0.5)
            return
        sigma = sum(value for value, _ in counted) / len(counted) if scale == "rmse" else counted[-1][0]
        expected = [
            float(sum(mp.sqrt(sigma / value) * (v[0] + v[1]) / 2 * v[t] for value, v in counted)) for t in range(2)
        ]
    condition = 1 / max(1 - abs(cosine(gramian)), 1e-8 if len(counted) == 1 else 1e-16)
    cancelled = 1e-15  # where p is next to orthogonal to v
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14 * condition * np.abs(expected).max() + cancelled)


@settings(max_examples=200)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
@example(gramian=np.ones((2, 2)))
def test_mgda_is_the_nearest_point_in_exact_arithmetic(gramian: Floats) -> None:
    w = [Fraction(x) for x in min_norm(gramian)]
    a, b, product = Fraction(gramian[0, 0]), Fraction(gramian[1, 1]), Fraction(gramian[0, 1])

    def square(x: Fraction) -> Fraction:
        return x * x * a + 2 * x * (1 - x) * product + (1 - x) ** 2 * b

    apart = a + b - 2 * product
    best = min(max((b - product) / apart, Fraction(0)), Fraction(1)) if apart > 0 else Fraction(a < b)
    assert abs(w[0] + w[1] - 1) <= Fraction(1, 10**15)
    assert square(w[0]) - square(best) <= Fraction(1, 10**14) * (w[0] ** 2 * a + w[1] ** 2 * b)
    np.testing.assert_array_equal(MGDA()(LOSSES, gramian), min_norm(gramian))


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9, 0.999])
@settings(max_examples=150)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
@example(gramian=np.ones((2, 2)))
@example(gramian=np.array([[1.0, -1.0], [-1.0, 1.0 + 1e-9]]))
def test_cagrad_reaches_the_dual_bound(gramian: Floats, c: float) -> None:
    """In 60 digits: min g_t·d is that of no other d of the ball, to what a last bit of the cosine changes."""
    v = conflict_averse(gramian, c)
    assert (v >= 0).all()
    np.testing.assert_array_equal(CAGrad(c=c)(LOSSES, gramian), 0.5 + v)
    with mp.workdps(60):
        a, b, product = (mpf(float(x)) for x in (gramian[0, 0], gramian[1, 1], gramian[0, 1]))
        lengths = mp.sqrt(a), mp.sqrt(b)
        first, second = mpf(float(v[0])), mpf(float(v[1]))
        mean = mp.sqrt(max(a + b + 2 * product, 0)) / 2
        pull = mp.sqrt(max(first**2 * a + 2 * first * second * product + second**2 * b, 0))
        if a == 0 or b == 0 or mean <= 2e-7 * (lengths[0] + lengths[1]):
            assert pull <= c * mean * (1 + mpf(10) ** -12) + mpf(10) ** -7 * (lengths[0] + lengths[1])
            return
        size = first * lengths[0] + second * lengths[1]  # of the terms that cancel in the pull
        blur = mpf(10) ** -14 * size * (size / (c * mean))
        blur += mpf(10) ** -15 * (lengths[0] + lengths[1]) ** 2 / mean  # a last bit of the cosine, in ‖g₀‖
        assert abs(pull - c * mean) <= mpf(10) ** -12 * mean + blur
        half = mpf(1) / 2
        gains = [
            (half + first) * a + (half + second) * product,
            (half + first) * product + (half + second) * b,
        ]
        bound = (first * (a + product) + second * (b + product)) / 2 + c * mean * pull  # of the worst gain times Σv
        noise = mpf(10) ** -13 * max(lengths) * (size + mean + lengths[0] + lengths[1]) + max(lengths) * blur
        assert min(gains) * (first + second) >= bound - (first + second) * noise


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0, 2.0, 5.0])
@settings(max_examples=150)
@given(gramian=gramians_of_two())
@example(gramian=OPPOSITE)
@example(gramian=np.ones((2, 2)))
@example(gramian=np.array([[1e12, 1.0], [1.0, 1e-12]]))
def test_fair_weights_solve_their_equation_in_many_digits(gramian: Floats, alpha: float) -> None:
    """(G w)_t + 1e-12 G_tt w_t = w_t^(−1/α), to what a last bit of G changes."""
    w = fair_weights(gramian, 1 / alpha)
    np.testing.assert_array_equal(FairGrad(alpha=alpha)(LOSSES, gramian), w)
    assert ((w > 0) == (gramian.diagonal() > 0)).all()
    with mp.workdps(60):
        g = mp.matrix(gramian.tolist())
        z = [mpf(float(x)) for x in w]
        for t in np.nonzero(w)[0]:
            own = g[t, t] * z[t]
            wanted = z[t] ** (-1 / mpf(alpha))
            left = own + mpf("1e-12") * own + g[0, 1] * z[1 - t]
            terms = own + abs(g[0, 1]) * z[1 - t]
            assert abs(left - wanted) <= mpf(10) ** -12 * wanted + mpf(10) ** -15 * 2 * terms


def test_nash_of_two_by_hand() -> None:
    gramian = np.array([[4.0, 3.0], [3.0, 9.0]])  # the cosine is ½
    expected = np.array([1 / 2, 1 / 3]) / np.sqrt(1.5)
    np.testing.assert_allclose(NashMTL()(LOSSES, gramian), expected, rtol=1e-12)


@given(st.floats(0, np.log(2), exclude_min=True, exclude_max=True))
@example(5e-324)
@example(1e-310)
@example(9.99e-4)
@example(1.01e-3)
@example(float(np.nextafter(np.log(2), 0)))
def test_the_border_of_the_ball_of_two_in_many_digits(rho: float) -> None:
    s = border_of_two(rho)
    assert s > 0
    with mp.workdps(400):
        exact = mpf(s)
        p = 1 / (1 + mp.exp(-exact))
        kl = p * mp.log(2 * p) + (1 - p) * mp.log(2 * (1 - p))
    if rho > 1e-300:
        assert float(abs(kl - mpf(rho))) <= 1e-14 * rho
        assert divergence_of_two(s)[0] == pytest.approx(float(kl), rel=1e-14)


@settings(max_examples=100)
@given(
    seed=seeds,
    size=st.sampled_from([1e-6, 1.0, 1e3, 1e12]),
    rho=st.floats(0, 1) | st.sampled_from([0.0, 1e-12, 1e-3, 0.1, 0.69]),
    make=st.sampled_from([BanditMTL, EMTL]),
)
def test_runs_of_the_adversary_are_those_of_the_loops(seed: int, size: float, rho: float, make: type) -> None:
    rng = np.random.default_rng(seed)
    losses = size * rng.normal(size=(12, 2))
    rows = rng.normal(size=(12, 2, 3)) * 10.0 ** rng.uniform(-3, 3, size=(12, 2, 1))
    method, other = make(rho=rho), make(rho=rho)
    begun = np.array([[-np.log(2), -np.log(2), -700]])  # nothing for the third, which would change what the others have
    other.load_state_dict(other.state_dict() | {"tasks": 3, "state": begun})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for loss, j in zip(losses, rows, strict=True):
            got, expected = method(loss, j @ j.T), beside_a_third(other, j @ j.T, loss)
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.0), (1e308, -1e308), (-1e308, 1e308)])
def test_the_adversary_of_two_bears_any_loss(first: float, second: float) -> None:
    method = BanditMTL(rho=0.5)
    for losses in ([first, second], [second, first], [0.0, 0.0]):
        w = method(np.array(losses), np.eye(2))
    assert w.sum() == pytest.approx(1)
    assert w[0] == pytest.approx(1 - w[1])
    assert (w[0] > 0.5) == (second > first)
