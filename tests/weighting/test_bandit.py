"""BanditMTL and its mirror ascent: pinned vectors, a high-precision root, the KL ball, and every odd input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtlviz.errors import WeightingError
from mtlviz.weighting import BanditMTL
from mtlviz.weighting.solvers.kl_ball import LOWEST, advance, mirror_step, shares

wide = np.longdouble


def step(losses: list[float], rho: float, eta: float = 0.5) -> tuple[np.ndarray, float]:
    """p and λ after one step from equal p."""
    log_p, dual = mirror_step(np.zeros(len(losses)), eta * np.array(losses), rho)
    return np.exp(log_p), dual


def divergence(log_p: np.ndarray) -> float:
    """KL(p‖1/T) in extended precision, as the sum of φ(T p) ≥ 0 of the normalised p."""
    x = log_p.astype(wide)
    x = x - x.max()
    x = x - np.log(np.exp(x).mean())
    return float((x * np.exp(x) - np.expm1(x)).mean())


def reference(log_p: np.ndarray, gains: np.ndarray, rho: float) -> tuple[np.ndarray, float]:
    """log p and λ in extended precision, by bisection on log s, s = 1 / (1 + λ)."""
    a = log_p.astype(wide) + gains.astype(wide)
    a = a - a.max()

    def tempered(s: np.longdouble) -> tuple[np.ndarray, np.longdouble]:
        x = s * a - np.log1p(np.expm1(s * a).mean())
        series = sum(x**k / (k * wide(np.prod(np.arange(1, k - 1, dtype=float)))) for k in range(2, 22))
        return x - np.log(wide(len(a))), np.where(abs(x) < 0.3, series, x * np.exp(x) - np.expm1(x)).mean()

    if rho >= np.log(len(a)) or tempered(wide(1))[1] <= rho:
        return tempered(wide(1))[0].astype(float), 0.0
    low, high = wide(1e-30), wide(1)
    for _ in range(90):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if tempered(middle)[1] <= rho else (low, middle)
    return tempered(high)[0].astype(float), float(1 / high - 1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """log p, gains and ρ, over twenty decades of gains and ten of ρ, up to ρ that no p reaches."""
    tasks = draw(st.integers(2, 8))
    log_p = draw(arrays(np.float64, tasks, elements=st.floats(-20, 0)))
    gains = draw(arrays(np.float64, tasks, elements=st.floats(-1, 1))) * 10.0 ** draw(st.floats(-10, 10))
    rho = np.log(tasks) * 10.0 ** draw(st.floats(-10, 0.3))
    return log_p, gains, rho


@pytest.mark.parametrize(
    ("losses", "rho", "p", "dual"),
    [
        ([3, 1, 0.2], 1.2, [0.619396, 0.227863, 0.152741], 0.0),
        ([3, 1, 0.2], 0.05, [0.482196, 0.285874, 0.231929], 0.912784),
        ([2, 1], 1.2, [0.622459, 0.377541], 0.0),
        ([2, 1], 0.01, [0.570593, 0.429407], 0.758896),
    ],
)
def test_pinned_steps(losses: list[float], rho: float, p: list[float], dual: float) -> None:
    found, multiplier = step(losses, rho)
    np.testing.assert_allclose(found, p, atol=6e-7)
    assert multiplier == pytest.approx(dual, abs=6e-7)


@pytest.mark.parametrize(("losses", "kl"), [([3, 1, 0.2], 0.177901), ([2, 1], 0.0302999)])
def test_pinned_divergence_of_a_free_step(losses: list[float], kl: float) -> None:
    p, _ = step(losses, 5.0)
    assert (p * np.log(len(p) * p)).sum() == pytest.approx(kl, abs=6e-7)


@given(problems())
@example((np.zeros(2), np.array([1.0, 0.0]), 1e-14))
@example((np.zeros(3), np.array([1.0, 1.0, 0.0]), 0.4))
@example((np.zeros(3), np.array([1e6, 1e6 - 1e-3, 0.0]), 1.0))
@example((np.zeros(2), np.array([1e9, 0.0]), 0.6931471805))
def test_the_step_is_that_of_a_high_precision_root(problem: tuple[np.ndarray, np.ndarray, float]) -> None:
    log_p, gains, rho = problem
    found, dual = mirror_step(log_p, gains, rho)
    expected, multiplier = reference(log_p, gains, rho)
    moved = log_p + gains  # known to rounding, and p cannot be known better than its exponent
    error = 1e-14 + 4e-16 * abs(moved).max() / max((moved.max() - moved.min()) / (1 + multiplier), 1e-300)
    assume(error < 1e-3)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=100 * error)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-13)
    if multiplier == 0:
        assert dual == pytest.approx(0, abs=1e-12)
    elif divergence(log_p + gains) > rho * (1 + 1e-9):
        assert divergence(found) == pytest.approx(rho, rel=1e-12 + 1e3 * error)


@given(problems())
def test_p_stays_in_the_ball(problem: tuple[np.ndarray, np.ndarray, float]) -> None:
    found, dual = mirror_step(*problem)
    assert divergence(found) <= problem[2] * (1 + 1e-12) + 1e-15
    assert dual >= 0


@given(problems())
def test_no_other_p_in_the_ball_is_better(problem: tuple[np.ndarray, np.ndarray, float]) -> None:
    """p maximises ⟨p, gains⟩ − KL(p‖old) in the ball: mixed with any other p of the ball, it is no better."""
    log_p, gains, rho = problem
    assume(abs(gains).max() < 1e3)
    old = log_p - np.log(np.exp(log_p).sum())

    def value(p: np.ndarray) -> float:
        return float(p @ gains - p @ (np.log(p) - old))

    p = np.exp(mirror_step(log_p, gains, rho)[0])
    assume(p.min() > 1e-100)
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = np.exp(mirror_step(np.zeros(len(p)), 5 * rng.normal(size=len(p)), rho)[0])
        mixed = 0.99 * p + 0.01 * other
        assert value(mixed) <= value(p) + 1e-9 * (1 + abs(gains).max())


@given(problems(), st.floats(0, 5))
def test_a_ball_that_holds_every_p_has_no_dual(problem: tuple[np.ndarray, np.ndarray, float], more: float) -> None:
    log_p, gains, _ = problem
    found, dual = mirror_step(log_p, gains, np.log(len(log_p)) + more)
    free = log_p + gains - (log_p + gains).max()
    assert dual == 0
    np.testing.assert_allclose(np.exp(found), np.exp(free) / np.exp(free).sum(), rtol=1e-9, atol=1e-12)


@given(problems())
def test_a_ball_of_radius_0_holds_equal_p_alone(problem: tuple[np.ndarray, np.ndarray, float]) -> None:
    log_p, gains, _ = problem
    np.testing.assert_allclose(np.exp(mirror_step(log_p, gains, 0.0)[0]), 1 / len(log_p), rtol=1e-13)


def test_equal_losses_keep_equal_p_and_one_task_keeps_all() -> None:
    for losses in ([2.0] * 4, [7.0]):
        p, dual = step(losses, 0.1)
        np.testing.assert_allclose(p, 1 / len(losses), rtol=1e-14)
        assert dual == 0


@given(problems(), st.randoms(use_true_random=False))
def test_tasks_can_be_reordered(problem: tuple[np.ndarray, np.ndarray, float], random: object) -> None:
    log_p, gains, rho = problem
    order = np.array(random.sample(range(len(gains)), len(gains)))  # type: ignore[attr-defined]
    moved = log_p + gains
    assume(np.ptp(moved) > 1e-6 * abs(moved).max())
    found, dual = mirror_step(log_p, gains, rho)
    again, other = mirror_step(log_p[order], gains[order], rho)
    np.testing.assert_allclose(np.exp(again), np.exp(found)[order], atol=1e-9)
    assert other == pytest.approx(dual, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("rho", [1e-3, 1e-5, 1e-7])
def test_the_worst_case_in_a_small_ball_is_mean_plus_deviation(rho: float) -> None:
    """sup Σ p_t r_t = mean + √(2ρ Var) + O(ρ): the sup is the limit of large steps."""
    rates = np.array([0.3, 2.0, 1.1, -0.4])
    p = np.exp(mirror_step(np.zeros(4), 1e9 * rates, rho)[0])
    expected = rates.mean() + np.sqrt(2 * rho * rates.var())
    assert p @ rates == pytest.approx(expected, abs=2 * rho)
    assert abs(p @ rates - expected) > 1e-3 * rho  # the next term of the expansion does not vanish here


@given(
    arrays(np.float64, st.integers(1, 6), elements=st.floats(-1.7e308, 1.7e308)),
    st.floats(0, 1e3) | st.sampled_from([5e-324, 1e-310, 1e-200, 1.0986122886681098]),
    st.integers(0, 10**6),
)
def test_no_input_breaks_it(losses: np.ndarray, rho: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    method = BanditMTL(rho=rho, eta=7.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(4):
            present = rng.random(len(losses)) < 0.7
            w = method(rng.permutation(losses), np.zeros((len(losses), len(losses))), present)
            assert np.isfinite(w).all()
            assert w.min() >= 0
            assert w.sum() == pytest.approx(1.0 if present.any() else 0.0)
            assert not w[~present].any()
    state = method.state_dict()["state"]
    assert state.min() >= LOWEST
    assert np.isfinite(state).all()


def test_the_weights_are_p_before_the_step_of_this_batch() -> None:
    method = BanditMTL(rho=0.05)
    losses = np.array([3, 1, 0.2])
    np.testing.assert_allclose(method(losses, np.eye(3)), [1 / 3] * 3)
    np.testing.assert_allclose(method(losses, np.eye(3)), [0.482196, 0.285874, 0.231929], atol=6e-7)


def test_a_task_that_nearly_lost_its_weight_wins_it_back() -> None:
    method = BanditMTL(rho=0.5)
    for losses in ([1e308, -1e308], [1e308, -1e308], [-1e5, 1e5], [0.0, 0.0]):
        w = method(np.array(losses), np.eye(2))
    assert w[1] > 0.9


def test_present_tasks_share_out_what_they_had_together() -> None:
    log_p = np.log(np.array([0.5, 0.2, 0.3]))
    present = np.array([True, False, True])
    assert shares(log_p, present).tolist() == pytest.approx([0.625, 0, 0.375])
    dual = advance(log_p, np.array([0.0, 99.0, 2.0]), present, 9.0)
    odds = 0.3 * np.exp(2.0) / 0.5
    np.testing.assert_allclose(np.exp(log_p), [0.8 / (1 + odds), 0.2, 0.8 * odds / (1 + odds)])
    assert dual == 0
    advance(log_p, np.array([5.0, 0.0, 0.0]), present, 0.1)
    assert np.exp(log_p).sum() == pytest.approx(1)
    assert divergence(log_p[present]) == pytest.approx(0.1)


def test_a_ball_that_holds_every_p_is_warned_of_once() -> None:
    method = BanditMTL()
    with pytest.warns(UserWarning, match=r"rho=1.2 does not constrain 3 tasks, since log 3 = 1.099") as seen:
        method.sweep(np.ones((3, 3)), np.ones((3, 3, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(np.ones(3), np.eye(3))
        method.load_state_dict(method.state_dict())  # as a rewind does
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BanditMTL()(np.ones(4), np.eye(4))
        BanditMTL(rho=0.6)(np.ones(2), np.eye(2))
        BanditMTL()(np.ones(1), np.eye(1))


def test_a_sweep_is_its_steps_and_a_state_goes_on() -> None:
    rng = np.random.default_rng(0)
    losses, gramians = rng.exponential(size=(60, 4)), np.tile(np.eye(4), (60, 1, 1))
    present = rng.random((60, 4)) < 0.8
    expected = BanditMTL(rho=0.2).sweep(losses, gramians, present)
    method = BanditMTL(rho=0.2)
    steps = [method(*one) for one in zip(losses[:30], gramians, present, strict=False)]
    resumed = BanditMTL(rho=0.2)
    resumed.load_state_dict(method.state_dict())
    steps += [resumed(*one) for one in zip(losses[30:], gramians[30:], present[30:], strict=True)]
    np.testing.assert_array_equal(steps, expected)


@pytest.mark.parametrize("wrong", [{"rho": -0.1}, {"rho": np.inf}, {"eta": 0}, {"eta": np.nan}])
def test_constants_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(WeightingError, match=f"bandit_mtl: {next(iter(wrong))} must be"):
        BanditMTL(**wrong)
    assert BanditMTL(rho=0.3, eta=2).settings() == {"rho": 0.3, "eta": 2.0}
