"""Runs a script of these tests on several processes by torchrun, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

LIMIT = 240  # seconds; a run takes some ten on two idle cores


def torchrun(module: str, *arguments: object, ranks: int = 2, fails: bool = False) -> str:
    """What a module printed that ran on so many ranks; a run that takes too long is ended with all its processes."""
    own = [f"--nproc-per-node={ranks}", "--standalone", "-m", f"tests.distributed.{module}", *map(str, arguments)]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *own],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,  # so that its processes, and no others, can be ended together
    )
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert (process.returncode != 0) == fails, said
    return said
