"""Summaries in buckets against a brute-force grouping of the full frames."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz import errors
from mtlviz.runlog import Event, RunLog
from tests.runlog.runs import INFO, filled, info, step, story
from tests.strategies import streams

KEYS = {"steps": ["task"], "pairs": ["task_a", "task_b"], "layers": ["layer", "task_a", "task_b"], "totals": []}
QUANTITIES = {
    "steps": ["loss", "weight", "grad_norm", "relative_rate", "share", "samples"],
    "pairs": ["cosine", "conflict"],
    "layers": ["cosine", "conflict"],
    "totals": ["rate_variance", "conflict_rate", "update_norm", "learning_rate"],
}


def full(log: RunLog, table: str) -> pd.DataFrame:
    """The quantities of every row, with keys and clocks."""
    frame = getattr(log, table)
    if table == "steps":
        frame = frame.assign(share=log.shares.ravel())
    return frame.assign(**{q: frame[q].astype(float) for q in QUANTITIES[table]})


def bucket_of(frame: pd.DataFrame, n: int) -> dict[int, int]:
    """step -> bucket, one row at a time, as the docstring of the summary tells it."""
    clocks = frame.drop_duplicates("step")[["step", "position", "discarded"]].to_numpy().tolist()
    stretches: list[list[int]] = []
    for index, (number, position, discarded) in enumerate(clocks):
        if index == 0 or discarded != clocks[index - 1][2] or position < clocks[index - 1][1]:
            stretches.append([])
        stretches[-1].append(number)
    width = 1
    while width < len(clocks) and sum(-(-len(s) // width) for s in stretches) > n:
        width *= 2
    buckets: dict[int, int] = {}
    bucket = -1
    for stretch in stretches:
        for index, number in enumerate(stretch):
            bucket += index % width == 0
            buckets[number] = bucket
    return buckets


def brute_force(log: RunLog, table: str, n: int) -> pd.DataFrame:
    frame = full(log, table)
    buckets = bucket_of(frame, n)
    times = log.totals.set_index("step")["time"]
    rows = []
    keys = KEYS[table]
    for key, part in frame.assign(bucket=frame["step"].map(buckets)).groupby(["bucket", *keys], observed=True):
        row = dict(zip(keys, key[1:], strict=True))
        row |= {"step_first": part["step"].iloc[0], "step_last": part["step"].iloc[-1]}
        row |= {"position_first": part["position"].iloc[0], "position_last": part["position"].iloc[-1]}
        row |= {"time_last": times[part["step"].iloc[-1]], "discarded": part["discarded"].iloc[0]}
        for q in QUANTITIES[table]:
            values = [v for v in part[q] if np.isfinite(v)]
            row |= dict.fromkeys([f"{q}_first", f"{q}_last", f"{q}_min", f"{q}_max"], np.nan)
            if values:
                row |= {f"{q}_first": values[0], f"{q}_last": values[-1]}
                row |= {f"{q}_min": min(values), f"{q}_max": max(values)}
            row |= {f"{q}_sum": sum(values), f"{q}_count": len(values)}
        rows.append(row)
    return pd.DataFrame(rows)


def assert_is_brute_force(log: RunLog, table: str, n: int) -> None:
    thin, expected = log.thin(n=n, table=table), brute_force(log, table, n)
    if expected.empty:
        assert thin.empty
        return
    assert list(thin.columns) == list(expected.columns)
    for column in expected:
        if column.endswith("_sum"):
            scale = np.abs(expected[[column[:-3] + "min", column[:-3] + "max"]]).max(axis=1).fillna(0).to_numpy()
            count = expected[column[:-3] + "count"].to_numpy()
            error = np.abs(thin[column].to_numpy() - expected[column].to_numpy())
            assert (error <= 1e-12 * scale * np.maximum(count, 1)).all(), column
        else:
            np.testing.assert_array_equal(thin[column].to_numpy(), expected[column].to_numpy(), err_msg=column)


@settings(max_examples=40)
@given(streams(most=60), st.integers(1, 9), st.lists(st.integers(0, 60), max_size=3), st.data())
def test_thin_is_a_brute_force_grouping(stream: tuple, n: int, calls: list[int], data: st.DataObject) -> None:
    run, records = stream
    table = data.draw(st.sampled_from(sorted(KEYS)))
    log = RunLog.create(None, run)
    for begin, end in zip([0, *sorted(calls)], [*sorted(calls), len(records)], strict=True):
        filled(log, records[begin:end])
        assert_is_brute_force(log, table, n)


@pytest.mark.parametrize("table", sorted(KEYS))
def test_columns_come_key_first(table: str) -> None:
    log = filled(RunLog.create(None, INFO), story(40))
    frame = log.thin(10, table)
    clocks = ["step_first", "step_last", "position_first", "position_last", "time_last", "discarded"]
    statistics = ("first", "last", "min", "max", "sum", "count")
    assert list(frame.columns) == [*KEYS[table], *clocks, *(f"{q}_{s}" for q in QUANTITIES[table] for s in statistics)]
    for key in KEYS[table]:
        assert frame[key].cat.ordered


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_between_half_of_n_and_n_buckets(n: int) -> None:
    log = RunLog.create(None, INFO)
    for number in range(1, 301):
        log.append(step(number))
        buckets = len(log.thin(n=n, table="totals"))
        assert buckets <= n
        assert buckets >= min(number, n / 2)


def test_only_new_rows_are_derived_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtlviz.runlog import summary

    seen: list[int] = []
    kind = summary.KINDS["pairs"]
    values = kind.values
    monkeypatch.setattr(kind, "values", lambda store, rows: seen.append(rows.stop - rows.start) or values(store, rows))
    log = filled(RunLog.create(None, INFO), [step(i) for i in range(1, 101)])
    log.thin(n=8, table="pairs")
    log.thin(n=8, table="pairs")
    assert sum(seen) == 100
    filled(log, [step(i) for i in range(101, 108)])
    log.thin(n=8, table="pairs")
    assert sum(seen) == 107
    log.append(Event(107, 50, "rewind", None, {"to": 50}))
    log.thin(n=8, table="pairs")
    assert sum(seen) == 107 + 107  # the one rebuild, with borders where the discarded stretch begins and ends
    log.append(step(108, 51))
    assert log.thin(n=8, table="pairs")["discarded"].any()
    assert sum(seen) == 107 + 107 + 1


def test_long_runs_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtlviz.runlog import summary

    records = story(60)
    whole = filled(RunLog.create(None, INFO), records)
    parts = filled(RunLog.create(None, INFO), records)
    expected = {table: whole.thin(n=9, table=table) for table in KEYS}
    monkeypatch.setattr(summary, "_CHUNK", 30)
    for table, frame in expected.items():
        pd.testing.assert_frame_equal(parts.thin(n=9, table=table), frame, rtol=1e-12)


def test_wide_tables_have_fewer_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtlviz.runlog import summary

    monkeypatch.setattr(summary, "_LARGEST", 1000)
    log = filled(RunLog.create(None, info(8)), [step(i, tasks=8) for i in range(1, 100)])
    assert len(log.thin(n=2000, table="pairs")) <= 1000
    assert len(log.thin(n=2000, table="totals")) == 99


def test_infinite_values_do_not_count() -> None:
    log = RunLog.create(None, INFO)
    for number in range(1, 5):
        record = step(number)
        record.losses[0] = np.inf if number > 2 else number
        log.append(record)
    row = log.thin(n=1, table="steps").iloc[0]
    assert (row["loss_first"], row["loss_last"], row["loss_max"], row["loss_sum"], row["loss_count"]) == (1, 2, 2, 3, 2)


@pytest.mark.parametrize(("n", "table"), [(0, "steps"), (10, "events"), (10, "losses")])
def test_bad_requests_say_what_there_is(n: int, table: str) -> None:
    with pytest.raises(errors.RunLogError, match="steps, pairs, layers, totals"):
        RunLog.create(None, INFO).thin(n=n, table=table)
