"""Experiments on a real Dask cluster of two worker processes: the same frames, and what is told where one fails."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from distributed import Client, LocalCluster

import mtlviz as mv
from mtlviz.errors import MtlvizError, ProblemError
from tests.experiments.related import QUICK, line, related
from tests.experiments.test_compare import Deadly, Locked
from tests.problems import TASKS, crossing

SHORT: dict[str, Any] = {"steps": 12, "validate_every": 4, "progress": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """Two workers with a thread each, in processes of their own, which all end with the module."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client
        started = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    for process in psutil.wait_procs(started, timeout=10)[1]:
        process.kill()


def _seeded(seed: int) -> mv.Problem:
    return crossing(seed=seed, dropout=0.2)


def _same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    timed = ["folder", *(["seconds"] if "seconds" in one.columns else [])]
    pd.testing.assert_frame_equal(one.drop(columns=timed), other.drop(columns=timed))


def _writers(folder: Path) -> set[int]:
    """The processes that wrote the runs of a folder."""
    return {int(mv.runlog.lock._content(run / "run.lock")["pid"]) for run in folder.iterdir()}  # type: ignore[call-overload]


def test_a_comparison_on_a_cluster_is_that_of_one_process(
    cluster: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {"equal": "equal", "stl": "stl", "mine": lambda losses, gramian: np.nan_to_num(losses)}
    one = mv.experiments.compare(_seeded, methods, 2, folder=tmp_path / "one", jobs=1, **SHORT)
    with joblib.parallel_config(backend="dask"):
        two = mv.experiments.compare(_seeded, methods, 2, folder=tmp_path / "two", **SHORT | {"progress": True})
    _same(one, two)
    workers = set(cluster.run(os.getpid).values())
    assert len(workers) == 2
    assert _writers(tmp_path / "two") == workers
    assert _writers(tmp_path / "one") == {os.getpid()}
    assert os.getpid() not in workers
    assert set(cluster.run(torch.get_num_threads).values()) == {1}
    assert not list((tmp_path / "two").glob(".*"))
    assert "10/10" in capsys.readouterr().err


def test_a_study_on_a_cluster_is_that_of_one_process(cluster: Client, tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": mv.training.Joint(patience=1, validate_every=4), "steps": 24, "seeds": 1}
    options |= {"methods": ["joint", "stl", "bam"], "progress": False}
    one = mv.experiments.convergence_study(crossing, folder=tmp_path / "one", jobs=1, **options)
    with joblib.parallel_config(backend="dask"):
        two = mv.experiments.convergence_study(crossing, folder=tmp_path / "two", **options)
    _same(one, two)
    assert _writers(tmp_path / "two") <= set(cluster.run(os.getpid).values())


def test_transfer_and_capacity_on_a_cluster_are_those_of_one_process(cluster: Client, tmp_path: Path) -> None:
    options = QUICK | {"steps": 6, "validate_every": 3}
    experiments = {
        "transfer": lambda **more: mv.experiments.transfer_runs(related, 1, **options | more),
        "capacity": lambda **more: mv.experiments.capacity(related(), [1, 2], 1, trunk=line, **options | more),
    }
    for name, experiment in experiments.items():
        one = experiment(folder=tmp_path / "one" / name)
        with joblib.parallel_config(backend="dask"):
            two = experiment(folder=tmp_path / "two" / name, jobs=-1)
        _same(one, two)
        assert _writers(tmp_path / "two" / name) <= set(cluster.run(os.getpid).values())


def test_one_job_stays_in_this_process(cluster: Client, tmp_path: Path) -> None:
    with joblib.parallel_config(backend="dask"):
        mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    assert _writers(tmp_path) == {os.getpid()}


class Bad:
    """Weights that nobody can use."""

    def __call__(self, losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        return np.full(len(losses), np.nan if np.ptp(losses) > 0 else 1.0)


def test_a_run_that_fails_on_a_worker_fails_alone(cluster: Client, tmp_path: Path) -> None:
    with joblib.parallel_config(backend="dask"):
        frame = mv.experiments.compare(crossing(), {"equal": "equal", "bad": Bad()}, 1, folder=tmp_path, **SHORT)
    bad = frame[frame["method"] == "bad"]
    assert bad["error"].str.contains("WeightingError: .*not finite at step 1").all()
    assert set(frame.loc[frame["method"] == "equal", "status"]) == {"finished"}


class DiesOnce:
    """Equal weights, but the first process that trains with them ends."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __call__(self, losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        if np.ptp(losses) > 0 and not self.sign.exists():  # not while it is planned
            self.sign.touch()
            os._exit(1)
        return np.ones(len(losses))


def test_the_run_of_a_worker_that_died_is_done_by_another(cluster: Client, tmp_path: Path) -> None:
    methods = {"once": DiesOnce(tmp_path / "sign")}
    with joblib.parallel_config(backend="dask"):
        frame = mv.experiments.compare(_seeded, methods, 2, folder=tmp_path / "runs", **SHORT)
    assert (tmp_path / "sign").exists()
    _same(frame, mv.experiments.compare(_seeded, methods, 2, jobs=1, **SHORT))
    cluster.wait_for_workers(2, timeout=30)


def test_a_worker_that_dies_is_told_and_what_is_finished_stays(cluster: Client, tmp_path: Path) -> None:
    mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(MtlvizError, match=r"workers of the Dask cluster died again and again.*What is finished is kept"),
    ):
        mv.experiments.compare(crossing(), {"equal": "equal", "deadly": Deadly()}, 1, folder=tmp_path, **SHORT)
    assert any(mv.RunLog.open(run).state == "finished" for run in tmp_path.iterdir() if (run / "run.json").exists())
    cluster.wait_for_workers(2, timeout=30)


def test_a_folder_that_a_worker_does_not_see_is_told(
    cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "touch", lambda self: None)  # the sign is where only this machine would see it
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(MtlvizError, match=r"does not see the folder .*folder="),
    ):
        mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, **SHORT)


def test_another_mtlviz_on_a_worker_is_told(cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlviz.experiments.cluster.code", lambda: "0.0 older")
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(MtlvizError, match=r"has another mtlviz .*\(0.0 older\)"),
    ):
        mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, **SHORT)


def test_code_that_a_worker_does_not_have_is_told(
    cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("only_here")
    exec("def method(losses, gramian):\n    return losses * 0 + 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with joblib.parallel_config(backend="dask"), pytest.raises(MtlvizError, match=r"could not read a run: .*only_here"):
        mv.experiments.compare(crossing(), {"mine": module.method}, 1, folder=tmp_path, **SHORT)


def test_what_cannot_be_sent_to_a_cluster_is_told(cluster: Client) -> None:
    problem = mv.Problem(
        tasks=[TASKS[1]], trunk=crossing().model.trunk, train={"size": Locked(64)}, validation={"size": Locked(64)}
    )
    with joblib.parallel_config(backend="dask"), pytest.raises(ProblemError, match=r"cannot pickle .*lock.*jobs=1"):
        mv.experiments.compare(problem, "equal", 1, **SHORT)
