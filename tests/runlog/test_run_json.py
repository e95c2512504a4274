"""What a run says it is: names that can be stored, and a `run.json` of the wrong shape, told clearly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtlviz.errors import RunLogError
from mtlviz.runlog import RunInfo, RunLog, TaskInfo
from tests.runlog.runs import INFO, filled, story

TASK = TaskInfo("left", "accuracy", "max")
HALF = "caf\ud800"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (RunInfo("p", (replace(TASK, name=HALF),)), r"task 'caf\\ud800' cannot be stored"),
        (RunInfo("p", (replace(TASK, metric=HALF),)), r"metric 'caf\\ud800' cannot be stored"),
        (RunInfo("p", (TASK,), layers=("conv", HALF)), r"layer 'caf\\ud800' cannot be stored"),
        (RunInfo(HALF, (TASK,)), r"problem 'caf\\ud800' cannot be stored"),
        (RunInfo(None, (TASK,)), "text for each problem.*None"),  # type: ignore[arg-type]
        (RunInfo("p", ("left",)), "tasks with a name each, a tuple of TaskInfo"),  # type: ignore[arg-type]
        (RunInfo("p", (TASK,), layers="conv"), "layers with a name each, a tuple of str.*'conv'"),  # type: ignore[arg-type]
        (RunInfo("p", (TASK,), config=[]), "configuration must be JSON values in a mapping"),  # type: ignore[arg-type]
        (RunInfo("p", (replace(TASK, samples=3),)), "mapping of samples per split"),  # type: ignore[arg-type]
    ],
)
def test_a_run_info_that_cannot_be_stored(tmp_path: Path, info: RunInfo, message: str) -> None:
    for path in (None, tmp_path / "run"):
        with pytest.raises(RunLogError, match=message):
            RunLog.create(path, info)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "run"
    filled(RunLog.create(path, INFO), story(4)).close()
    return path


TASKS = [{"name": "left", "metric": "accuracy", "direction": "max"}]


@pytest.mark.parametrize(
    "change",
    [
        *({"tasks": tasks} for tasks in ([1], 1, None, {}, [], ["left"], [[]], "left", [{}], {"left": {}})),
        {"tasks": [{**TASKS[0], "samples": 3}]},
        {"tasks": [{**TASKS[0], "outputs": "many"}]},
        {"tasks": [{**TASKS[0], "name": "\ud800"}]},
        {"tasks": [{**TASKS[0], "colour": "red"}]},
        *({"layers": layers} for layers in ("conv", [1], None, {"conv": 1}, [["conv"]])),
        *({"config": config} for config in ([], None, 3, [["a", 1]], "ab", {"$float": "many"}, {"$float": None})),
        *({"problem": problem} for problem in (None, 3, ["hand"])),
        *({"schema": schema} for schema in (None, "1", True, 0, 1.0, [1])),
    ],
    ids=str,
)
def test_another_shape_is_told_with_the_file(written: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    content = json.loads((written / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | change))
    with pytest.raises(RunLogError, match=r"Could not understand .*run\.json: .*Restore it from a copy"):
        RunLog.open(tmp_path)
    if change.keys() != {"schema"}:
        with pytest.raises(RunLogError, match="already holds a run"):
            RunLog.create(tmp_path, INFO)


@pytest.mark.parametrize(
    "change",
    [{"tasks": [1]}, {"tasks": None}, {"versions": [1]}, {"versions": None}, {"config": {"$float": "many"}}],
    ids=str,
)
def test_a_newer_schema_is_told_before_anything_else_is_read(
    written: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    content = json.loads((written / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | {"schema": 2} | change))
    with pytest.raises(RunLogError, match=r"has schema 2, written by mtlviz .*pip install -U mtlviz"):
        RunLog.open(tmp_path)


def test_a_text_that_nests_without_end(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunLogError, match=r"Could not understand .*run\.json"):
        RunLog.open(tmp_path)
    with pytest.raises(RunLogError, match="not empty and holds no run"):
        RunLog.create(tmp_path, INFO)
