"""The run log: what training appends to, and what everything else reads, live or from disk."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mtlviz.errors import RunLogError
from mtlviz.runlog import arguments
from mtlviz.runlog import folder as run_folder
from mtlviz.runlog.arguments import Described
from mtlviz.runlog.history import History
from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.lock import WriterLock, closed_state, writing
from mtlviz.runlog.reader import Reader
from mtlviz.runlog.records import Record
from mtlviz.runlog.rows import Rows
from mtlviz.runlog.store import Store
from mtlviz.runlog.writer import Writer

_STATES = {
    "start": "running",
    "resume": "running",
    "pause": "paused",
    "stop": "stopped",
    "finish": "finished",
    "error": "failed",
    "nonfinite": "failed",
}
_LIVE = ("running", "paused")


class RunLog(History):
    """The recorded history of one run.

    Make one with `RunLog.create` (a new run), `RunLog.open` (to read, also while another process writes) or
    `RunLog.resume` (to go on). Appending and reading may happen in different threads. A log that is read follows the
    run: each property first takes in what was flushed since. For several arrays of the same moment of a live run,
    take them from one `snapshot()`.
    """

    def __init__(self, store: Store, *, path: Path | None) -> None:
        super().__init__(store)
        self.path = path
        self._lock = threading.Lock()
        self._rows: Rows | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._closed: str | None = None  # the state that closing this log left

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        problem: Described | RunInfo,
        *,
        config: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> RunLog:
        """A new, empty log, open for writing.

        Args:
            path: the run's folder, new or empty; None keeps the log in memory only.
            problem: what the run is about: a `Problem`, or a `RunInfo`.
            config: JSON values worth remembering (weighting, steps, seed, ...).
            overwrite: remove the streams and checkpoints of a run that is there; other files in the folder stay.

        Raises:
            RunLogError: where the folder holds something already, is being written, or cannot be written, and where
                an argument is of another kind.
        """
        folder = None if path is None else arguments.path(path, "RunLog.create")
        store = Store(run_folder.checked(arguments.run_info(problem, config)))
        if folder is None:
            log = cls(store, path=None)
            log._rows = Rows(store)
            return log
        run_folder.make(folder)
        run_folder.refuse_occupied(folder, overwrite=overwrite)
        log = cls(store, path=folder)
        log._begin_writing(first_step=1, overwrite=overwrite)
        return log

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, segments: int | None = None) -> RunLog:
        """A log to read, of a finished run or of one that is still written, by this process or another.

        Damaged files give what can be saved, with a `DamagedLogWarning` that says what is left out.

        Args:
            path: the run's folder.
            segments: read only the first so many segments: the run as it was before it was resumed, with the rows
                that the later segments supersede. None reads all.

        Raises:
            RunLogError: where there is no such folder, no run in it, one of a newer schema, or files of another run.
        """
        folder = arguments.path(path, "RunLog.open")
        if segments is not None and not arguments.is_count(segments):
            raise RunLogError(f"segments must be 1 or more, an integer, or None for all; came as {segments!r}.")
        log = cls(Store(run_folder.read_run(folder)), path=folder)
        log._reader = Reader(folder, log._store, segments=segments)
        log.refresh()
        return log

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, first_step: int) -> RunLog:
        """Go on with a run that was written before: its rows so far, open for writing in a new segment.

        Args:
            path: the run's folder.
            first_step: the first update that will be done again or anew. Rows with `step` >= `first_step` are
                superseded; `RunLog.open(path, segments=...)` still shows them.

        Raises:
            RunLogError: as `open`, where the run is being written, or where it cannot be written.
        """
        if not arguments.is_count(first_step):
            raise RunLogError(f"first_step counts updates from 1, an integer; came as {first_step!r}.")
        log = cls.open(path)
        log._begin_writing(first_step=int(first_step))
        return log

    @property
    def _folder(self) -> Path:
        assert self.path is not None, "a log in memory has no folder"
        return self.path

    def _begin_writing(self, *, first_step: int, overwrite: bool = False) -> None:
        """Open the next segment: the first one of a new run, or one more where a reader has read the others."""
        segment, folder = 0, self._folder
        before = self._ended_state() if self._reader is not None else None
        try:
            guard = WriterLock(folder)
            try:
                if self._reader is None:
                    run_folder.refuse_occupied(folder, overwrite=overwrite)  # now that nobody else can come in between
                    run_folder.clear(folder)
                    run_folder.write_run(folder, self.info)
                else:
                    self.refresh()
                    self._reader = None
                    segment = max(run_folder.streams(folder), default=-1) + 1
                    self._store.begin_segment(first_step)
                writer = Writer(
                    folder, self._store, self._lock, guard, segment=segment, first_step=first_step, before=before
                )
            except BaseException:
                with contextlib.suppress(OSError):
                    guard.release("failed")
                raise
        except OSError as error:
            raise RunLogError(
                f"Could not write the run folder {folder}: {error.strerror or error}. Free space or choose a path "
                "where you may write."
            ) from error
        self._rows, self._writer = Rows(self._store, first_step=first_step), writer
        weakref.finalize(self, writer.close_forgotten)  # also at the end of the process

    # ---- writing

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk within a second.

        Raises:
            RunLogError: naming what does not fit (the record is then not in the log), or telling that the disk refused
                rows (they are all kept, this record's too, and are tried again at the next flush).
        """
        with self._lock:
            if self._rows is None:
                raise self._not_writable()
            self._rows.add(record)
            writer = self._writer
            if writer is not None:
                writer.arm()
        if writer is not None:
            writer.raise_failure()

    def flush(self) -> None:
        """Write all rows to the disk now.

        Raises:
            RunLogError: where the disk refuses; every row is kept in memory.
        """
        if self._writer is not None:
            self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        """Flush and give the folder free; the log can still be read. Closing twice does nothing.

        Args:
            failed: leave the run "failed" where no event says how it ended: for a run that broke off with an error
                which could not be appended.

        Raises:
            RunLogError: where the disk refuses; the log then stays open and every row is kept in memory.
        """
        with self._lock:
            rows, self._rows = self._rows, None  # no more appends from here on
        if rows is None:
            return
        state = self._state_of_events()
        if state is None or state in _LIVE:
            kept = self._writer.state_kept() if self._writer is not None else None
            state = "failed" if failed else "stopped" if state else kept or "finished"
        try:
            if self._writer is not None:
                self._writer.close(state)
        except BaseException:
            self._rows = rows
            raise
        self._closed = state

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failed=error is not None and not isinstance(error, KeyboardInterrupt | GeneratorExit))

    # ---- reading

    def refresh(self) -> bool:
        """Read what was flushed since the last time; True if something was. Nothing to do for a log that is written."""
        if self._reader is None:
            return False
        with self._lock:
            return self._reader.refresh()

    def __repr__(self) -> str:
        place = "in memory" if self.path is None else repr(str(self.path))
        return f"<RunLog {place}: {self.info.problem}, {len(self.tasks)} tasks, step {self.last_step}, {self.state}>"

    @property
    def writable(self) -> bool:
        """Whether records can be appended."""
        return self._rows is not None

    @property
    def state(self) -> str:
        """How the run stands: "running", "paused", "finished", "stopped", "failed" or "interrupted".

        The newest segment's last event says so. Without an ending event the run is "interrupted" once the process that
        wrote it is gone without closing the log. If its log was closed, it is "failed" where an exception left the
        `with` block or `close(failed=True)` said so, "stopped" where a start was logged, and "finished" where no event
        tells of starting or ending; a run that was resumed and got no record keeps the state that it had.
        """
        said = self._state_of_events()
        if said is not None and said not in _LIVE:
            return said
        if self._closed is not None:
            return self._closed
        if self._reader is None or (self._reader.whole and writing(self._folder)):
            return said or "running"
        return (closed_state(self._folder) if self._reader.whole else None) or "interrupted"

    def _ended_state(self) -> str:
        """The state of the run that a reader found; one whose writer ended just now says nothing yet."""
        state = self.state
        return "interrupted" if state in _LIVE else state

    def snapshot(self) -> RunLog:
        """The log as it is now, for reading: it no longer follows, so all its frames and arrays tell of one moment."""
        state = self.state
        copy = RunLog(self._now(), path=self.path)
        copy._closed = state
        return copy

    def _now(self) -> Store:
        """All rows of this moment."""
        with self._lock:
            if self._reader is not None:
                self._reader.refresh()
            return self._store.frozen()

    def _state_of_events(self) -> str | None:
        store = self._now()
        kinds = store["events"]["kind"][store.events_before :]
        return next((_STATES[kind] for kind in kinds[::-1] if kind in _STATES), None)

    def _not_writable(self) -> RunLogError:
        if self._closed is not None:
            state = "This log is closed; it can still be read"
        else:
            state = f"This log of {self.path} was opened to read"
        return RunLogError(
            f"{state}. To train anew: another folder, or overwrite=True; to go on with its run: mv.start or "
            "mv.Probe(..., resume=True); to append records to it by hand: RunLog.resume(path, first_step=n)."
        )
