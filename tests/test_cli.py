"""The command line, as real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mtlviz as mv

SAMPLE = Path(__file__).parents[1] / "data_samples" / "run_digits"


def _mtlviz(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtlviz", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_demo_trains_prints_the_tasks_and_writes_run_and_report(tmp_path: Path) -> None:
    done = _mtlviz("demo", "--steps", "60", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    log = mv.RunLog.open(tmp_path / "runs/demo")
    assert log.state == "finished"
    assert len(log) == 60
    table = mv.analysis.task_table(log)
    lines = done.stdout.splitlines()
    for row in table.itertuples():
        (line,) = [line for line in lines if line.startswith(f"{row.task} ")]
        for value in (f"{row.final:.1f}", f"{100 * row.share:.0f} %", f"{100 * row.conflict_rate:.0f} %"):
            assert value in line
    assert "60/60" in done.stderr  # the progress bar
    assert "make lab" in done.stdout
    page = (tmp_path / "runs/demo/report.html").read_text()
    assert "Which task moves the trunk?" in page
    again = _mtlviz("demo", "--steps", "5", "--weighting", "mgda", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(mv.RunLog.open(tmp_path / "runs/demo")) == 5


def test_report_of_a_stored_run_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    done = _mtlviz("report", SAMPLE, "-o", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "Which task moves the trunk?" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--weighting", "mdga"), "unknown weighting 'mdga'; choose one of equal"),
        (("demo", "--steps", "-3"), "steps must be a whole number from 1, got -3"),
        (("report", "nowhere"), "nowhere"),
        (("report", SAMPLE, "-o", "/proc/none/r.html"), "/proc/none/r.html"),
        (("lab",), "01_watch_a_run.ipynb is not here"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_without_traceback(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = _mtlviz(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
