"""What a study's tasks lost from best to final, against noise: by hand, by simulation and against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import FrameError
from mtlviz.experiments.convergence_drops import BOUND
from mtlviz.experiments.surviving import reached, wobble
from mtlviz.runlog import RunInfo, TaskInfo


def test_wobble_is_the_deviation_about_a_trend() -> None:
    rng = np.random.default_rng(0)
    flat = 70 + 0.5 * rng.standard_normal(4000)
    assert wobble(flat) == pytest.approx(0.5, rel=0.05)
    assert wobble(flat + np.linspace(0, 400, 4000)) == pytest.approx(0.5, rel=0.05)
    assert wobble(np.full(9, 3.0)) == 0
    assert np.isnan(wobble(np.array([1.0, 2.0, np.nan, 1.0, 2.0])))


def test_level_curves_seldom_lose_more_than_the_bound_and_falling_ones_do() -> None:
    """Three seeds of 20 validations that only wobble: the mean drop of best to last is above 3 σ once in 20 times."""
    rng = np.random.default_rng(1)
    curves = rng.standard_normal((2000, 3, 20))
    drop = (curves.max(axis=2) - curves[:, :, -1]).mean(axis=1)
    assert 0.03 < (drop > BOUND).mean() < 0.06
    falling = curves - np.linspace(0, 5, 20)
    drop = (falling.max(axis=2) - falling[:, :, -1]).mean(axis=1)
    assert (drop > BOUND).mean() > 0.9


def _watched(log: mv.RunLog, position: int, values: dict[str, float], *, at: int | None = None) -> None:
    for task, value in values.items():
        log.append(mv.Validation(step=at or position, position=position, task=task, metric="x", value=value))


def test_what_a_run_reached_is_of_the_curve_that_survived_and_from_where_a_task_was_added() -> None:
    log = mv.RunLog.create(None, RunInfo("p", (TaskInfo("a", "x", "max"), TaskInfo("b", "x", "min"))))
    _watched(log, 0, {"a": 50.0, "b": 0.1})  # b waits: its 0.1 is nobody's merit
    _watched(log, 10, {"a": 70.0, "b": 3.0})
    _watched(log, 20, {"a": 60.0, "b": 0.2})
    kept = {"best": 70.0, "best_step": 10, "best_position": 10, "patience": 1}
    log.append(mv.Event(step=20, position=20, kind="convergence", task="a", detail=kept))
    log.append(mv.Event(step=20, position=10, kind="rewind", detail={"to": 10, "step": 10, "tasks": ["a"]}))
    log.append(mv.Event(step=20, position=10, kind="task_added", task="b"))
    _watched(log, 20, {"a": 69.0, "b": 2.0}, at=30)
    _watched(log, 30, {"a": 68.5, "b": 2.5}, at=40)
    log.append(mv.Event(step=40, position=30, kind="step_cap", detail={"unconverged": ["b"]}))
    a, b = reached(log).to_dict("records")
    assert (a["best"], a["best_step"], a["final"], a["converged_at"]) == (70.0, 10, 68.5, 20)
    assert (b["best"], b["best_step"], b["final"], b["unconverged"]) == (2.0, 30, 2.5, True)
    assert (a["unconverged"], bool(pd.isna(b["converged_at"]))) == (False, True)
    log.append(mv.Event(step=40, position=0, kind="rewind", detail={"to": 0, "step": 0, "tasks": ["b"]}))
    gone = reached(log).set_index("task").loc["a"]  # behind the checkpoint that a converged at, which is kept
    assert (gone["best"], gone["best_step"], gone["final"]) == (70.0, 10, 50.0)


def test_drops_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "method": "joint", "seed": [0, 1, 2], "task": "a", "metric": "x", "direction": "max",
            "best": [80.0, 82.0, 84.0], "final": [79.0, 80.0, 81.0], "noise": [0.1, 0.2, 0.2],
            "test": [70.0, 70.0, 70.0], "test_best": [70.0, 71.0, 69.0], "converged_at": [200, 400, None],
        }
    )  # fmt: skip
    (row,) = mv.experiments.convergence_drops(frame).to_dict("records")
    assert (row["drop"], row["seeds"], row["converged"], row["best"], row["final"]) == (2.0, 3, 2, 82.0, 80.0)
    assert row["drop_high"] - row["drop"] == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert row["noise"] == pytest.approx(3 * np.sqrt(0.03))
    assert (row["more_than_noise"], row["clear"]) == (True, False)  # its interval reaches below 0
    assert row["test_drop"] == 0
    lower = frame.assign(direction="min", best=frame["final"], final=frame["best"])
    assert mv.experiments.convergence_drops(lower)["drop"].item() == 2.0
    short = mv.experiments.convergence_drops(frame.assign(noise=np.nan)).iloc[0]  # too few validations to tell it
    assert short["more_than_noise"] is pd.NA
    assert short["clear"] is pd.NA
    with pytest.raises(FrameError, match="missing: noise"):
        mv.experiments.convergence_drops(frame.drop(columns="noise"))
