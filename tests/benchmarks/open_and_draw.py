"""Prints how long a fresh process takes to open a long log on disk and to build every figure of the dashboard.

Run as `python -m tests.benchmarks.open_and_draw [steps]`. The goal: 3 s for 100 000 steps of five tasks, without torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mtlviz.runlog import RunInfo, RunLog, Step, TaskInfo, Validation

STEPS = 100_000
TASKS = 5
LAYERS = 4
FRESH = """
import json, sys, time
begin = time.perf_counter()
import mtlviz as mv
from mtlviz import analysis, figures
from mtlviz.report import FIGURES
imported = time.perf_counter()
log = mv.RunLog.open(sys.argv[1])
opened = time.perf_counter()
parts = {}
for name, figure in FIGURES.items():
    start = time.perf_counter()
    figure(log)
    parts[name] = time.perf_counter() - start
drawn = time.perf_counter()
again = {}
for name in FIGURES:
    frame = getattr(analysis, name)(log)
    start = time.perf_counter()
    getattr(figures, name)(frame)
    again[name] = time.perf_counter() - start
print(json.dumps({"import": imported - begin, "open": opened - imported, "figures": parts, "all": drawn - begin,
                  "again": again, "torch": "torch" in sys.modules, "steps": len(log)}))
"""


def write(path: Path, count: int) -> None:
    """A log of `count` steps, layers every 50 and a validation every 500."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(64, LAYERS, TASKS, 8))
    layers = parts @ parts.transpose(0, 1, 3, 2)
    losses, phases = rng.random((64, TASKS)) + 0.1, ("supervised",) * TASKS
    tasks = tuple(TaskInfo(f"task {i}", "accuracy", "max") for i in range(TASKS))
    info = RunInfo("benchmark", tasks, tuple(f"layer {i}" for i in range(LAYERS)))
    weights, samples = np.full(TASKS, 0.2), np.full(TASKS, 32)
    with RunLog.create(path, info) as log:
        for n in range(1, count + 1):
            k, every = n % 64, layers[n % 64] if n % 50 == 0 else None
            log.append(Step(n, n, n * 0.01, losses[k], weights, layers[k].sum(axis=0), samples, 0.1, phases, every))
            if n % 500 == 0:
                for task in tasks:
                    log.append(Validation(n, n, task.name, task.metric, 1 - 1 / n))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        write(path, count)
        for attempt in ("first", "second"):
            run = subprocess.run([sys.executable, "-c", FRESH, str(path)], check=True, capture_output=True, text=True)
            took = json.loads(run.stdout)
            slowest = ", ".join(
                f"{name} {s:.2f}" for name, s in sorted(took["figures"].items(), key=lambda part: -part[1])[:4]
            )
            print(
                f"{attempt} process, {took['steps']} steps × {TASKS} tasks: {took['all']:.2f} s in all (goal 3.0); "
                f"import {took['import']:.2f}, open {took['open']:.2f}, figures {sum(took['figures'].values()):.2f} "
                f"({slowest}); torch imported: {took['torch']}"
            )
        slow = ", ".join(f"{name} {1000 * s:.1f}" for name, s in took["again"].items())
        print(f"building one figure from its frame, ms (goal 15): {slow}")


if __name__ == "__main__":
    main()
