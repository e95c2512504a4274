"""A study of asynchronous convergence on small problems: who trains what, for how long, and what is kept of a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mtlviz as mv
from mtlviz.errors import FrameError, ProblemError
from mtlviz.experiments.study_plan import METHODS
from mtlviz.training.checkpoints import best_model
from mtlviz.training.evaluation import evaluation
from tests.problems import TASKS, crossing

NAMES = [task.name for task in TASKS]


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


SHORT: dict[str, Any] = {
    "schedule": mv.training.Joint(patience=1, validate_every=4),
    "steps": 44,
    "optimizer": _adam,
    "batch_size": 32,
    "jobs": 1,
    "progress": False,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("study")
    return mv.experiments.convergence_study(crossing, seeds=1, alphas=(0.5, 2), folder=folder, **SHORT)


def _log(frame: pd.DataFrame, method: str) -> mv.RunLog:
    return mv.RunLog.open(frame.loc[frame["method"] == method, "folder"].iloc[0])


def test_every_method_has_a_row_per_task(study: pd.DataFrame) -> None:
    assert list(study["method"].unique()) == list(METHODS)
    assert all(list(rows["task"]) == NAMES for _, rows in study.groupby("method"))
    assert (study["status"] == "finished").all()
    assert (study["error"] == "").all()
    assert np.isfinite(study[["value", "test", "test_best", "best", "final"]].to_numpy(float)).all()
    assert (study["noise"].dropna() > 0).all()
    assert (study["value"] == study["test"]).all()
    assert set(study.loc[~study["is_run"], "method"]) == {"uniform (best)"}


def test_baselines_train_for_the_joint_run_s_updates(study: pd.DataFrame) -> None:
    steps = study.groupby("method")["train_steps"].agg(["min", "max"])
    joint = _log(study, "joint")
    assert (steps.loc["joint"] == joint.last_step).all()
    assert (joint.events["kind"] == "rewind").any()
    rewound = len(set(joint.steps.loc[joint.steps["discarded"], "step"]))
    assert rewound > 0  # so that work which was thrown away is counted below
    for method in ("uniform (final)", "uniform (best)", "muppet", "dwa", "gradnorm", "stl"):
        assert (steps.loc[method] == joint.last_step).all(), method
    for method in ("bam", "bam (annealed)"):
        assert (steps.loc[method] == 2 * joint.last_step).all(), method
        assert _log(study, method).last_step == joint.last_step
    own = study[study["method"] == "joint"]
    assert (own["surviving_steps"] == joint.last_step - rewound).all()


def test_the_runs_are_of_what_their_method_says(study: pd.DataFrame) -> None:
    config = {method: _log(study, method).info.config for method in METHODS}
    kinds = {method: told.get("schedule", {}).get("kind") for method, told in config.items()}
    assert {method for method, kind in kinds.items() if kind == "sequential"} == {
        "sequential (small)",
        "sequential (large)",
        "sequential (easy)",
    }
    assert (kinds["joint"], kinds["continual"], kinds["bam"]) == ("joint", "continual", "born_again")
    assert (config["muppet"]["weighting"], config["muppet"]["weighting_settings"]["base"]) == ("muppet", 10)
    assert config["dwa"]["weighting_settings"]["temperature"] == 2
    assert config["uniform (final)"]["weighting"] == config["joint"]["weighting"] == "equal"
    joint = _log(study, "joint").events
    converged = [str(task) for task in joint.loc[joint["kind"] == "convergence", "task"]]
    easy = config["sequential (easy)"]["schedule"]["order"]
    assert easy[: len(converged)] == converged
    assert sorted(easy) == sorted(NAMES)
    (told,) = study.loc[study["method"] == "sequential (easy)", "setting"].unique()
    assert told == f"order {' → '.join(easy)}"
    folders = study.loc[study["method"] == "stl", "folder"]
    assert [mv.RunLog.open(folder).names for folder in folders] == [(name,) for name in NAMES]


def test_uniform_best_is_the_best_checkpoint_of_the_uniform_run(study: pd.DataFrame) -> None:
    final, best = (study[study["method"] == name].set_index("task") for name in ("uniform (final)", "uniform (best)"))
    problem = crossing(seed=0)
    curves = mv.analysis.validations(_log(study, "uniform (final)"))
    for task in problem.tasks:
        model = best_model(final["folder"][task.name], problem, task.name)
        assert problem.test is not None
        (value,) = evaluation(model, (task,), problem.test, torch.device("cpu"), step=0).values()
        assert best["value"][task.name] == value == final["test_best"][task.name]
        marked = curves[(curves["task"] == task.name) & curves["best"]]
        assert final["best"][task.name] == marked["value"].item()
        assert final["best_step"][task.name] == marked["step"].item()
    sign = np.where(final["direction"] == "max", 1, -1)
    np.testing.assert_allclose(final["drop"], sign * (final["best"] - final["final"]))
    assert (final["drop"] >= 0).all()
    assert best["drop"].isna().all()


def test_gradnorm_has_the_alpha_that_is_best_on_validation(study: pd.DataFrame) -> None:
    rows = study[study["method"] == "gradnorm"]
    (said,) = rows["setting"].unique()
    folder = Path(rows["folder"].iloc[0])
    runs = [mv.RunLog.open(path) for path in sorted(folder.parent.glob("gradnorm*"))]
    assert len(runs) == 2
    means = {}
    for log in runs:
        last = log.validations[(log.validations["step"] == log.last_step) & (log.validations["metric"] != "RMSE")]
        assert len(last) == 2
        means[log.info.config["weighting_settings"]["alpha"]] = last["value"].mean()
    best = max(means, key=lambda alpha: means[alpha])
    assert said.startswith(f"α = {best:g}, by the mean validation at the end (")
    assert mv.RunLog.open(folder).info.config["weighting_settings"]["alpha"] == best


def test_table_drops_curves_and_figures_take_the_frame(study: pd.DataFrame) -> None:
    table = mv.experiments.convergence_table(study)
    assert list(table.cells.index) == list(METHODS)
    assert "The average leaves out size" in table.caption
    change = table.frame[(table.frame["method"] == "joint") & (table.frame["task"] == "size")]["change"].item()
    value = study.set_index(["method", "task"])["value"]
    assert change == pytest.approx(value["uniform (final)", "size"] - value["joint", "size"])
    drops = mv.experiments.convergence_drops(study)
    assert len(drops) == 3 * (len(METHODS) - 1)
    assert (drops["seeds"] == 1).all()
    assert drops["drop_low"].isna().all()
    curves = mv.experiments.convergence_curves(study)
    assert [name for name in METHODS if name != "uniform (best)"] == list(curves["method"].unique())
    assert (curves["behind"][~curves["discarded"] & (curves["phase"] != "waiting")] <= 0).all()
    kept = curves[(curves["method"] == "joint") & curves["decided"].notna()]
    converged = study[(study["method"] == "joint") & study["converged_at"].notna()]
    assert sorted(kept["task"]) == sorted(converged["task"])
    assert len(mv.figures.convergence_curves(curves).data) > 3 * 12
    assert len(mv.figures.convergence_changes(table.frame).data) == 4


def test_nothing_is_trained_again_and_the_other_split_can_be_asked_for(study: pd.DataFrame) -> None:
    folder = Path(study["folder"].iloc[0]).parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = mv.experiments.convergence_study(crossing, seeds=1, alphas=(0.5, 2), folder=folder, **SHORT)
    pd.testing.assert_frame_equal(again, study)
    other = mv.experiments.convergence_study(
        crossing, seeds=1, alphas=(0.5, 2), methods=["joint", "uniform (best)"], on="validation", folder=folder, **SHORT
    )
    assert list(other["method"].unique()) == ["uniform (best)", "joint"]
    assert (other["value"] == other["final"]).all()
    rows = other[other["method"] == "uniform (best)"]
    assert (rows["value"] == rows["best"]).all()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.filterwarnings("ignore::mtlviz.runlog.DamagedLogWarning")
def test_half_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ["joint"], "seeds": 1, **SHORT}
    whole = mv.experiments.convergence_study(crossing, folder=tmp_path, **options)
    (run,) = tmp_path.iterdir()
    log = mv.RunLog.open(run)
    checkpoints = sorted((run / "checkpoints").glob("step-*.pt"))
    last = checkpoints[-1]
    assert len(checkpoints) > 1
    last.unlink()  # as if killed before it was written
    (run / "checkpoints" / "best_on_test.json").unlink()
    events = run / "events.000.arrows"
    events.write_bytes(events.read_bytes()[:-400])  # nor was the end of the log
    again = mv.experiments.convergence_study(crossing, folder=tmp_path, **options)
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"))
    assert mv.RunLog.open(run).state == "finished"
    np.testing.assert_array_equal(mv.RunLog.open(run).gramians, log.gramians)
    assert any(run.glob("steps.001.arrows"))  # a further segment: it was not begun anew


def _fails(losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
    raise RuntimeError("by itself")


def test_what_fails_takes_only_what_needs_it_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mv.experiments.study_plan.WEIGHTINGS, "uniform (final)", _fails)
    names = ["uniform (best)", "bam", "dwa", "joint"]
    frame = mv.experiments.convergence_study(crossing, methods=names, seeds=1, **SHORT)
    failed = frame[frame["status"] == "failed"]
    assert set(failed["method"]) == {"uniform (best)", "bam"}
    assert failed[["value", "best", "drop"]].isna().all(axis=None)
    assert (failed.loc[failed["method"] == "uniform (best)", "error"].str.contains("by itself")).all()
    assert (failed.loc[failed["method"] == "bam", "error"].str.contains("'uniform .final.' of its seed failed")).all()
    assert frame.loc[frame["status"] == "finished", "value"].notna().all()
    assert (frame["folder"] == "").all()
    with pytest.raises(FrameError, match="folder"):
        mv.experiments.convergence_curves(frame)


def test_a_task_without_validation_is_told_of(tmp_path: Path) -> None:
    whole = crossing()
    x, y = _labels_of(whole)
    problem = mv.Problem(
        tasks=TASKS,
        trunk=whole.model.trunk,
        train=whole.train,
        validation=(x, {name: y[name] for name in NAMES[:2]}),
        test=whole.test,
        monitor={"rare": "test"},
    )
    names = ["uniform (final)", "joint"]
    frame = mv.experiments.convergence_study(problem, methods=names, seeds=1, folder=tmp_path, **SHORT)
    assert frame.set_index(["method", "task"])["monitored_on"]["joint", "rare"] == "test"
    caption = mv.experiments.convergence_table(frame).caption
    assert "Warning: rare chosen on the data it is judged by" in caption


def _labels_of(problem: mv.Problem) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    assert problem.validation is not None
    (batch,) = problem.validation.chunks(10_000)
    return batch.inputs, dict(batch.targets)


def _other_tasks(seed: int) -> mv.Problem:
    return crossing().alone("size") if seed else crossing()


def test_wrong_arguments_are_told() -> None:
    study = mv.experiments.convergence_study
    with pytest.raises(ValueError, match="unknown method 'joint2'; did you mean 'joint'"):
        study(crossing, methods="joint2")
    with pytest.raises(ValueError, match=r"schedule must be a mv\.training\.Joint"):
        study(crossing, schedule=mv.training.Sequential())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on must be 'test' or 'validation', got 'train'"):
        study(crossing, on="train")
    with pytest.raises(ProblemError, match="no test data"):
        study(crossing(test=None))
    with pytest.raises(ProblemError, match=r"needs an mtlviz\.Problem"):
        study(3)  # type: ignore[arg-type]
    with pytest.raises(ProblemError, match="seed 1 has other tasks than that of seed 0"):
        study(_other_tasks, seeds=2)
    with pytest.raises(ValueError, match="patience"):
        study(crossing, schedule=mv.training.Joint(patience=0))
