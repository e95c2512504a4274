"""Many runs on one problem: the frame, what fails, and what a seed and a scale do."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import mtlviz as mv
from mtlviz.errors import MtlvizError, ProblemError, WeightingError
from tests.problems import TASKS, crossing, made_data

ROOT = Path(__file__).parents[2]
NAMES = [task.name for task in TASKS]
SHORT: dict[str, Any] = {"steps": 12, "validate_every": 4, "progress": False}


def _seeded(seed: int) -> mv.Problem:
    return crossing(seed=seed, dropout=0.2)


def test_one_row_per_method_seed_and_task_as_training_alone_gives_them(tmp_path: Path) -> None:
    problem = crossing()
    frame = mv.experiments.compare(problem, ["equal", "dwa"], 2, folder=tmp_path, jobs=1, **SHORT)
    assert frame[["method", "seed", "task"]].to_numpy().tolist() == [
        [method, seed, task] for method in ("equal", "dwa") for seed in (0, 1) for task in NAMES
    ]
    assert frame["direction"].tolist() == ["max", "min", "max"] * 4
    assert set(frame["status"]) == {"finished"}
    assert set(frame["error"]) == {""}
    assert set(frame["step"]) == {12}
    for (method, seed), rows in frame.groupby(["method", "seed"]):
        log = mv.RunLog.create(None, problem)
        for record in mv.train(problem, weighting=str(method), seed=int(str(seed)), steps=12, validate_every=4):
            log.append(record)
        table = mv.analysis.task_table(log)
        np.testing.assert_array_equal(rows["value"], table["final"])
        np.testing.assert_array_equal(rows["test"], table["test"])
        kept = mv.RunLog.open(rows["folder"].iloc[0])
        np.testing.assert_array_equal(kept.gramians, log.gramians)
        assert kept.info.config["weighting"] == method


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    methods = {"sum": "equal", "mine": lambda losses, gramian: np.nan_to_num(losses)}  # a lambda travels too
    problem = lambda seed: crossing(seed=seed, missing=0.3)  # noqa: E731
    one = mv.experiments.compare(problem, methods, [0, 7], folder=tmp_path / "one", jobs=1, **SHORT)
    two = mv.experiments.compare(problem, methods, [0, 7], folder=tmp_path / "two", jobs=2, **SHORT)
    pd.testing.assert_frame_equal(one.drop(columns="folder"), two.drop(columns="folder"))
    assert one["value"].notna().all()


class Bad:
    """Equal weights until its fifth step."""

    calls = 0

    def __call__(self, losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.full(len(losses), np.nan if self.calls == 5 else 1.0)


def test_a_failed_run_is_told_and_loses_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = crossing()
    options = SHORT | {"progress": True}
    frame = mv.experiments.compare(problem, {"equal": "equal", "bad": Bad()}, 2, folder=tmp_path, jobs=2, **options)
    bad, good = frame[frame.method == "bad"], frame[frame.method == "equal"]
    assert set(bad["status"]) == {"failed"}
    assert bad["value"].isna().all()
    assert bad["step"].isna().all()
    assert bad["test"].isna().all()
    assert bad["error"].str.startswith("WeightingError: ").all()
    assert bad["error"].str.contains("not finite at step 5").all()
    assert bad["direction"].tolist() == ["max", "min", "max"] * 2
    log = mv.RunLog.open(bad["folder"].iloc[0])
    assert (log.state, len(log)) == ("failed", 4)
    assert log.events.iloc[-1]["detail"]["type"] == "WeightingError"
    alone = mv.experiments.compare(problem, "equal", 2, folder=None, jobs=1, **SHORT)
    pd.testing.assert_frame_equal(good.reset_index(drop=True).assign(folder=""), alone)
    assert "bad, seed 1 failed: WeightingError" in (shown := capsys.readouterr()).err + shown.out
    assert np.isnan(mv.analysis.delta_m(frame, "equal").set_index("method").loc["bad", "delta_m_percent"])


def _below_zero(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(outputs, targets) - 100


def test_a_method_that_the_losses_do_not_suit_fails_alone() -> None:
    tasks = [TASKS[0], mv.Task("size", loss=_below_zero, metric="rmse", outputs=1), TASKS[2]]
    problem = crossing()
    problem = mv.Problem(
        tasks=tasks, trunk=problem.model.trunk, train=problem.train, validation=problem.validation, name="below zero"
    )
    frame = mv.experiments.compare(problem, ["equal", "si"], 1, jobs=1, **SHORT).set_index("method")
    assert set(frame.loc["equal", "status"]) == {"finished"}
    assert set(frame.loc["si", "status"]) == {"failed"}
    assert frame.loc["si", "error"].str.contains("si needs losses above 0").all()


def test_a_method_that_cannot_begin_fails_alone() -> None:
    x, y = made_data(64, 0)
    problem = crossing(train={name: (x, target) for name, target in y.items()})
    frame = mv.experiments.compare(problem, ["mgda_ub", "mgda"], 1, jobs=1, **SHORT).set_index("method")
    assert set(frame.loc["mgda_ub", "status"]) == {"failed"}
    assert frame.loc["mgda_ub", "error"].str.contains("one representation that all tasks share").all()
    assert set(frame.loc["mgda", "status"]) == {"finished"}


def test_single_task_learning_trains_each_task_as_if_the_others_were_not_there() -> None:
    problem = crossing(missing=0.5)
    frame = mv.experiments.compare(problem, "stl", 1, jobs=1, **SHORT).set_index("task")
    for task in problem.tasks:
        by_hand = mv.Problem(
            tasks=[task],
            trunk=problem.model.trunk,
            heads={task.name: problem.model.head(task.name)},
            train=_only(problem.train, task.name),
            validation=_only(problem.validation, task.name),
        )
        log = mv.RunLog.create(None, by_hand)
        for record in mv.train(by_hand, steps=12, validate_every=4):
            log.append(record)
        assert frame.loc[task.name, "value"] == mv.analysis.task_table(log)["final"].item()


def _only(split: Any, task: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return split.shared.inputs, {task: split.shared.targets[task]}


def test_single_task_learning_with_data_of_its_own() -> None:
    x, y = made_data(64, 0)
    problem = crossing(train={name: (x, target) for name, target in y.items()}, test={"kind": (x, y["kind"])})
    frame = mv.experiments.compare(problem, "stl", 1, jobs=1, **SHORT)
    assert frame["task"].tolist() == NAMES
    assert frame["value"].notna().all()
    assert frame["test"].isna().tolist() == [False, True, True]


def test_a_scaled_loss_is_what_is_trained_and_logged_and_nothing_else(tmp_path: Path) -> None:
    """A loss written ten times as large by hand gives the same run as `scale`; metrics do not feel it."""
    tasks = [mv.Task("kind", loss=_ten_times, metric="accuracy", outputs=3), *TASKS[1:]]
    problem = crossing()
    by_hand = mv.Problem(
        tasks=tasks, trunk=problem.model.trunk, heads=dict(zip(NAMES, problem.model.heads, strict=True)),
        train=problem.train, validation=problem.validation, test=problem.test,
    )  # fmt: skip
    expected = mv.experiments.compare(by_hand, "equal", 1, folder=tmp_path / "hand", jobs=1, **SHORT)
    scaled = mv.experiments.compare(problem, "equal", 1, scale={"kind": 10}, folder=tmp_path / "scale", jobs=1, **SHORT)
    pd.testing.assert_frame_equal(scaled.drop(columns="folder"), expected.drop(columns="folder"))
    logs = [mv.RunLog.open(frame["folder"].iloc[0]) for frame in (scaled, expected)]
    np.testing.assert_array_equal(logs[0].losses, logs[1].losses)
    assert logs[0].info.config["scale"] == {"kind": 10}
    plain = mv.experiments.compare(problem, "equal", 1, jobs=1, **SHORT)
    assert (plain["value"] != scaled["value"]).any()
    assert problem.tasks[0].scale == 1


def _ten_times(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 10.0 * F.cross_entropy(outputs, targets)


def test_a_seed_varies_batches_of_a_problem_and_all_that_a_function_makes_of_it(tmp_path: Path) -> None:
    fixed = mv.experiments.compare(crossing(), "equal", 2, folder=tmp_path / "fixed", jobs=1, **SHORT)
    made = mv.experiments.compare(_seeded, "equal", 2, folder=tmp_path / "made", jobs=1, **SHORT)
    first = [mv.RunLog.open(folder).validations.query("step == 0")["value"] for folder in fixed["folder"].unique()]
    np.testing.assert_array_equal(first[0], first[1])  # the same initial parameters
    first = [mv.RunLog.open(folder).validations.query("step == 0")["value"] for folder in made["folder"].unique()]
    assert (first[0].to_numpy() != first[1].to_numpy()).all()
    for frame in (fixed, made):
        values = frame.pivot(index="task", columns="seed", values="value")
        assert (values[0] != values[1]).any()


def test_labels_of_a_grid_and_of_all_methods() -> None:
    from mtlviz.experiments.plan import labelled

    grid = labelled(
        [mv.weighting.UncertaintyWeighting(), mv.weighting.DWA(temperature=1.0), mv.weighting.DWA(temperature=3.0)]
    )
    assert len(grid) == 3
    assert all("DWA(" in label for label in list(grid)[1:])
    assert list(labelled("all")) == list(mv.weighting.METHODS)
    assert list(labelled(["stl", "equal", "all"])) == ["stl", *mv.weighting.METHODS]
    assert list(labelled(mv.weighting.Equal())) == ["Equal()"]


def test_two_instances_of_one_class_are_two_methods() -> None:
    methods = {"warm": mv.weighting.DWA(temperature=0.1, window=2), "cold": mv.weighting.DWA(temperature=9.0, window=2)}
    frame = mv.experiments.compare(crossing(), methods, 1, jobs=1, **SHORT)
    values = frame.pivot(index="task", columns="method", values="value")
    assert list(frame["method"].unique()) == ["warm", "cold"]
    assert (values["warm"] != values["cold"]).any()


class Locked(TensorDataset):
    """A data set that no other process can be sent."""

    def __init__(self, count: int) -> None:
        x, y = made_data(count, 0)
        super().__init__(x, y["size"])
        self.lock = threading.Lock()


def test_a_problem_that_cannot_travel_is_told_and_trains_in_this_process() -> None:
    problem = mv.Problem(
        tasks=[TASKS[1]], trunk=crossing().model.trunk, train={"size": Locked(64)}, validation={"size": Locked(64)}
    )
    with pytest.raises(ProblemError, match=r"another process \(TypeError: cannot pickle .*lock.*jobs=1"):
        mv.experiments.compare(problem, "equal", 2, jobs=2, **SHORT)
    assert mv.experiments.compare(problem, "equal", 2, jobs=1, **SHORT)["value"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"methods": "mdga"},
            WeightingError,
            "unknown weighting 'mdga'; did you mean 'mgda'\\? choose one of stl, equal",
        ),
        ({"methods": []}, WeightingError, "at least one method"),
        ({"methods": 3}, WeightingError, "a name, a Weighting or a function, got 3"),
        ({"methods": mv.weighting.Equal}, WeightingError, "a name, a Weighting or a function, got <class"),
        ({"methods": ["dwa", "dwa"]}, WeightingError, "dwa stands twice"),
        ({"methods": {"": "dwa"}}, WeightingError, "labels that are texts"),
        ({"seeds": 0}, ValueError, "seeds must be a whole number from 1, got 0"),
        ({"seeds": [1, 1]}, ValueError, "different numbers"),
        ({"seeds": "3"}, ValueError, "a number of seeds or a list"),
        ({"seeds": [-1]}, ValueError, "a seed must be a whole number from 0, got -1"),
        ({"select": "best"}, ValueError, "final, best_mean, best_per_task, got 'best'"),
        ({"jobs": 0}, ValueError, "jobs must be a number of processes"),
        ({"steps": -3}, ValueError, "steps must be a whole number from 1, got -3"),
        ({"scale": {"kid": 2}}, ProblemError, r"scale for unknown tasks \['kid'\]; the tasks are"),
        ({"scale": {"kind": 0}}, ProblemError, "task 'kind': scale must be a finite number above 0, got 0"),
        ({"scale": {"kind": True}}, ProblemError, "scale needs numbers"),
        ({"problem": lambda seed: {}[seed]}, ProblemError, "problem of seed 0 could not be made: KeyError: 0"),
        ({"scale": 3}, ProblemError, "scale must be {task: factor}"),
        ({"problem": "digits"}, ProblemError, "a function of seed, got str"),
        ({"problem": lambda seed: seed}, ProblemError, "it returned a int"),
        ({"problem": crossing(validation=None)}, ProblemError, "needs validation data"),
        ({"folder": "/proc/none"}, mv.errors.RunLogError, "/proc/none"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(
    arguments: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"problem": crossing(), "methods": "equal", "seeds": 1, "folder": tmp_path, "jobs": 1} | SHORT | arguments
    with pytest.raises(kind, match=message):
        mv.experiments.compare(given.pop("problem"), given.pop("methods"), given.pop("seeds"), **given)
    assert not list(tmp_path.iterdir())


class Boom(mv.weighting.Equal):
    """A weighting that its user got wrong."""

    def prepare(self, classes: Any) -> None:
        raise KeyError("boom")


def test_a_method_that_raises_while_planning_fails_alone() -> None:
    methods = {"equal": "equal", "boom": Boom()}
    frame = mv.experiments.compare(crossing(), methods, 1, jobs=1, **SHORT).set_index("method")
    assert set(frame.loc["boom", "error"]) == {"KeyError: 'boom'"}
    assert set(frame.loc["equal", "status"]) == {"finished"}


class Deadly(mv.weighting.Weighting):
    """A weighting that ends the process that trains with it."""

    name, needs, heads = "deadly", frozenset({"losses"}), "sum"

    @staticmethod
    def kernel(losses: Any, gramian: Any, present: Any, constants: Any, state: Any, draws: Any) -> Any:
        if np.ptp(losses) > 0:  # not while it is planned
            os._exit(1)
        return present.astype(float)


def test_a_process_that_dies_is_told_and_what_is_finished_stays(tmp_path: Path) -> None:
    mv.experiments.compare(crossing(), ["equal"], 1, folder=tmp_path, jobs=1, **SHORT)
    with pytest.raises(MtlvizError, match=r"a process of the comparison died.*What is finished is kept"):
        mv.experiments.compare(crossing(), {"equal": "equal", "deadly": Deadly()}, 1, folder=tmp_path, jobs=2, **SHORT)
    assert any(mv.RunLog.open(run).state == "finished" for run in tmp_path.iterdir() if (run / "run.json").exists())
