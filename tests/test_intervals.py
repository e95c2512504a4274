import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtlviz.intervals import mean_interval, paired, verdict


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_intervals_are_student_s(numbers: list[float], confidence: float) -> None:
    values = np.array([*numbers, np.nan])
    mean, low, high = mean_interval(values, confidence)
    error = stats.sem(numbers)
    expected = stats.t.interval(confidence, len(numbers) - 1, loc=np.mean(numbers), scale=error) if error > 0 else None
    assert mean == pytest.approx(np.mean(numbers))
    if expected is None:
        assert low == high == mean
    else:
        assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_few_values_have_no_interval() -> None:
    assert np.isnan(mean_interval(np.array([np.nan, np.inf]))).all()
    mean, low, high = mean_interval(np.array([2.0, np.nan]))
    assert mean == 2.0
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1, 95, np.nan])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        mean_interval(np.ones(3), confidence)


def test_a_verdict_is_told_by_the_interval_not_by_the_sign() -> None:
    assert verdict(0.1, 0.3) == "positive"
    assert verdict(-0.3, -0.1) == "negative"
    assert verdict(-0.1, 0.3) == verdict(np.nan, np.nan) == verdict(0.0, 1.0) == "undecided"


@pytest.mark.parametrize("confidence", ["0.9", None, True])
def test_what_is_no_confidence_is_told(confidence: object) -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        mean_interval(np.ones(3), confidence)  # type: ignore[arg-type]


def test_equal_differences_decide_only_where_there_are_enough_of_them_for_a_sign_test() -> None:
    says = {n: paired(np.full(n, 53.1 - 52.6))[3] for n in (1, 2, 5, 6, 20)}
    assert says == {1: "undecided", 2: "undecided", 5: "undecided", 6: "positive", 20: "positive"}  # 2 · 2⁻⁶ = 3 %
    assert paired(np.full(5, -0.5), 0.9)[3] == "negative"  # 2 · 2⁻⁵ = 6 %
    assert paired(np.array([53.1 - 52.6, 0.5]))[3] == "undecided"  # by rounding not quite equal
    assert paired(np.zeros(30)) == (0.0, 0.0, 0.0, "undecided")
    assert paired(np.array([0.5, 0.5, 0.6]))[3] == "positive"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_accuracy_in_steps_gets_no_more_verdicts_by_chance_than_its_confidence_allows(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    apart = rng.binomial(100, 0.04, size=(2000, seeds))  # rows of 100 on which two runs differ, in favour of either
    differences = 2.0 * rng.binomial(apart, 0.5) - apart
    wrong = np.mean([paired(row)[3] != "undecided" for row in differences])
    assert wrong <= 0.065  # 5 %, and three standard errors; the interval alone has 10 % of two seeds
