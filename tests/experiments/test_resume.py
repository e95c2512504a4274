"""What a comparison does not train again: after a kill, beside another one, and when what was trained has changed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.runlog import DamagedLogWarning
from tests.problems import TASKS, crossing

ROOT = Path(__file__).parents[2]
NAMES = [task.name for task in TASKS]
SHORT: dict[str, Any] = {"steps": 12, "validate_every": 4, "progress": False}


def _seeded(seed: int) -> mv.Problem:
    return crossing(seed=seed, dropout=0.2)


def _contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of the runs, with the moment at which it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_finished_runs_stay_and_what_is_new_is_added(tmp_path: Path) -> None:
    compare, problem = mv.experiments.compare, crossing()
    first = compare(problem, ["equal"], 1, folder=tmp_path, jobs=1, **SHORT)
    before = _contents(tmp_path)
    again = compare(crossing(), ["equal"], 1, folder=tmp_path, jobs=1, **SHORT)  # made anew, and the same
    pd.testing.assert_frame_equal(first, again)
    more = compare(problem, ["dwa", "equal"], 2, folder=tmp_path, jobs=1, **SHORT)
    kept = _contents(tmp_path)
    assert before.items() <= kept.items()
    pd.testing.assert_frame_equal(more[(more.method == "equal") & (more.seed == 0)].reset_index(drop=True), first)
    others: list[dict[str, Any]] = [
        {"steps": 13}, {"scale": {"kind": 2.0}}, {"batch_size": 32}, {"optimizer": _slow},
        {"validate_every": 6}, {"layers_every": 3},
    ]  # fmt: skip
    for count, other in enumerate(others, start=5):
        compare(problem, ["equal"], 1, folder=tmp_path, jobs=1, **SHORT | other)
        assert len(list(tmp_path.iterdir())) == count, other
    compare(crossing(seed=3), ["equal"], 1, folder=tmp_path, jobs=1, **SHORT)
    assert len(list(tmp_path.iterdir())) == count + 1
    assert kept.items() <= _contents(tmp_path).items()


def _with_loss(loss: Any) -> mv.Problem:
    problem, tasks = crossing(), [TASKS[0], mv.Task("size", loss=loss, metric="rmse", outputs=1), TASKS[2]]
    return mv.Problem(
        tasks=tasks, trunk=problem.model.trunk, train=problem.train, validation=problem.validation, name="own"
    )


def test_a_run_whose_loss_or_method_changed_is_trained_anew(tmp_path: Path) -> None:
    def frame(factor: float, method: Any) -> pd.DataFrame:
        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return factor * F.mse_loss(outputs, targets)

        return mv.experiments.compare(_with_loss(loss), {"mine": method}, 1, folder=tmp_path, jobs=1, **SHORT)

    first = frame(1.0, lambda losses, gramian: losses)
    again = frame(1.0, lambda losses, gramian: losses)
    assert again["folder"].tolist() == first["folder"].tolist()
    for other in (frame(9.0, lambda losses, gramian: losses), frame(1.0, lambda losses, gramian: 9 * losses**2)):
        assert set(other["folder"]).isdisjoint(first["folder"])
        assert (other["value"] != first["value"]).any()


def test_finished_runs_are_told_and_fresh_trains_them_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = SHORT | {"progress": True, "folder": tmp_path, "jobs": 1}
    first = mv.experiments.compare(crossing(), "equal", 2, **options)
    before = _contents(tmp_path)
    assert "not trained again" not in "".join(capsys.readouterr())
    mv.experiments.compare(crossing(), ["equal", "dwa"], 2, **options)
    assert "2 of 4 runs are finished and not trained again" in "".join(capsys.readouterr())
    again = mv.experiments.compare(crossing(), "equal", 2, fresh=True, **options)
    assert "not trained again" not in "".join(capsys.readouterr())
    pd.testing.assert_frame_equal(again, first)
    assert all(_contents(tmp_path)[name] != told for name, told in before.items() if name.endswith("run.json"))


def test_runs_of_a_model_that_was_drawn_anew_are_told_from_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = SHORT | {"progress": True, "folder": tmp_path, "jobs": 1}
    mv.experiments.compare(crossing(), "equal", 2, **options)
    (tmp_path / "equal-seed0-nothing...").mkdir()  # no run
    mv.experiments.compare(crossing(), ["equal", "dwa"], 2, **options)
    assert "same names" not in "".join(capsys.readouterr())
    problem = crossing()
    torch.nn.init.normal_(next(problem.model.parameters()))
    mv.experiments.compare(problem, ["equal", "dwa", "si"], 2, **options)
    told = "".join(capsys.readouterr())
    assert "4 runs of the same names in the folder have another problem; they stay, and are not used" in told
    assert "unless torch.manual_seed(...) comes before it" in told
    mv.experiments.compare(crossing(), "equal", 2, **options | {"steps": 13})
    told = "".join(capsys.readouterr())
    assert "2 runs of the same names in the folder have another" in told
    assert "steps" in told
    mv.experiments.compare(crossing(), "equal", 2, **options | {"progress": False, "steps": 14})
    assert "same names" not in "".join(capsys.readouterr())


def test_what_cannot_be_seen_to_change_is_named(tmp_path: Path) -> None:
    generator = torch.Generator()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(outputs, targets) * torch.rand((), generator=generator)

    with pytest.warns(UserWarning, match=r"changed since a run was finished: Generator \(the loss of 'size'\)"):
        mv.experiments.compare(_with_loss(loss), "equal", 1, folder=tmp_path, jobs=1, **SHORT)


def _slow(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, weight_decay=0.1)


def test_another_choice_of_checkpoint_trains_nothing(tmp_path: Path) -> None:
    problem = crossing()
    before: dict[str, tuple[int, bytes]] = {}
    for select in ("final", "best_mean", "best_per_task"):
        frame = mv.experiments.compare(problem, "equal", 1, select=select, folder=tmp_path, jobs=1, **SHORT)
        assert set(frame["select"]) == {select}
        assert frame["test"].isna().all() == (select != "final")
        before = before or _contents(tmp_path)
        assert _contents(tmp_path) == before


def test_half_a_run_is_run_anew(tmp_path: Path) -> None:
    problem = crossing()
    frame = mv.experiments.compare(problem, "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    (run,) = tmp_path.iterdir()
    steps = run / "steps.000.arrows"
    whole, data = mv.RunLog.open(run).gramians, steps.read_bytes()
    (run / "events.000.arrows").unlink()
    (run / "run.lock").unlink()
    steps.write_bytes(data[: len(data) // 2])
    again = mv.experiments.compare(problem, "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    pd.testing.assert_frame_equal(frame, again)
    np.testing.assert_array_equal(mv.RunLog.open(run).gramians, whole)


KILLED = """
import sys
import torch
import mtlviz as mv
from tests.experiments.test_resume import LONG, _seeded
torch.set_num_threads(1)
mv.experiments.compare(_seeded, ["equal", "stl"], 2, folder=sys.argv[1], jobs=2, **LONG)
"""


LONG: dict[str, Any] = {"steps": 150, "validate_every": 50, "progress": False}


def test_after_a_kill_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    """The comparison's process is killed, its workers are not: they end by themselves and disturb nobody."""
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)], cwd=ROOT, stderr=subprocess.PIPE)
    while len(_finished(killed)) < 2:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _finished(killed)
    assert 2 <= len(done) < 8
    before = {run: _contents(killed / run) for run in done}
    resumed = mv.experiments.compare(_seeded, ["equal", "stl"], 2, folder=killed, jobs=1, **LONG)
    assert not psutil.wait_procs(workers, timeout=10)[1]
    for run in done:
        assert _contents(killed / run) == before[run]
    assert len(_finished(killed)) == len(list(killed.iterdir())) == 8
    at_once = mv.experiments.compare(_seeded, ["equal", "stl"], 2, folder=tmp_path / "other", jobs=1, **LONG)
    pd.testing.assert_frame_equal(resumed.drop(columns="folder"), at_once.drop(columns="folder"))


