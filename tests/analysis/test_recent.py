"""How each task fares just now: worked by hand, and against the frames of the whole run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mtlviz import analysis
from mtlviz.errors import FrameError
from tests.analysis.runs import INFO, filled, hand, long_run, rewound

NAN = float("nan")


def test_the_last_two_steps_by_hand() -> None:
    frame = analysis.recent(hand(), window=2).set_index("task")
    assert list(frame.index) == ["a", "b", "c"]
    expected = {
        "steps": [2, 2, 1],
        "loss": [3.0, 3.0, 7.0],
        "weight": [0.5, 1.0, 1.0],  # where it is present
        "grad_norm": [(2 + np.sqrt(2)) / 2, 1.0, 0.0],
        "relative_rate": [(2 + np.sqrt(2)) / 2, 3.0, NAN],
        "share": [0.5, 0.5, NAN],  # the second update is zero
        "conflict_rate": [1 / 3, 1 / 3, 0.0],  # ab: 0, 1; ac and bc: 0 once
    }
    for column, values in expected.items():
        np.testing.assert_allclose(frame[column].to_numpy(float), values, err_msg=column)


def test_what_a_rewind_discarded_does_not_count() -> None:
    frame = analysis.recent(rewound(), window=3)
    np.testing.assert_allclose(frame["loss"], (1 + 2 + 5) / 3)
    assert (frame["conflict_rate"] == 0).all()


def test_a_window_as_long_as_the_run_agrees_with_its_frames() -> None:
    log = long_run(60, tasks=4)
    frame = analysis.recent(log, window=1000).set_index("task")
    kept = log.steps[~log.steps["discarded"]]
    kept = kept[kept["loss"].notna()]
    means = kept.groupby("task", observed=True)[["loss", "weight", "grad_norm", "relative_rate"]].mean()
    pd.testing.assert_frame_equal(frame[means.columns], means, check_names=False, check_index_type=False)
    pairs = log.pairs[~log.pairs["discarded"]]
    for task, rate in frame["conflict_rate"].items():
        own = pairs[(pairs["task_a"] == task) | (pairs["task_b"] == task)]["conflict"].dropna()
        assert rate == pytest.approx(own.astype(float).mean())


def test_a_run_without_a_step_has_nothing_to_tell() -> None:
    frame = analysis.recent(filled(INFO, []))
    assert (frame["steps"] == 0).all()
    assert frame.drop(columns=["task", "steps"]).isna().all(axis=None)


@pytest.mark.parametrize("window", [0, -1, 2.5, True, "all"])
def test_a_window_that_is_none(window: object) -> None:
    with pytest.raises(FrameError, match="window of at least 1 recorded step"):
        analysis.recent(hand(), window=window)  # type: ignore[arg-type]


def test_a_frame_is_no_log() -> None:
    with pytest.raises(FrameError, match="recent needs a RunLog"):
        analysis.recent(hand().steps)  # type: ignore[arg-type]
