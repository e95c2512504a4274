"""The command line, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import mtlviz as mv
from mtlviz.cli import app
from mtlviz.runlog import DamagedLogWarning

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


def test_compare_prints_a_table_and_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = (
        "compare",
        "digits",
        "-m",
        "equal,dwa",
        "--seeds",
        "1",
        "--steps",
        "8",
        "--jobs",
        "1",
        "--scale",
        "sum=9",
    )
    done = _mtlviz(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2/2" in done.stderr  # the progress bar
    out = tmp_path / "runs/compare"
    frame = pd.read_csv(out / "comparison.csv")
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    for line, method in zip(lines[2:], ("equal", "dwa"), strict=True):
        assert line.startswith(f"| {method} ")
        for value in frame[frame["method"] == method]["value"]:
            assert f"{value:.2f}" in line or f"{value:.3f}" in line
    assert lines == (out / "comparison.md").read_text().splitlines()[:4]
    assert (out / "comparison.tex").read_text().count(r"\\") == 4
    runs = [mv.RunLog.open(folder) for folder in sorted(out.glob("*-seed0-*"))]
    assert [run.info.config["scale"] for run in runs] == [{"sum": 9}] * 2
    before = {run: (run.path / "steps.000.arrows").stat().st_mtime_ns for run in runs if run.path}
    again = _mtlviz(*arguments, "--select", "best_per_task", "-b", "dwa", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "several models. Δ are against dwa." in again.stdout
    assert {run: (run.path / "steps.000.arrows").stat().st_mtime_ns for run in runs if run.path} == before
    assert "2 of 2 runs are finished and not trained again" in again.stdout + again.stderr
    fresh = _mtlviz(*arguments, "--fresh", cwd=tmp_path)
    assert fresh.returncode == 0, fresh.stderr
    after = {run: (run.path / "steps.000.arrows").stat().st_mtime_ns for run in runs if run.path}
    assert all(after[run] > before[run] for run in runs)


def test_compare_that_is_interrupted_keeps_what_is_finished(tmp_path: Path) -> None:
    arguments = ("compare", "digits", "-m", "equal", "--seeds", "99", "--steps", "40", "--jobs", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlviz", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    out = tmp_path / "runs/compare"
    while len(finished := _finished(out)) < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the workers too
    _, told = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "interrupted. Finished runs stay in runs/compare; the same command goes on there." in told
    assert set(finished) <= set(_finished(out))


def _finished(out: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedLogWarning)
        return [run.parent.name for run in out.glob("*/run.json") if mv.RunLog.open(run.parent).state == "finished"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--weighting", "mdga"), "unknown weighting 'mdga'; did you mean 'mgda'? choose one of equal"),
        (("demo", "--steps", "-3"), "steps must be a whole number from 1, got -3"),
        (("report", "nowhere"), "nowhere"),
        (("report", SAMPLE, "-o", "/proc/none/r.html"), "/proc/none/r.html"),
        (("compare", "digit"), "unknown problem 'digit'; did you mean 'digits'? choose one of digits"),
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


@pytest.mark.parametrize(("command", "default"), [("compare", "stl, else equal"), ("report", "RUN/report.html")])
def test_help_tells_the_defaults_in_words(command: str, default: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0
    assert f"[default: {default}" in " ".join(told.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "equal,mdga"), "unknown weighting 'mdga'; did you mean 'mgda'? choose one of stl, equal"),
        (("-m", "equal,equal"), "--methods names equal more than once"),
        (("-m", "equal", "-b", "dwa"), "the baseline 'dwa' is none of the methods"),
        (("-m", "equal", "--scale", "left:10"), "--scale needs task=factor, such as left=10"),
        (("-m", "equal", "--scale", "l=1"), "scale for unknown tasks ['l']"),
        (("-m", "equal", "--steps", "0"), "steps must be a whole number from 1, got 0"),
        (("-m", "equal", "--select", "best"), "select must be one of final"),
        (("-m", "equal", "--seeds", "0"), "seeds must be a whole number from 1, got 0"),
        (("-m", "equal", "--jobs", "0"), "jobs must be a number of processes"),
    ],
)
def test_what_is_wrong_with_a_comparison_is_told_before_it_begins(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["compare", "digits", *arguments])
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()
