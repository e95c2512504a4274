"""How batches are shared out among tasks: by size, with a floor."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtlviz.data import Proportional
from mtlviz.errors import ProblemError


def test_shares_by_hand() -> None:
    assert Proportional().shares({"a": 100, "b": 300}) == {"a": 0.25, "b": 0.75}
    assert Proportional(power=0).shares({"a": 100, "b": 300}) == {"a": 0.5, "b": 0.5}
    assert Proportional(power=0.5).shares({"a": 100, "b": 900}) == {"a": 0.25, "b": 0.75}
    # 10 : 290 : 700 with a floor of 0.2: a is lifted, 0.8 shared out 290 : 700 gives b 0.234, above the floor
    lifted = Proportional(floor=0.2).shares({"a": 10, "b": 290, "c": 700})
    assert lifted == pytest.approx({"a": 0.2, "b": 0.8 * 290 / 990, "c": 0.8 * 700 / 990})
    # with 0.25 the first lift takes b below the floor too
    assert Proportional(floor=0.25).shares({"a": 10, "b": 290, "c": 700}) == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert Proportional(floor=0.5).shares({"a": 1, "b": 9}) == {"a": 0.5, "b": 0.5}
    assert Proportional(floor=1.0).shares({"a": 5}) == {"a": 1.0}


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.floats(0, 2), st.floats(0, 1))
def test_tasks_at_the_floor_are_those_that_would_lie_below_it(sizes: list[int], power: float, part: float) -> None:
    rows = {str(number): size for number, size in enumerate(sizes)}
    floor = part / len(rows)
    shares = Proportional(power=power, floor=floor).shares(rows)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= floor * (1 - 1e-9)
    scales = {task: share / rows[task] ** power for task, share in shares.items()}
    proportional = [scales[task] for task, share in shares.items() if share > floor * (1 + 1e-9)]
    assert proportional == pytest.approx(
        [min(scales.values())] * len(proportional)
    )  # the lifted have more for their size


def test_settings_that_cannot_be_are_told() -> None:
    for wrong in (-1, float("inf"), float("nan"), "2", True):
        with pytest.raises(ProblemError, match="Proportional: power must be a number from 0, got"):
            Proportional(power=wrong)
    with pytest.raises(ProblemError, match=r"Proportional: floor must be a number from 0 to 1, got 1.5"):
        Proportional(floor=1.5)
    with pytest.raises(ProblemError, match=r"floor=0.5 for each of 3 tasks is more than a batch; the most is 0.333"):
        Proportional(floor=0.5).shares({"a": 1, "b": 1, "c": 1})
