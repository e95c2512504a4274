"""Long runs: what a step and a tick of the dashboard keep must not add up."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

import mtlviz as mv
from tests.problems import crossing

ROW = 8 * (3 + 3 + 6 + 3) + 64  # bytes of a step of three tasks in the log, generously


@pytest.mark.soak
def test_memory_of_a_long_watched_run_grows_by_its_log_alone(tmp_path: Path) -> None:
    steps = 40_000
    run = mv.start(crossing(missing=0.3), weighting="mgda", steps=steps, log=tmp_path / "run", validate_every=500)
    dashboard = mv.dashboard(run)
    troubles: list[str] = []  # a later refresh that succeeds would hide them
    dashboard.trouble.observe(lambda change: troubles.append(change["new"]), "value")
    process, sizes = psutil.Process(), []
    while not run.join(0.5):
        dashboard.tab.selected_index = len(sizes) % 3
        sizes.append((run.step, process.memory_info().rss))
    dashboard.close()
    run.wait()
    (early, before), (late, after) = next(size for size in sizes if size[0] > steps / 4), sizes[-1]
    allowed = 3 * ROW * (late - early) + 40e6  # the columns double when they grow; figures and summaries are bounded
    assert after - before < allowed
    assert not dashboard.trouble.value
    assert not troubles


@pytest.mark.soak
def test_many_runs_leave_no_thread_behind() -> None:
    problem = crossing()
    mv.start(problem, steps=2).wait()
    before = psutil.Process().num_threads()
    for _ in range(60):
        run = mv.start(problem, steps=20)
        dashboard = mv.dashboard(run)
        run.wait(30)
        dashboard.close()
    time.sleep(1.5)  # flush timers
    assert psutil.Process().num_threads() <= before + 2
