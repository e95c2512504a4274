"""The timeline: its stretches say of every update what the steps say, and its marks what the events say."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings

from mtlviz import analysis
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.analysis.scheduled import scheduled_run
from tests.strategies import scheduled_streams, streams

CLOCKS = ["step_first", "step_last", "position_first", "position_last"]


def of(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    return frame[frame["kind"] == kind]


def unrolled(frame: pd.DataFrame, log: RunLog) -> pd.DataFrame:
    """The stretches as a row per recorded step and task, in the log's order."""
    steps = log.recorded_steps
    parts = []
    for row in of(frame, "stretch").itertuples():
        inside = steps[(steps >= row.step_first) & (steps <= row.step_last)]
        parts.append(pd.DataFrame({"step": inside, "task": row.task, "phase": row.phase, "discarded": row.discarded}))
    return pd.concat(parts, ignore_index=True).sort_values("step", kind="stable").reset_index(drop=True)


def assert_says_the_same(log: RunLog) -> None:
    frame = analysis.timeline(log)
    for task in of(frame, "stretch")["task"].unique():
        own, steps = of(frame, "stretch")[of(frame, "stretch")["task"] == task], log.steps[log.steps["task"] == task]
        again = unrolled(own, log)
        assert again["step"].tolist() == steps["step"].tolist()
        assert again["phase"].tolist() == steps["phase"].tolist()
        assert again["discarded"].tolist() == steps["discarded"].tolist()
        position = steps.set_index("step")["position"]
        assert own["position_first"].tolist() == position[own["step_first"]].tolist()
        assert own["position_last"].tolist() == position[own["step_last"]].tolist()
        for one, two in zip(own[:-1].itertuples(), own[1:].itertuples(), strict=True):  # no stretch could be longer
            back = two.position_first <= one.position_last
            assert one.phase != two.phase or one.discarded != two.discarded or back


@given(stream=scheduled_streams())
@settings(max_examples=40, deadline=None)
def test_stretches_say_what_the_steps_say_and_marks_what_the_events_say(stream: tuple) -> None:
    log = filled(*stream)
    assert_says_the_same(log)
    frame, events = analysis.timeline(log), log.events
    converged = events[events["kind"] == "convergence"].sort_values("task", kind="stable")
    marks = of(frame, "convergence")
    assert marks["task"].tolist() == converged["task"].tolist()
    assert marks["step_last"].tolist() == converged["step"].tolist()
    assert marks["position_last"].tolist() == converged["position"].tolist()
    for name in ("step", "position"):
        assert marks[f"{name}_first"].tolist() == [detail[f"best_{name}"] for detail in converged["detail"]]
    assert marks["value"].tolist() == [detail["best"] for detail in converged["detail"]]
    back = of(frame, "rewind")
    assert sorted(back["task"]) == sorted(converged["task"])  # each task goes back once
    assert set(back["step_last"]) == set(events[events["kind"] == "rewind"]["step"])
    assert (back["position_last"] - back["position_first"]).sum() == (
        marks["position_last"] - marks["position_first"]
    ).sum()
    added = events[events["kind"] == "task_added"]
    assert sorted(of(frame, "added")["step_last"]) == added["step"].tolist()


