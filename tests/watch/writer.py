"""A process that writes a run as a trainer does, slowly: python writer.py FOLDER STEPS SECONDS_A_STEP [fail]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def writing(path: Path, *, steps: int, pause: float, fail: bool = False) -> Iterator[subprocess.Popen[str]]:
    """The process, writing; it is ended by its id."""
    command = [sys.executable, __file__, str(path), str(steps), str(pause), *(["fail"] if fail else [])]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "writing"
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@contextmanager
def command(*arguments: str | Path, cwd: Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """`python -m mtlviz` with these arguments, deaf to no Ctrl-C; it is ended by its id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlviz", *map(str, arguments)],
        cwd=cwd, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def main(path: str, steps: str, pause: str, *how: str) -> None:
    """Writes the run."""
    from mtlviz.runlog import Event, RunLog, Step
    from tests.analysis.runs import made

    info, records = made(int(steps), names=["left", "right", "<b>s</b>", "same"])
    log = RunLog.create(path, info)
    for count, record in enumerate(records):
        log.append(record)
        if count == 5:
            log.flush()
            print("writing", flush=True)
        if isinstance(record, Step):
            time.sleep(float(pause))
    end = {"type": "ValueError", "message": "<i>planted</i>", "traceback": "Traceback: planted"} if how else {}
    log.append(Event(int(steps), log.last_step, "error" if how else "finish", None, end))
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
