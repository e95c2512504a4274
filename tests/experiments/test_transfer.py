"""Transfer measured on tasks of planted relations: who trains with whom, what it gives, and what a kill leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import ProblemError, WeightingError
from tests.experiments.related import NAMES, QUICK, related
from tests.experiments.test_resume import ROOT, _contents, _finished
from tests.problems import crossing

runs_of, transfer = mv.experiments.transfer_runs, mv.experiments.transfer
SEEDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transfer")


@pytest.fixture(scope="module")
def runs(folder: Path) -> pd.DataFrame:
    return runs_of(related(), SEEDS, folder=folder, **QUICK)


def test_every_task_trains_alone_in_every_pair_and_with_all(runs: pd.DataFrame, folder: Path) -> None:
    assert len(list(folder.iterdir())) == SEEDS * (3 + 3 + 1)
    assert runs.loc[runs["seed"] == 0, ["trained", "source", "task"]].to_numpy().tolist() == [
        ["target", "", "target"], ["friend", "", "friend"], ["foe", "", "foe"],
        ["target + friend", "friend", "target"], ["target + friend", "target", "friend"],
        ["target + foe", "foe", "target"], ["target + foe", "target", "foe"],
        ["friend + foe", "foe", "friend"], ["friend + foe", "friend", "foe"],
        ["all", "all", "target"], ["all", "all", "friend"], ["all", "all", "foe"],
    ]  # fmt: skip
    assert set(runs["status"]) == {"finished"}
    assert set(runs["step"]) == {40}
    assert np.isfinite(runs[["value", "test"]].to_numpy()).all()


def test_a_pair_is_trained_as_if_there_were_no_other_task(runs: pd.DataFrame) -> None:
    keywords = {name: QUICK[name] for name in ("steps", "validate_every", "batch_size", "optimizer")}
    for trained, problem in (("target + foe", related(names=("target", "foe"))), ("foe", related(names=("foe",)))):
        log = mv.RunLog.create(None, problem)
        own = runs[(runs["trained"] == trained) & (runs["seed"] == 0)]
        # the streams of data per task are those of the whole problem, whose third task is the foe
        problem.train = related().of_tasks([task.name for task in problem.tasks]).train
        for record in mv.train(problem, seed=0, **keywords):
            log.append(record)
        np.testing.assert_array_equal(own["value"], mv.analysis.task_table(log)["final"])


def test_the_planted_relations_are_found(runs: pd.DataFrame) -> None:
    """Through one direction the friend lends the target what it lacks, and no two that are orthogonal fit."""
    gains = mv.analysis.transfer_gains(runs).set_index(["source", "target"])
    assert gains.loc[("friend", "target"), "verdict"] == "positive"
    for pair in (("foe", "friend"), ("friend", "foe"), ("all", "foe")):
        assert gains.loc[pair, "verdict"] == "negative"
    assert gains.loc[("friend", "target"), "gain"] > gains.loc[("foe", "target"), "gain"]
    assert (gains["seeds"] == SEEDS).all()


def test_gains_are_those_of_the_runs(runs: pd.DataFrame, folder: Path) -> None:
    before = _contents(folder)
    frame = transfer(related(), SEEDS, confidence=0.8, on="test", folder=folder, **QUICK)
    pd.testing.assert_frame_equal(frame, mv.analysis.transfer_gains(runs, confidence=0.8, on="test"))
    assert _contents(folder) == before


def test_a_comparison_in_the_same_folder_has_its_runs_already(runs: pd.DataFrame, folder: Path) -> None:
    before = _contents(folder)
    frame = mv.experiments.compare(related(), ["stl", "equal"], SEEDS, folder=folder, **QUICK)
    assert _contents(folder) == before
    alone = runs[runs["source"] == ""].set_index(["seed", "task"])["value"]
    stl = frame[frame["method"] == "stl"].set_index(["seed", "task"])["value"]
    pd.testing.assert_series_equal(alone.sort_index(), stl.sort_index())


def test_the_pair_of_two_tasks_is_all_of_them_and_trains_once(tmp_path: Path) -> None:
    problem = related(names=("target", "friend"))
    frame = runs_of(problem, 1, folder=tmp_path, **QUICK)
    assert len(list(tmp_path.iterdir())) == 3
    assert frame["trained"].tolist() == ["target", "friend", "target + friend", "target + friend"]
    both = runs_of(problem, 1, groups=["alone", "all"], **QUICK)
    assert both["source"].tolist() == ["", "", "all", "all"]
    np.testing.assert_array_equal(frame["value"], both["value"])
    assert runs_of(problem, 1, groups="alone", **QUICK)["trained"].tolist() == ["target", "friend"]


def test_tasks_that_share_their_data_are_paired_too() -> None:
    options = QUICK | {"steps": 6, "validate_every": 3}
    frame = runs_of(lambda seed: crossing(seed=seed, missing=0.3), 2, groups=["alone", "all"], **options)
    assert set(frame["source"]) == {"", "all"}
    assert frame["direction"].tolist() == ["max", "min", "max"] * 4
    assert np.isfinite(frame["value"]).all()


class NotForTwo:
    """Equal weights, but for two tasks none that can be used."""

    def __call__(self, losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        return np.full(len(losses), np.nan if len(losses) == 2 else 1.0)


def test_failed_runs_are_told_and_counted() -> None:
    options = QUICK | {"steps": 6, "validate_every": 3}
    frame = runs_of(related(), 2, weighting=NotForTwo(), **options)
    pairs = frame["trained"].str.contains(r"\+")
    assert (frame["status"] == "failed").equals(pairs.rename("status"))
    assert frame.loc[pairs, "error"].str.contains("not finite at step 1").all()
    assert frame.loc[pairs, "value"].isna().all()
    gains = mv.analysis.transfer_gains(frame).set_index("source")
    assert (gains.loc[list(NAMES), ["seeds", "failed"]] == [0, 2]).all(axis=None)
    assert (gains.loc["all", ["seeds", "failed"]] == [2, 0]).all(axis=None)
    assert set(gains.loc[list(NAMES), "verdict"]) == {"undecided"}


KILLED = """
import sys
import torch
import mtlviz as mv
from tests.experiments.related import QUICK, related
torch.set_num_threads(1)
mv.experiments.transfer(related, 1, folder=sys.argv[1], **QUICK | {"steps": 80})
"""


def test_after_a_kill_the_gains_are_the_very_same(tmp_path: Path) -> None:
    killed, options = tmp_path / "killed", QUICK | {"steps": 80}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)], cwd=ROOT, stderr=subprocess.PIPE)
    while len(_finished(killed)) < 2:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _finished(killed)
    assert 2 <= len(done) < 7
    before = {run: _contents(killed / run) for run in done}
    resumed = transfer(related, 1, folder=killed, **options)
    assert before == {run: _contents(killed / run) for run in done}
    assert len(_finished(killed)) == len(list(killed.iterdir())) == 7
    pd.testing.assert_frame_equal(resumed, transfer(related, 1, **options))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"problem": "digits"}, ProblemError, "transfer needs an mtlviz.Problem or a function of seed, got str"),
        ({"problem": related(names=("foe",))}, ProblemError, "two tasks at least; the problem has foe only"),
        ({"problem": crossing(validation=None)}, ProblemError, "transfer needs validation data"),
        ({"groups": ("alone", "triples")}, ValueError, "unknown group 'triples'; choose one of alone, pairs, all"),
        ({"groups": ()}, ValueError, "at least one of alone, pairs, all"),
        ({"weighting": "stl"}, WeightingError, r"groups=\['alone'\]"),
        ({"weighting": "mdga"}, WeightingError, "did you mean 'mgda'"),
        ({"seeds": 0}, ValueError, "seeds must be a whole number from 1"),
        ({"select": "best"}, ValueError, "select must be one of"),
        ({"jobs": 0}, ValueError, "jobs must be a number"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(
    arguments: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"problem": related(), "seeds": 1, "folder": tmp_path} | QUICK | arguments
    with pytest.raises(kind, match=message):
        runs_of(given.pop("problem"), given.pop("seeds"), **given)
    assert not list(tmp_path.iterdir())


def test_a_task_that_is_called_all_is_told() -> None:
    problem = related()
    tasks = [mv.Task(name, loss=problem.tasks[0].loss, metric="rmse", outputs=1) for name in ("all", "b")]
    data = dict(zip(("all", "b"), problem.train.by_task.values(), strict=False))
    given = {name: (rows.inputs, rows.targets) for name, rows in data.items()}
    with pytest.raises(ProblemError, match="calls all tasks together 'all'"):
        runs_of(mv.Problem(tasks=tasks, trunk=problem.model.trunk, train=given, validation=given), 1, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"groups": ("pairs",)}, ValueError, "against each task alone, and groups="),
        ({"groups": "alone"}, ValueError, r"beside other tasks, and groups=\['alone'\] trains each alone only"),
        ({"confidence": 95}, ValueError, "confidence must be between 0 and 1, got 95"),
        ({"confidence": "95%"}, ValueError, "confidence must be between 0 and 1, got '95%'"),
        ({"on": "train"}, ValueError, "on must be 'value' or 'test', got 'train'"),
        ({"on": "test", "select": "best_mean"}, ValueError, "needs select='final', not 'best_mean'"),
        ({"problem": crossing(test=None), "on": "test"}, ProblemError, "needs test data, and the problem has none"),
    ],
)
def test_what_gains_cannot_be_of_is_told_before_anything_is_trained(
    arguments: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"problem": related(), "folder": tmp_path} | QUICK | arguments
    with pytest.raises(kind, match=message):
        transfer(given.pop("problem"), 1, **given)
    assert not list(tmp_path.iterdir())
