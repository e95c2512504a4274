"""What a study's tasks lost from best to final, against noise: by hand, by simulation and against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import FrameError
from mtlviz.experiments.convergence_drops import BOUND, mean_interval
from mtlviz.experiments.surviving import wobble


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


def test_intervals_are_student_s() -> None:
    from scipy.stats import t

    for count in (2, 3, 10, 11, 12, 30):
        values = np.arange(count, dtype=np.float64)
        mean, low, high = mean_interval(values)
        half = t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
        assert (mean, low, high) == pytest.approx((values.mean(), mean - half, mean + half), rel=2e-3)
