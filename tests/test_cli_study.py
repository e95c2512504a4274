"""The study of asynchronous convergence on the command line, as a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd


def _study(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtlviz", "study", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_study_prints_who_gains_and_who_keeps_and_trains_nothing_twice(tmp_path: Path) -> None:
    asked = ["digits", "-m", "uniform (final), uniform (best),joint", "--seeds", "1", "--steps", "12", "-j", "1"]
    asked += ["--patience", "1", "--validate-every", "4", "--lr", "0.01"]
    done = _study(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2/2" in done.stderr  # the progress bar
    out = tmp_path / "runs/study"
    frame = pd.read_csv(out / "study.csv")
    assert list(frame["method"].unique()) == ["uniform (final)", "uniform (best)", "joint"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:5]] == list(frame["method"].unique())
    steps = int(frame.loc[frame["method"] == "joint", "train_steps"].max())
    assert all(line.split("|")[2].strip() == str(steps) for line in lines[2:5])
    assert lines[5].startswith("| lost from best to final |")
    assert [line.split("|")[1].strip() for line in lines[7:]] == ["uniform (final)", "joint"]
    assert "converged tasks in joint and sequential runs" in done.stdout
    written = (out / "study.md").read_text()
    assert all(line in written for line in lines)
    assert (out / "study.tex").read_text().count(r"\\") == 5
    assert len(pd.read_csv(out / "drops.csv")) == 10
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    again = _study(*asked, "--on", "validation", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "on the validation split" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")} == before


def test_study_says_what_it_does_not_know(tmp_path: Path) -> None:
    for asked, said in (
        (["digit"], "unknown problem 'digit'; did you mean 'digits'"),
        (["digits", "-m", "jointt"], "unknown method 'jointt'; did you mean 'joint'"),
    ):
        done = _study(*asked, cwd=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
