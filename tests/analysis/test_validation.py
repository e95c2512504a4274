"""Validations: which point is the best one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from mtlviz import analysis
from mtlviz.errors import FrameError
from mtlviz.runlog import Validation
from tests.analysis.runs import INFO, filled, hand, rewound
from tests.strategies import streams


def test_best_follows_the_direction_and_ties_go_to_the_first() -> None:
    frame = analysis.validations(hand())
    best = frame[frame["best"]].set_index("task")
    assert best.loc["a", ["step", "value"]].tolist() == [2, 0.9]  # again 0.9 at step 3
    assert best.loc["b", ["step", "value"]].tolist() == [2, 1.0]  # smaller is better
    assert len(best) == 2  # c was never validated


def test_a_discarded_or_nonfinite_value_is_never_the_best() -> None:
    frame = analysis.validations(rewound())
    assert frame["discarded"].tolist() == [False, True, False]
    assert frame[frame["best"]]["value"].tolist() == [0.6]  # 0.99 was thrown away
    broken = filled(INFO, [Validation(0, 0, "a", "accuracy", v) for v in (float("nan"), float("inf"), 0.2)])
    assert analysis.validations(broken)["best"].tolist() == [False, False, True]


@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_one_best_a_task_and_none_better(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.validations(log)
    for task in log.tasks:
        rows = frame[(frame["task"] == task.name) & ~frame["discarded"] & np.isfinite(frame["value"])]
        best = frame[(frame["task"] == task.name) & frame["best"]]
        assert len(best) == (1 if len(rows) else 0)
        if len(rows):
            extreme = rows["value"].max() if task.direction == "max" else rows["value"].min()
            assert best["value"].iloc[0] == extreme
            assert best.index[0] == rows.index[rows["value"] == extreme][0]


def test_a_frame_needs_directions() -> None:
    log = hand()
    with pytest.raises(FrameError, match=r"direction.*not so for: a, b"):
        analysis.validations(log.validations)
    with pytest.raises(FrameError, match="not so for: b"):
        analysis.validations(log.validations, directions={"a": "max", "b": "down"})
    given_ways = analysis.validations(log.validations, directions={"a": "max", "b": "min"})
    pd.testing.assert_frame_equal(given_ways, analysis.validations(log))