@given(stream=streams())
@settings(max_examples=40, deadline=None)
def test_the_timeline_of_any_log(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.timeline(log)
    assert (of(frame, "stretch").empty) == (len(log) == 0)
    if len(log):
        assert_says_the_same(log)


def test_a_run_by_hand() -> None:
    log = scheduled_run(("a", "b"), patience=1, every=10)
    frame = analysis.timeline(log)
    first = frame[frame["task"] == "a"]
    assert first[["kind", "phase", "discarded"]].iloc[:3].to_numpy().tolist() == [
        ["stretch", "supervised", False],
        ["stretch", "supervised", True],
        ["stretch", "distilled", False],
    ]
    assert first[CLOCKS].iloc[:2].to_numpy().tolist() == [[1, 30, 1, 30], [31, 40, 31, 40]]
    assert of(first, "convergence")[CLOCKS].to_numpy().tolist() == [[30, 40, 30, 40]]
    assert of(first, "rewind")[CLOCKS].to_numpy().tolist() == [[30, 40, 30, 40]]


def test_a_task_is_added_at_a_moment_and_at_the_position_that_was_gone_back_to() -> None:
    frame = analysis.timeline(scheduled_run(("a", "b"), patience=1, every=10, order=("a", "b")))
    added, back = of(frame, "added"), of(frame, "rewind")
    assert added["task"].tolist() == ["a", "b"]
    step, position = back["step_last"].iloc[0], back["position_first"].iloc[0]
    assert position < step
    assert added[CLOCKS].to_numpy().tolist() == [[0, 0, 0, 0], [step, step, position, position]]


def test_a_rewind_that_names_no_task_is_kept_and_finds_its_checkpoint() -> None:
    frame = analysis.timeline(rewound())
    back = of(frame, "rewind")
    assert back["task"].isna().tolist() == [True]
    assert back[CLOCKS].to_numpy().tolist() == [[2, 4, 2, 4]]
    assert of(frame, "stretch")["discarded"].tolist() == [False, True, False] * 3


def test_a_plain_run_has_one_stretch_a_task_and_a_timeline_does_not_grow_with_its_steps() -> None:
    assert analysis.timeline(hand())[["task", "phase", "step_first", "step_last"]].to_numpy().tolist() == [
        [name, "supervised", 1, 3] for name in "abc"
    ]
    assert len(analysis.timeline(long_run(3000, layers=False))) == 5 * 3 + 1  # a rewind splits each task's in three
    empty = analysis.timeline(filled(hand().info, []))
    assert empty.empty
    assert list(empty.columns[:3]) == ["task", "kind", "phase"]
    with pytest.raises(FrameError, match="timeline needs a RunLog, because it draws on the steps and on the events"):
        analysis.timeline(hand().steps)


def test_validations_say_the_phase_before_them_and_what_was_kept() -> None:
    log = scheduled_run()
    frame = analysis.validations(log)
    steps = log.steps.set_index(["step", "task"])["phase"]
    told = frame[frame["step"] > 0]
    expected = [steps[step, task] for step, task in zip(told["step"], told["task"], strict=True)]
    assert told["phase"].tolist() == expected
    assert frame[frame["step"] == 0]["phase"].isna().all()
    kept = frame[frame["decided"].notna()]
    events = log.events[log.events["kind"] == "convergence"]
    assert kept[["task", "step", "decided", "value"]].to_numpy().tolist() == [
        [row.task, row.detail["best_step"], row.step, row.detail["best"]] for row in events.itertuples()
    ]
    few = analysis.validations(scheduled_run(every=1), n=5)  # thinned, but not what a convergence is drawn from
    assert few["decided"].notna().sum() == 3
    assert set(few["decided"].dropna()) <= set(few["step"])
    assert "decided" not in analysis.validations(hand())


def test_the_tables_tell_of_convergence() -> None:
    log = scheduled_run()
    table = analysis.task_table(log).set_index("task")
    assert table["converged"].tolist() == [300, 550, 800]
    assert table["phase"].tolist() == ["distilled", "distilled", "supervised"]
    assert table["monitored_on"].tolist() == ["validation"] * 3
    summary = analysis.run_summary(log).iloc[0]
    assert (summary["schedule"], summary["converged"], summary["discarded"]) == ("joint", 3, 450)
    log.info.config["monitored_on"] = {"kind": "test"}  # type: ignore[index]
    assert analysis.task_table(log)["monitored_on"].tolist() == ["validation", "test", "validation"]
    plain = analysis.task_table(hand())
    assert plain["converged"].isna().all()
    assert analysis.run_summary(hand())[["schedule", "converged"]].to_numpy().tolist() == [["", 0]]
