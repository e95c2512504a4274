"""Convergence asked of logs and frames: the run's own rule again, and what another patience would have done."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from mtlviz import analysis
from mtlviz.errors import FrameError
from mtlviz.runlog import Event, RunInfo, RunLog, TaskInfo, Validation
from tests.analysis.runs import filled, hand, rewound
from tests.analysis.scheduled import scheduled_run
from tests.strategies import scheduled_streams

KINDS = ("convergence", "rewind", "distillation", "task_added", "step_cap")


def said(log: RunLog) -> pd.DataFrame:
    return log.events[log.events["kind"].isin(KINDS)].reset_index(drop=True)


@given(stream=scheduled_streams())
@settings(max_examples=60, deadline=None)
def test_the_rule_says_the_live_events_again(stream: tuple) -> None:
    log = filled(*stream)
    pd.testing.assert_frame_equal(analysis.replay_events(log), said(log), check_exact=True)


def test_the_events_of_a_sequence_survive_the_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    live = scheduled_run(order=("kind", "place", "size"), patience=2)
    log = RunLog.create(tmp_path_factory.mktemp("run") / "r", live.info)
    for row in live.validations.itertuples():
        log.append(Validation(row.step, row.position, row.task, row.metric, row.value))
    finish = live.events.iloc[-1]
    log.append(Event(finish.step, finish.position, "finish"))
    log.close()
    again = analysis.replay_events(RunLog.open(log.path))  # of the validations alone: the log has no such event
    pd.testing.assert_frame_equal(again, said(live), check_exact=True)
    assert again["kind"].tolist().count("task_added") == again["kind"].tolist().count("rewind") == 3


def test_a_run_that_was_cut_off_has_a_step_cap_and_one_that_goes_on_has_none() -> None:
    capped = scheduled_run(most=320)
    assert capped.events["kind"].tolist()[-2:] == ["step_cap", "finish"]
    assert analysis.replay_events(capped)["detail"].iloc[-1] == {"unconverged": ["kind", "place"]}
    live = RunLog.create(None, capped.info)
    for row in capped.validations.itertuples():
        live.append(Validation(row.step, row.position, row.task, row.metric, row.value))
    assert analysis.replay_events(live)["kind"].tolist() == ["convergence", "rewind", "distillation"]


def test_a_log_in_the_middle_of_a_round_says_no_more_than_the_run_did() -> None:
    for whole in (scheduled_run(patience=2), scheduled_run(order=("kind", "place", "size"), patience=2)):
        log, events = RunLog.create(None, whole.info), said(whole)
        rows = list(whole.validations.itertuples())
        for row, later in zip(rows, [*rows[1:], None], strict=True):
            log.append(Validation(row.step, row.position, row.task, row.metric, row.value))
            torn = row.step > 0 and later is not None and later.step == row.step
            before = events["step"] < row.step if torn else events["step"] <= row.step
            pd.testing.assert_frame_equal(analysis.replay_events(log), events[before], check_exact=True)


def test_a_short_last_round_counts_once_the_run_has_finished() -> None:
    info = scheduled_run(patience=1).info
    log = RunLog.create(None, info)
    for task in info.tasks:
        log.append(Validation(0, 0, task.name, task.metric, 0.9))
    log.append(Validation(50, 50, "size", info.tasks[0].metric, 0.5))
    assert analysis.replay_events(log).empty
    log.append(Event(50, 50, "finish"))
    told = analysis.replay_events(log)
    assert told[["kind", "task"]].iloc[0].tolist() == ["convergence", "size"]


def test_only_a_run_that_waits_for_convergence_has_events_to_replay() -> None:
    with pytest.raises(FrameError, match=r"a schedule that waits for convergence.*analysis.convergence\(log"):
        analysis.replay_events(hand())
    with pytest.raises(FrameError, match="because the rule needs the run's own settings; got DataFrame"):
        analysis.replay_events(hand().validations)


def curve(*values: float, task: str = "a", direction: str = "max", **more: object) -> pd.DataFrame:
    """The counterfactual of one task validated at steps 0, 10, 20, ..."""
    frame = pd.DataFrame({"step": np.arange(len(values)) * 10, "task": task, "metric": "m", "value": values})
    return analysis.convergence(frame, directions={task: direction}, **more)


def test_one_patience_stops_where_another_goes_on() -> None:
    table = curve(1.0, 3.0, 2.0, 3.0, 5.0, 4.0, patience=[1, 2, 3]).set_index("patience")
    assert table["converged"].tolist() == [True, True, False]
    assert table["step"].tolist()[:2] == [20, 30]  # 3.0 again is no improvement
    assert table["best_step"].tolist() == [10, 10, 40]
    assert table["best"].tolist() == [3.0, 3.0, 5.0]
    assert table["lost"].tolist() == [-1.0, -1.0, 1.0]  # stopping at 3.0 would have missed 4.0
    assert table["counterfactual"].all()
    fewer = curve(3.0, 1.0, 2.0, 4.0, direction="min", patience=2)
    assert fewer[["step", "best_step", "best", "final", "lost"]].to_numpy().tolist() == [[30, 10, 1.0, 4.0, 3.0]]
    least = curve(1.0, 1.5, 2.0, 2.4, patience=1, min_delta=1.0)
    assert least[["step", "best"]].to_numpy().tolist() == [[10, 1.0]]  # each gain is too small, though they add up


def test_values_that_are_not_finite_never_improve_and_alone_never_converge() -> None:
    nan = float("nan")
    late = curve(nan, math.inf, 1.0, nan, nan, patience=2)
    assert late[["step", "best_step", "final_step"]].to_numpy().tolist() == [[40, 20, 20]]
    never = curve(nan, nan, nan, patience=1).iloc[0]
    assert not never["converged"]
    assert never[["step", "best_step", "best", "final", "lost"]].isna().all()


def test_what_a_rewind_discarded_does_not_count() -> None:
    table = analysis.convergence(rewound(), patience=1)
    assert table[["task", "best", "final"]].to_numpy().tolist() == [["a", 0.6, 0.6]]  # 0.99 was thrown away


@given(stream=scheduled_streams())
@settings(max_examples=40, deadline=None)
def test_each_task_stops_so_many_validations_after_its_best(stream: tuple) -> None:
    """Against another way to say it: the first validation that lies n or more after the best up to it."""
    log = filled(*stream)
    table = analysis.convergence(log, patience=[1, 3])
    frame = log.validations[~log.validations["discarded"]]
    assert len(table) == 2 * frame["task"].nunique()
    sign = {task.name: 1 if task.direction == "max" else -1 for task in log.tasks}
    for row in table.itertuples():
        own = frame[frame["task"] == row.task]
        score, steps = own["value"].fillna(-math.inf).to_numpy() * 1.0, own["step"].to_numpy()
        score = np.where(np.isfinite(score), sign[row.task] * score, -math.inf)
        decided = None
        for i in range(len(score)):
            best = int(np.argmax(score[: i + 1]))
            if np.isfinite(score[best]) and i - best >= row.patience:
                decided = i
                break
        assert row.converged == (decided is not None)
        if decided is not None:
            best = int(np.argmax(score[: decided + 1]))
            assert (row.step, row.best_step) == (steps[decided], steps[best])
            last = score[np.isfinite(score)][-1]
            assert row.lost == score[best] - last


def test_a_run_and_its_own_patience_agree_on_the_first_task_that_converged() -> None:
    log = scheduled_run(patience=3)
    first = log.events[log.events["kind"] == "convergence"].iloc[0]
    before = log.validations[log.validations["step"] <= first["step"]].assign(discarded=False)
    table = analysis.convergence(before, patience=3, directions=dict.fromkeys(log.names, "max"))
    stopped = table[table["converged"]]
    assert stopped[["task", "step", "best_step", "best"]].to_numpy().tolist() == [
        [first["task"], first["step"], first["detail"]["best_step"], first["detail"]["best"]]
    ]


def test_what_cannot_be_asked_is_named() -> None:
    log = hand()
    by_task = analysis.convergence(log, patience={"a": 1, "b": np.int64(2), "c": 3})
    assert by_task["patience"].tolist() == [1, 2]  # c was never validated
    with pytest.raises(ValueError, match="patience needs a number for every task; missing: b"):
        analysis.convergence(log, patience={"a": 1, "c": 2})
    for wrong in (0, -1, True, 1.5, "3", [2, 0]):
        with pytest.raises(ValueError, match="patience counts validations, a whole number from 1"):
            analysis.convergence(log, patience=wrong)
    with pytest.raises(ValueError, match="min_delta must be a finite number from 0; for 'a' it is -1"):
        analysis.convergence(log, patience=1, min_delta=-1)
    with pytest.raises(FrameError, match="convergence needs a direction"):
        analysis.convergence(log.validations, patience=1)
    with pytest.raises(FrameError, match="missing: value"):
        analysis.convergence(log.validations.drop(columns="value"), patience=1)
    twice = filled(
        RunInfo("two", (TaskInfo("a", "m", "max"),)), [Validation(0, 0, "a", "m", 1.0), Validation(0, 0, "a", "k", 1.0)]
    )
    with pytest.raises(FrameError, match=r"one metric a task; a was measured by m, k\. Choose one"):
        analysis.convergence(twice, patience=1)
    assert analysis.convergence(filled(log.info, []), patience=2).empty
