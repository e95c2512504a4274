"""Who writes a run folder: a file lock that ends with the writing process, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from mtlviz.errors import RunLogError

try:
    import fcntl
except ImportError:  # Windows has no such locks: run folders are read there, not written
    fcntl = None  # type: ignore[assignment]

NAME = "run.lock"
_TRIES, _PAUSE = 20, 0.005  # a reader that looks holds a shared lock for some microseconds


class WriterLock:
    """The exclusive right to write a folder, held until `release` or the end of the process.

    Raises:
        RunLogError: where another log writes the folder.
    """

    def __init__(self, folder: Path) -> None:
        if fcntl is None:
            raise RunLogError(
                "Run folders are written on Linux and macOS, where a file lock keeps a second writer out. Keep the log "
                "in memory, RunLog.create(None, ...), and save it with log.to_parquet(folder)."
            )
        self._path = folder / NAME
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        if not _locked(self._file, exclusive=True, tries=_TRIES):
            os.close(self._file)
            holder = _content(self._path)
            who = "this process" if holder.get("pid") == os.getpid() else f"process {holder.get('pid', 'unknown')}"
            raise RunLogError(
                f"{folder} is being written by another log ({who} on {holder.get('host', 'an unknown host')}). "
                "Close that log first (log.close()), read the run with RunLog.open, or choose another folder."
            )
        try:
            self._write({"pid": os.getpid(), "host": socket.gethostname()})
        except OSError:
            os.close(self._file)
            raise

    def release(self, state: str) -> None:
        """Give the lock back and leave the run's final `state` for readers."""
        try:
            self._write({"pid": os.getpid(), "host": socket.gethostname(), "closed": state})
        finally:
            with contextlib.suppress(OSError):  # closing gives it back too, unless a forked child shares the file
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)

    def _write(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)


def writing(folder: Path) -> bool:
    """Whether a live process holds the folder's lock."""
    if fcntl is None:
        return False
    try:
        file = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        if _locked(file, exclusive=False, tries=1):
            return False
    finally:
        os.close(file)
    # Children that the writer forked (data loaders) share its lock and may outlive it for a while.
    holder = _content(folder / NAME)
    pid = holder.get("pid")
    return holder.get("host") != socket.gethostname() or not isinstance(pid, int) or _alive(pid)


def closed_state(folder: Path) -> str | None:
    """The state that the last writer left when it closed the log; None where it did not come to that."""
    state = _content(folder / NAME).get("closed")
    return state if isinstance(state, str) else None


def _locked(file: int, *, exclusive: bool, tries: int) -> bool:
    for trial in range(tries):
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE if trial < tries - 1 else 0)
        except OSError:  # a file system without locks: a writer goes on, a reader trusts the process id
            return exclusive
        else:
            return True
    return False


def _content(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
