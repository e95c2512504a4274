"""TensorBoard's own reader reads the export back: every value of the log, at its step, and nothing else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mtlviz as mv
from mtlviz.errors import RunLogError
from mtlviz.interop.tensorboard import CURVES, TOTALS, export, folder_names
from mtlviz.runlog import Measure, RunLog
from tests.analysis.runs import INFO, filled, hand, long_run, rewound

SAMPLE = Path(__file__).parents[2] / "data_samples" / "run_digits"


def _read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The points (step, value) of each tag of one TensorBoard run."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def _points(frame: pd.DataFrame, column: str) -> list[tuple[int, float]]:
    rows = frame[frame[column].notna()]
    return list(zip(rows["step"].tolist(), rows[column].astype(np.float32).tolist(), strict=True))


def test_the_recorded_sample_comes_back_value_for_value(tmp_path: Path) -> None:
    log = mv.RunLog.open(SAMPLE)
    assert export(log, tmp_path / "board", every=7) == tmp_path / "board"
    kept = log.recorded_steps[::7]
    steps, pairs, totals = (frame[frame["step"].isin(kept)] for frame in (log.steps, log.pairs, log.totals))
    for task in log.names:
        told = _read(tmp_path / "board" / task)
        for curve in CURVES:
            assert told[curve] == _points(steps[steps["task"] == task], curve)
        own = log.validations[log.validations["task"] == task]
        assert told[f"validation/{own['metric'].iloc[0]}"] == _points(own, "value")
        assert told["measure/test"] == _points(log.measures[log.measures["task"] == task], "value")
        assert set(told) == {*CURVES, f"validation/{own['metric'].iloc[0]}", "measure/test"}
    told = _read(tmp_path / "board")
    for total in TOTALS:
        assert told[total] == _points(totals, total)
    for (a, b), rows in pairs.groupby(["task_a", "task_b"], observed=True):
        assert told[f"cosine/{a} · {b}"] == _points(rows, "cosine")
    assert len(told) == len(TOTALS) + 10


def test_wall_times_are_those_of_the_run(tmp_path: Path) -> None:
    log = mv.RunLog.open(SAMPLE)
    export(log, tmp_path, every=100, pairs=False)
    reader = EventAccumulator(str(tmp_path / "left"))
    reader.Reload()
    began = datetime.fromisoformat(json.loads((SAMPLE / "run.json").read_text())["created"]).timestamp()
    times = log.totals["time"].to_numpy()[::100]
    np.testing.assert_allclose([event.wall_time - began for event in reader.Scalars("loss")], times, atol=1e-6)
    before, *_ = reader.Scalars("validation/accuracy (%)")  # at step 0, before any was recorded
    assert before.wall_time == pytest.approx(began)


def test_an_absent_task_and_an_undefined_value_leave_no_point(tmp_path: Path) -> None:
    export(hand(), tmp_path)
    assert _read(tmp_path / "c")["loss"] == [(1, 5.0), (3, 7.0)]
    assert _read(tmp_path / "c")["weight"] == [(1, 1.0), (3, 1.0)]  # weight 0 of an absent task is none
    assert _read(tmp_path / "c")["relative_rate"] == [(1, 1.0)]  # no gradient at step 3
    assert _read(tmp_path)["cosine/a · c"] == [(1, 0.0)]
    assert _read(tmp_path)["cosine/a · b"] == [(1, -1.0), (2, 0.0), (3, pytest.approx(-math.sqrt(0.5)))]


def test_what_a_rewind_discarded_is_left_out_unless_asked(tmp_path: Path) -> None:
    log = rewound()
    export(log, tmp_path / "kept")
    export(log, tmp_path / "all", discarded=True)
    export(log, tmp_path / "positions", axis="position")
    assert _read(tmp_path / "kept/a")["loss"] == [(1, 1.0), (2, 2.0), (5, 5.0)]
    assert _read(tmp_path / "all/a")["loss"] == [(n, n) for n in range(1, 6)]
    assert _read(tmp_path / "positions/a")["loss"] == [(1, 1.0), (2, 2.0), (3, 5.0)]
    validation = "validation/accuracy"
    assert _read(tmp_path / "kept/a")[validation] == [(2, 0.5), (5, np.float32(0.6))]
    assert _read(tmp_path / "positions/a")[validation] == [(2, 0.5), (3, np.float32(0.6))]
    with pytest.raises(RunLogError, match="positions, which come twice: use axis='step'"):
        export(log, tmp_path / "both", axis="position", discarded=True)


def test_measures_of_the_run_of_pairs_and_of_layers(tmp_path: Path) -> None:
    log = rewound()
    for measure in (
        Measure(5, "noise", 1.0),
        Measure(2, "noise", 0.5),  # measures may come in any order
        Measure(4, "noise", 9.0),  # of a step that was thrown away
        Measure(5, "affinity", 0.25, task="a", other="b"),
        Measure(5, "norm", 3.0, task="b", layer="conv"),
        Measure(5, "norm", 4.0, layer="fc"),
    ):
        log.append(measure)
    export(log, tmp_path)
    assert _read(tmp_path)["measure/noise"] == [(2, 0.5), (5, 1.0)]
    assert _read(tmp_path)["measure/norm/fc"] == [(5, 4.0)]
    assert _read(tmp_path / "a")["measure/affinity/b"] == [(5, 0.25)]
    assert _read(tmp_path / "b")["measure/norm/conv"] == [(5, 3.0)]


def test_tasks_of_any_name_have_a_folder_each(tmp_path: Path) -> None:
    names = ["a/b", "../../up", "A", "a", "...", "  ", "\x00\n", "x" * 300, "x" * 299 + "y", "深度", "CON: <b>|?*"]
    folders = folder_names(names)
    assert len({name.casefold() for name in folders}) == len(names)
    assert folders[:4] == ["a_b", "_.._up", "A", "a (2)"]
    assert "深度" in folders
    export(long_run(6, names=names, layers=False), tmp_path / "board")
    assert sorted(path.name for path in (tmp_path / "board").iterdir() if path.is_dir()) == sorted(folders)
    assert [path.name for path in tmp_path.iterdir()] == ["board"]
    assert all("loss" in _read(tmp_path / "board" / folder) for folder in folders)


def test_a_folder_with_events_is_refused_or_replaced_and_one_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export(long_run(5, names=["old", "both"]), tmp_path)
    with pytest.raises(RunLogError, match=r"holds an export already.* or replace it"):
        export(hand(), tmp_path)
    assert len(_read(tmp_path / "both")["loss"]) > 1
    export(long_run(2, names=["new", "both"]), tmp_path, overwrite=True)
    assert not list((tmp_path / "old").iterdir())
    assert len(_read(tmp_path / "new")["loss"]) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/events.out.tfevents.1.host").write_bytes(b"theirs")
    for overwrite in (False, True):
        with pytest.raises(RunLogError, match=r"did not write \(deep/events.out.tfevents.1.host\); nothing"):
            export(hand(), tmp_path, overwrite=overwrite)
    assert (tmp_path / "deep/events.out.tfevents.1.host").read_bytes() == b"theirs"
    assert len(_read(tmp_path / "new")["loss"]) == 2


def test_the_exports_of_other_runs_below_a_folder_are_not_replaced(tmp_path: Path) -> None:
    export(hand(), tmp_path / "first")
    there = sorted(tmp_path.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(RunLogError, match=r"holds exports in folders of its own \(first/.*beside them"):
            export(hand(), tmp_path, overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == there
    export(hand(), tmp_path / "second")


def test_a_run_without_a_step_is_an_export_without_a_point(tmp_path: Path) -> None:
    export(filled(INFO, []), tmp_path)
    assert _read(tmp_path) == {}
    assert _read(tmp_path / "a") == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "time"}, "one of step, position; came as 'time'"),
        ({"every": 0}, "every, an integer of 1 or more; came as 0"),
        ({"every": True}, "came as True"),
        ({"folder": 7}, "export needs a path"),
        ({"log": "runs/mine"}, "export needs a RunLog, came with 'runs/mine'. Open a folder with mv.RunLog.open"),
        ({"folder": "/proc/none/board"}, "Could not write /proc/none/board"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments: dict[str, object] = {"log": hand(), "folder": tmp_path / "board", **options}
    with pytest.raises(RunLogError, match=message):
        export(**arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "board").exists()


def test_without_the_extra_it_says_what_to_install_and_nothing_else_needs_it() -> None:
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "import mtlviz as mv\n"
        f"log = mv.RunLog.open({str(SAMPLE)!r})\n"
        "try:\n    mv.interop.tensorboard.export(log, 'x')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "mtlviz.interop.tensorboard needs TensorBoard: pip install 'mtlviz[tensorboard]'"


def test_a_run_that_goes_on_is_written_as_it_is_now(tmp_path: Path) -> None:
    log: RunLog = long_run(20, names=["a", "b"], layers=False)
    assert log.state == "running"
    export(log, tmp_path)
    assert len(_read(tmp_path / "a")["loss"]) == int((~log.discarded).sum())
