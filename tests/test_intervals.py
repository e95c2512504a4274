import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtlviz.intervals import mean_interval, verdict


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
