"""Prints what the run log costs: µs a row to append, seconds to open, read, summarise and import.

Run as `python -m tests.benchmarks.log`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtlviz.runlog import RunInfo, RunLog, Step, TaskInfo

STEPS = 200_000
REPEATS = 5


def run_info(tasks: int) -> RunInfo:
    return RunInfo("benchmark", tuple(TaskInfo(f"task {i}", "accuracy", "max") for i in range(tasks)))


def steps(count: int, tasks: int) -> list[Step]:
    rng = np.random.default_rng(0)
    J = rng.normal(size=(tasks, 64))
    gramian, losses, weights = J @ J.T, rng.random(tasks), np.ones(tasks)
    samples, phases = np.full(tasks, 32), ("supervised",) * tasks
    return [Step(i, i, i * 0.01, losses, weights, gramian, samples, 0.1, phases) for i in range(1, count + 1)]


def seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def to_log(records: list[Step], path: Path | None) -> None:
    with RunLog.create(path, run_info(len(records[0].losses)), overwrite=True) as log:
        for record in records:
            log.append(record)


def to_numpy(records: list[Step]) -> None:
    """The least that keeps a row: flat numbers into a growing array."""
    T = len(records[0].losses)
    upper, width = np.ravel_multi_index(np.triu_indices(T), (T, T)), 4 + 3 * T + T * (T + 1) // 2
    rows = np.empty((64, width))
    for index, record in enumerate(records):
        if index == len(rows):
            rows = np.concatenate([rows, np.empty_like(rows)])
        row = rows[index]
        row[0], row[1], row[2], row[3] = record.step, record.position, record.time, record.learning_rate
        row[4 : 4 + T], row[4 + T : 4 + 2 * T] = record.losses, record.weights
        row[4 + 2 * T : 4 + 3 * T] = record.samples
        row[4 + 3 * T :] = record.gramian.take(upper)


def to_json_lines(records: list[Step], path: Path) -> None:
    upper = np.triu_indices(len(records[0].losses))
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            row = {
                "step": record.step,
                "position": record.position,
                "time": record.time,
                "learning_rate": record.learning_rate,
                "losses": record.losses.tolist(),
                "weights": record.weights.tolist(),
                "gramian": record.gramian[upper].tolist(),
                "samples": record.samples.tolist(),
                "phases": record.phases,
            }
            file.write(json.dumps(row) + "\n")


def appending(folder: Path) -> None:
    print("append, µs a row, all rows on disk (medians of interleaved repeats)")
    print(f"{'':18}{'mtlviz':>8}{'memory':>8}{'numpy':>8}{'JSONL':>8}{'÷ numpy':>9}{'÷ JSONL':>9}{'record':>9}")
    for tasks, count in ((5, 40_000), (20, 10_000), (40, 4_000)):
        records = steps(count, tasks)
        kinds: dict[str, Callable[[], object]] = {
            "log": lambda records=records: to_log(records, folder / "append"),
            "memory": lambda records=records: to_log(records, None),
            "numpy": lambda records=records: to_numpy(records),
            "json": lambda records=records: to_json_lines(records, folder / "rows.jsonl"),
            "record": lambda count=count, tasks=tasks: steps(count, tasks),
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(REPEATS):
            for name, act in kinds.items():
                times[name].append(seconds(act) / count * 1e6)
        us = {name: statistics.median(values) for name, values in times.items()}
        print(
            f"T={tasks:<16}{us['log']:8.2f}{us['memory']:8.2f}{us['numpy']:8.2f}{us['json']:8.1f}"
            f"{us['log'] / us['numpy']:9.2f}{us['log'] / us['json']:9.3f}{us['record']:9.2f}"
        )
    print("(record: making the Step object itself, beside appending it)\n")


def reading(folder: Path) -> None:
    path = folder / "read"
    to_log(steps(STEPS, 5), path)
    print(f"read {STEPS} steps × 5 tasks ({sum(f.stat().st_size for f in path.iterdir()) / 1e6:.0f} MB), seconds")
    RunLog.open(path).steps  # noqa: B018 - imports pandas
    opening, frames = [], []
    for _ in range(REPEATS):
        opening.append(seconds(lambda: RunLog.open(path)))
        log = RunLog.open(path)
        frames.append(seconds(lambda log=log: log.steps))
    print(f"open {statistics.median(opening):.3f}   1e6 rows of log.steps {statistics.median(frames):.3f}")
    print(f"again, nothing new {seconds(lambda: log.steps):.5f}   log.pairs {seconds(lambda: log.pairs):.3f}")
    print(f"log.gramians {seconds(lambda: log.gramians):.3f}")
    small = folder / "small"
    with RunLog.create(small, run_info(5)) as many:
        for index, record in enumerate(steps(20_000, 5)):
            many.append(record)
            if index % 10 == 9:
                many.flush()
    print(f"open 20000 steps in batches of 10 rows {seconds(lambda: RunLog.open(small)):.3f}\n")


def thinning(log: RunLog) -> dict[str, float]:
    return {table: seconds(lambda table=table: log.thin(2000, table)) for table in ("steps", "pairs", "totals")}


def summarising() -> None:
    print("log.thin(2000), milliseconds: the first call, then after 50 new rows")
    for tasks, count in ((5, 20_000), (5, 200_000), (40, 10_000)):
        records = steps(count + 50, tasks)
        log = RunLog.create(None, run_info(tasks))
        for record in records[:count]:
            log.append(record)
        first = thinning(log)
        for record in records[count:]:
            log.append(record)
        again = thinning(log)
        cells = "   ".join(f"{table} {first[table] * 1e3:7.1f} {again[table] * 1e3:6.2f}" for table in first)
        print(f"T={tasks:<3} S={count:<8}{cells}")
    print()


def importing() -> None:
    print("import in a fresh process, seconds")
    for name in ("numpy", "pyarrow", "mtlviz.runlog", "pandas"):
        code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
        took = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
        print(f"{name:16}{min(took):.3f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        appending(Path(place))
        reading(Path(place))
    summarising()
    importing()
