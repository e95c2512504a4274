"""Measures of pairs of tasks as a table, against a brute-force reading of the frame of measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlviz.runlog import Event, Measure, Record, RunInfo, RunLog, TaskInfo
from tests.runlog.runs import filled, step

NAMES = ("a", "b", "c")
INFO = RunInfo("pairs", tuple(TaskInfo(name, "accuracy", "max") for name in NAMES), layers=("fc",))


def measure(
    number: int, value: float, task: str | None = "a", other: str | None = "b", layer: str | None = None
) -> Measure:
    return Measure(number, "affinity", value, task, other, layer)


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """Steps with measures of some pairs, late and twice ones, of other names and of a layer, and rewinds between."""
    records: list[Record] = []
    position = 0
    some = st.sampled_from(NAMES)
    for number in range(1, draw(st.integers(0, 12)) + 1):
        position += 1
        records.append(step(number, position, tasks=3))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.sampled_from([number] * 6 + [max(1, number - 2), 0, 40]))
            name, layer = draw(st.sampled_from([("affinity", None)] * 6 + [("noise", None), ("affinity", "fc")]))
            value = draw(st.sampled_from([0.5, -1.0, np.nan, 2.0]))
            records.append(Measure(at, name, value, draw(st.none() | some), draw(some), layer))
        if draw(st.integers(0, 5)) == 0:
            back = draw(st.integers(0, position))
            records.append(Event(number, position, "rewind", None, {"to": back}))
            position = back
    return records


def brute_force(log: RunLog) -> dict[int, np.ndarray]:
    """step -> Z (T, T), one measure after the other."""
    found: dict[int, np.ndarray] = {}
    steps = set(log.recorded_steps.tolist())
    for row in log.measures.itertuples():
        if (
            row.name == "affinity"
            and row.step in steps
            and not any(map(pd.isna, (row.task, row.other)))
            and pd.isna(row.layer)
        ):
            Z = found.setdefault(row.step, np.full((3, 3), np.nan))
            Z[NAMES.index(row.task), NAMES.index(row.other)] = row.value
    return dict(sorted(found.items()))


@given(runs(), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 6))
def test_the_table_is_what_the_measures_say_however_often_it_was_asked_for(
    records: list[Record], calls: list[int], n: int
) -> None:
    log = RunLog.create(None, INFO)
    for begin, end in zip([0, *sorted(calls)], [*sorted(calls), len(records)], strict=True):
        filled(log, records[begin:end])
        steps, values = log.affinities
        expected = brute_force(log)
        assert steps.tolist() == list(expected)
        np.testing.assert_array_equal(values, np.array(list(expected.values())).reshape(-1, 3, 3))
        thin = log.thin(n, "affinity")
        pd.testing.assert_frame_equal(thin, log.snapshot().thin(n, "affinity"))
        gone = dict(zip(log.recorded_steps.tolist(), log.discarded.tolist(), strict=True))
        kept = np.array([Z for number, Z in expected.items() if not gone[number]]).reshape(-1, 3, 3)
        own = thin[~thin["discarded"]]
        summed = np.zeros((2, 3, 3))
        at = own["source"].cat.codes, own["target"].cat.codes
        np.add.at(summed[0], at, own["affinity_sum"])
        np.add.at(summed[1], at, own["affinity_count"])
        np.testing.assert_array_equal(summed, [np.nansum(kept, axis=0), np.isfinite(kept).sum(axis=0)])


def test_only_new_rows_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog.create(None, INFO)
    log.affinities  # noqa: B018 - makes the table
    seen: list[int] = []
    pivoted = log._affinity._pivoted
    monkeypatch.setattr(
        log._affinity, "_pivoted", lambda store, rows: seen.append(len(rows["step"])) or pivoted(store, rows)
    )
    for number in range(1, 51):
        filled(log, [step(number, tasks=3), measure(number, 0.5), Measure(number, "noise", 1.0)])
        log.thin(8, "affinity")
    assert sum(seen) == 50
    log.append(measure(50, 0.25, "b", "a"))  # the rest of a step that was read when it was half there
    assert log.affinities[1][-1][1, 0] == 0.25
    assert sum(seen) == 50 + 1 + 51
    assert log.thin(1, "affinity").query("source == 'b' and target == 'a'")["affinity_count"].tolist() == [1]


def test_a_resumed_run_leaves_out_what_it_supersedes(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "run", INFO)
    filled(log, [r for n in (1, 2, 3) for r in (step(n, tasks=3), measure(n, n / 8))])
    reader = RunLog.open(tmp_path / "run")
    log.close()
    assert reader.affinities[0].tolist() == [1, 2, 3]
    with RunLog.resume(tmp_path / "run", first_step=3) as again:
        filled(again, [step(3, tasks=3), measure(3, -0.5)])
        again.flush()
        for one in (again, reader):
            steps, values = one.affinities
            assert steps.tolist() == [1, 2, 3]
            assert values[:, 0, 1].tolist() == [0.125, 0.25, -0.5]
            assert one.thin(1, "affinity")["affinity_sum"].tolist()[1] == -0.125


def test_a_measure_waits_for_its_step() -> None:
    log = filled(RunLog.create(None, INFO), [step(1, tasks=3), measure(2, 0.5), measure(1, 0.25)])
    assert log.affinities[0].tolist() == [1]
    log.append(step(2, tasks=3))
    assert log.affinities[0].tolist() == [1, 2]
