"""The study of figure 3: its numbers are those of the exact fits, repeat themselves, and say what order they find."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

import mtlviz as mv
from mtlviz.errors import FrameError, TransferError
from mtlviz.transfer import PlantedTask, PlantedTasks, best_sources, relu_fit, shared_fit, single_fit, source_sweep
from mtlviz.transfer.generator import SOURCES, three_sources

SMALL = {
    "linear": three_sources(features=10, target_samples=20, noise=0.5),
    "labels": three_sources(features=10, target_samples=20, noise=0.3, kind="classification"),
    "relu": three_sources(features=10, condition=5.0, target_samples=20, noise=0.3, teacher="relu"),
}


@pytest.fixture(scope="module")
def sweep() -> pd.DataFrame:
    return source_sweep(SMALL, source_samples=(40, 10), seeds=3)


def test_it_has_a_row_for_everything_that_was_run(sweep: pd.DataFrame) -> None:
    runs = set(sweep[["setting", "source", "source_samples", "seed"]].itertuples(index=False, name=None))
    assert runs == set(product(SMALL, SOURCES, (10, 40), range(3)))
    assert len(sweep) == len(runs)
    np.testing.assert_allclose(sweep["together"] - sweep["alone"], sweep["difference"])
    labels = sweep[sweep["setting"] == "labels"]
    assert set(labels["kind"]) == {"classification"}
    assert labels[["alone", "together"]].to_numpy().max() <= 1
    told = labels[["features", "condition", "cosine", "noise", "target_samples"]].drop_duplicates()
    assert told.to_numpy().tolist() == [[10, 100.0, 0.96, 0.3, 20]]


@pytest.mark.parametrize("setting", SMALL)
def test_its_numbers_are_those_of_the_fits(sweep: pd.DataFrame, setting: str) -> None:
    tasks = SMALL[setting]
    planted = tasks.planted(1)
    target, source = planted["target"].sample(20), planted["other scales"].sample(40)
    if tasks.teacher == "relu":
        own, both = relu_fit({"t": target}), relu_fit({"t": target, "s": source})
        alone = planted["target"].risk(own.directions[:, 0], float(own.heads["t"][0]))
        together = planted["target"].risk(both.directions[:, 0], float(both.heads["t"][0]))
    else:
        alone = planted["target"].risk(single_fit(*target))
        together = planted["target"].risk(shared_fit({"t": target, "s": source}).theta("t"))
    row = sweep.query("setting == @setting and source == 'other scales' and source_samples == 40 and seed == 1").iloc[0]
    assert row["alone"] == pytest.approx(alone, rel=1e-6)
    assert row["together"] == pytest.approx(together, rel=1e-5)


def test_other_processes_seeds_in_other_order_and_one_setting_give_the_same_numbers(sweep: pd.DataFrame) -> None:
    again = source_sweep(SMALL, source_samples=(10, 40), seeds=3, jobs=2)
    pd.testing.assert_frame_equal(again, sweep, check_exact=True)
    one = source_sweep(SMALL["linear"], source_samples=[40], seeds=[2, 0, 2])
    part = sweep.query("setting == 'linear' and source_samples == 40 and seed != 1")
    order = ["seed", "source"]
    for column in ("alone", "together"):
        left = one.sort_values(order)[column].to_numpy()
        np.testing.assert_allclose(left, part.sort_values(order)[column].to_numpy(), rtol=1e-5)  # of sums in parts


def test_a_source_of_the_same_theta_and_covariance_helps_a_noisy_target_and_another_theta_hurts() -> None:
    noisy = {"noise": 0.5, "rotation": 0}
    tasks = PlantedTasks(
        {
            "target": PlantedTask(40, **noisy),
            "same": PlantedTask(1, **noisy),
            "other": PlantedTask(1, cosine=0.0, **noisy),
        },
        condition=3.0,
    )
    differences = mv.transfer.source_differences(source_sweep(tasks, source_samples=(2000,), seeds=8)).set_index(
        "source"
    )
    assert differences.loc["same", "high"] < 0 < differences.loc["other", "low"]


def made(differences: dict[tuple[str, int], list[float]], setting: str = "s") -> pd.DataFrame:
    """A sweep of one size with these differences of sources a, b, c for each (setting, seed)."""
    rows = [
        {"setting": name, "kind": "regression", "source": source, "source_samples": 10, "seed": seed}
        | {"alone": 1.0, "together": 1.0 + value, "difference": value}
        for (name, seed), values in differences.items()
        for source, value in zip("abc", values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_means_intervals_and_shares_by_hand() -> None:
    sweep = made({("s", 0): [-3, 0, 1], ("s", 1): [-1, -2, 0], ("s", 2): [-2, 1, 2], ("s", 3): [-2, -2, 0]})
    first = mv.transfer.source_differences(sweep).iloc[0]
    assert first[["setting", "source", "source_samples", "seeds"]].tolist() == ["s", "a", 10, 4]
    half = student.ppf(0.975, 3) * np.std([3, 1, 2, 2], ddof=1) / 2
    np.testing.assert_allclose(first[["difference", "low", "high"]].astype(float), [-2, -2 - half, -2 + half])
    best = best_sources(sweep).set_index("source")
    assert best["share"].tolist() == [0.625, 0.375, 0.0]  # two runs and half of a tie; one and a half; none
    assert best["runs"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(best.loc["c", ["low", "high"]].astype(float), [0, 0.4899], atol=1e-4)  # Wilson, 0 of 4
    assert "all settings" not in set(best["setting"])


def test_all_settings_are_averaged_seed_by_seed() -> None:
    sweep = made(
        {
            ("s", 0): [-1, 0, 0],
            ("u", 0): [-1, 0, 0],
            ("s", 1): [0, -1, 0],
            ("u", 1): [-1, 0, 0],
            ("s", 2): [-1, 0, 0],
            ("u", 2): [0, 0, -1],
        }
    )
    whole = best_sources(sweep).query("setting == 'all settings'").set_index("source")
    assert whole["runs"].tolist() == [6, 6, 6]
    np.testing.assert_allclose(whole["share"], [4 / 6, 1 / 6, 1 / 6])
    half = student.ppf(0.975, 2) * np.std([1, 0.5, 0.5], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(
        whole.loc["a", ["low", "high"]].astype(float), [max(0, 4 / 6 - half), min(1, 4 / 6 + half)]
    )


def test_the_settings_of_the_study_can_be_run() -> None:
    frame = source_sweep(source_samples=(30,), seeds=1)
    assert list(frame["setting"].unique()) == list(mv.transfer.source_settings())
    assert np.isfinite(frame[["alone", "together"]]).to_numpy().all()


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({}, {}, "settings must be PlantedTasks"),
        ("linear", {}, "settings must be PlantedTasks"),
        (PlantedTasks({"target": PlantedTask(5)}), {}, "a source beside it"),
        (three_sources(), {"target": "task 1"}, "needs the task 'task 1'"),
        (three_sources(), {"source_samples": ()}, "source_samples needs one whole number or more"),
        (three_sources(), {"source_samples": 10}, "source_samples needs one whole number or more"),
        (three_sources(), {"source_samples": [0]}, "source_samples must be a whole number from 1"),
        (three_sources(), {"seeds": 0}, "seeds must be a whole number from 1"),
        (three_sources(), {"seeds": [-1]}, "seed must be a whole number from 0"),
        (three_sources(), {"seeds": "12"}, "seeds needs one whole number or more"),
    ],
)
def test_bad_arguments_are_told(settings: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError, match=message):
        source_sweep(settings, **options)


@pytest.mark.parametrize("analysis", [mv.transfer.source_differences, best_sources])
def test_another_frame_is_refused(analysis: Any) -> None:
    for frame in (pd.DataFrame({"source": ["a"]}), pd.DataFrame(), [1]):
        with pytest.raises(FrameError, match=f"transfer.{analysis.__name__} needs the frame of transfer.source_sweep"):
            analysis(frame)
