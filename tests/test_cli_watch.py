"""`mtlviz watch`, as real processes: text in a terminal and without one, the page, and what is wrong in a line."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.watch.writer import command, writing

SAMPLE = Path(__file__).parents[1] / "data_samples" / "run_digits"


def _done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def test_once_prints_the_run_without_control_codes_or_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from mtlviz.cli import app\n"
        f"app(['watch', {str(SAMPLE)!r}, '--once'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'plotly.io._kaleido' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("digits · equal · finished · step 1,500 of 1,500")
    assert [line.split()[0] for line in lines[3:8]] == ["left", "right", "sum", "same", "larger"]
    assert max(map(len, lines)) <= 80


def test_text_without_a_terminal_follows_a_run_line_by_line_to_its_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with writing(run, steps=600, pause=0.005), command("watch", run, "--text", cwd=tmp_path) as watch:
        code, out, error = _done(watch)
    assert (code, error) == (0, "")
    assert "\x1b" not in out
    lines = out.splitlines()
    first = re.fullmatch(r"made · equal · running · step ([\d,]+) of 600.* · loss: left \S+, right \S+, .*", lines[0])
    assert first is not None
    assert int(first[1]) < 600
    assert any(line.startswith("made · equal · finished · step 600 of 600") for line in lines)
    assert out.count("<b>s</b>") >= 2  # in a line, and in the table at the end


def _read(terminal: int, until: str, seconds: float = 30) -> str:
    told, end = "", time.monotonic() + seconds
    while until not in told:
        assert time.monotonic() < end, f"waited {seconds} s for {until!r} in {told[-500:]!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            told += os.read(terminal, 65536).decode(errors="replace")
    return told


def test_text_in_a_terminal_is_redrawn_in_place_until_ctrl_c_and_leaves_its_last_view(tmp_path: Path) -> None:
    run = tmp_path / "run"
    master, slave = pty.openpty()
    options = {"stdin": slave, "stdout": slave, "stderr": slave}
    size = {"env": os.environ | {"COLUMNS": "60", "LINES": "20", "TERM": "xterm-256color"}}
    try:
        with (
            writing(run, steps=10_000, pause=0.005),
            command("watch", run, "--text", cwd=tmp_path, **options, **size) as watch,
        ):
            told = _read(master, "running")
            assert "\x1b[?1049h" in told  # the terminal's other screen
            told += _read(master, "steps/s")  # the second view knows the speed
            assert told.count("\x1b[H") >= 2
            watch.send_signal(signal.SIGINT)
            told += _read(master, "\x1b[?1049l")  # back
            left = told[told.rindex("\x1b[?1049l") :] + _read(master, "A wider terminal also")
            assert re.search(r"made · equal.*running", left)
            assert "Traceback" not in told + left
            assert watch.wait(20) == 0
    finally:
        os.close(master)
        os.close(slave)


def test_the_page_is_served_until_ctrl_c_and_its_run_may_come_later(tmp_path: Path) -> None:
    run = tmp_path / "later"
    with command("watch", run, "--no-browser", "--wait", cwd=tmp_path) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith(f"Waiting for a run in {run}")
        with writing(run, steps=10_000, pause=0.005):
            address = watch.stdout.readline().split(": ", 1)[1].strip()
            with urllib.request.urlopen(address, timeout=10) as reply:
                assert "<main></main>" in reply.read().decode()
            with urllib.request.urlopen(f"{address}news", timeout=20) as reply:
                assert b'"state":"running"' in reply.read()
            watch.send_signal(signal.SIGINT)
            code, _, error = _done(watch)
    assert (code, error) == (0, "")


def test_what_is_wrong_is_told_in_a_line_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases: dict[tuple[str | Path, ...], str] = {
            ("nowhere",): "There is no folder nowhere",
            ("empty", "--once"): "empty is no run: it has no run.json",
            (SAMPLE, "--no-browser", "--port", port): f"port {port} of 127.0.0.1 cannot be had",
        }
        for arguments, message in cases.items():
            with command("watch", *arguments, cwd=tmp_path) as watch:
                code, _, error = _done(watch)
            assert code == 1
            assert message in error
            assert len(error.splitlines()) == 1