def _finished(folder: Path) -> list[str]:
    runs = [run for run in folder.iterdir() if (run / "run.json").exists()] if folder.exists() else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedLogWarning)
        return sorted(run.name for run in runs if mv.RunLog.open(run).state == "finished")


def test_a_run_that_another_process_writes_and_leaves_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlviz.experiments.runs._PATIENCE", 0.0)
    frame = mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    log = mv.RunLog.open(folder := frame["folder"].iloc[0])
    with mv.RunLog.create(folder, log.info, overwrite=True) as writing:
        writing.append(mv.Event(0, 0, "start"))
        writing.flush()
        frame = mv.experiments.compare(crossing(), "equal", 1, folder=tmp_path, jobs=1, **SHORT)
    assert frame["error"].str.contains("being written by another process, which stands still").all()


def test_two_comparisons_in_one_folder_share_their_runs(tmp_path: Path) -> None:
    methods = {"equal": mv.weighting.Equal(), "dwa": mv.weighting.DWA()}
    problem = crossing(dropout=0.2)  # made once: two threads that make one would share torch's random numbers
    frames: list[pd.DataFrame] = []

    def compare() -> None:
        frames.append(mv.experiments.compare(problem, methods, 2, folder=tmp_path, jobs=1, **LONG))

    threads = [threading.Thread(target=compare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(frames) == 2
    assert set(frames[0]["status"]) == {"finished"}
    pd.testing.assert_frame_equal(*frames)
