"""Appends the rows of a store to the Arrow streams of one segment, at least once a second."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import warnings
from pathlib import Path

import pyarrow as pa

from mtlviz.errors import RunLogError
from mtlviz.runlog import folder as run_folder
from mtlviz.runlog import lock as run_lock
from mtlviz.runlog.layout import TABLES, arrow_schema, to_batch
from mtlviz.runlog.store import Store, Table

FLUSH_SECONDS = 0.5  # rows lie in memory only for so long; half of the second that is promised
_BATCH_BYTES = 1 << 26


class _Stream:
    """One file that only grows by whole messages: a write that fails is taken back."""

    def __init__(self, path: Path, schema: pa.Schema, rows: int) -> None:
        self.path = path
        self._schema = schema
        self._file: int | None = None
        self._whole = (0, rows)  # bytes of whole messages, and the store's rows on disk: set together or not at all
        self._before = rows  # rows of earlier segments
        self._torn = False

    def begin(self) -> None:
        """Make the file and write its header, where that is still to do."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        if self._whole[0] == 0:
            self._put(self._schema.serialize(), self._whole[1])

    def write(self, table: Table) -> None:
        """Write the rows that the file does not hold yet, in batches of one write each."""
        most = max(1, _BATCH_BYTES // sum(8 * (column.width or 1) for column in table.columns))
        while self._whole[1] < table.rows:
            self.begin()
            start = self._whole[1]
            stop = min(start + most, table.rows)
            self._put(to_batch(table.block(start, stop), self._schema).serialize(), stop)

    def missing(self, table: Table) -> int:
        """Rows of the table that the file does not hold."""
        return table.rows - self._whole[1]

    def untouched(self, table: Table) -> bool:
        """Whether the table has no row for this file."""
        return table.rows == self._before

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)

    def _put(self, message: pa.Buffer, rows: int) -> None:
        assert self._file is not None
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")
        end = self._whole[0]
        if self._torn:
            os.ftruncate(self._file, end)
        self._torn = True
        try:
            written = os.pwrite(self._file, message, end)
            while written < message.size:  # the disk is full: asking again for the rest makes the system say so
                written += os.pwrite(self._file, message.slice(written), end + written)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        self._whole = (end + message.size, rows)
        self._torn = False


class Writer:
    """Writes what a store holds beyond what its files hold, from a timer, from `flush` or from `close`.

    Appending threads hold `lock` only while they write a row into the store; the slow part of a flush, Arrow and the
    disk, runs outside it.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        lock: threading.Lock,
        guard: run_lock.WriterLock,
        *,
        segment: int,
        first_step: int,
        before: str | None = None,
    ) -> None:
        """`before` is the state of the run that is resumed: it stays, where this segment gets no row."""
        self._folder, self._store, self._lock, self._guard = folder, store, lock, guard
        self._disk = threading.Lock()  # one flush at a time; taken before `lock`, never inside it
        self._flusher: int | None = None
        self._streams = {
            table: _Stream(
                run_folder.stream(folder, table, segment),
                arrow_schema(table, store.info, segment=segment, first_step=first_step),
                store[table].rows,
            )
            for table in TABLES
        }
        self._process = os.getpid()
        self._before = before
        self._broke_off = False  # a close that the disk refused asked for the state "failed"
        self._timer: threading.Timer | None = None
        self._failure: RunLogError | None = None
        self._closed = False
        self._streams["steps"].begin()  # its header places the segment for readers before any row is there

    def arm(self) -> None:
        """See to it that what was appended is flushed soon; called under the log's lock."""
        if self._timer is not None:
            return
        timer = threading.Timer(FLUSH_SECONDS, self._flush_in_background)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the interpreter is ending, where closing flushes, or can make no thread just now
            return
        self._timer = timer

    def state_kept(self) -> str | None:
        """The state of the resumed run, as long as this segment has no row; else None."""
        untouched = all(stream.untouched(self._store[table]) for table, stream in self._streams.items())
        return self._before if untouched else None

    def raise_failure(self) -> None:
        """Raise, once, what a flush in the background ran into."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def flush(self) -> None:
        """Write all rows.

        Raises:
            RunLogError: where the disk refuses; every row is still in memory and nothing torn is on the disk.
        """
        if os.getpid() != self._process:  # a forked child holds copies of these files
            return
        with self._disk:
            self._write_all()

    def close(self, state: str) -> None:
        """Flush, close the files and give the folder free; `state` is left for readers.

        Raises:
            RunLogError: as `flush`; nothing is closed then.
        """
        if os.getpid() != self._process:
            return
        self._broke_off = state == "failed"
        with self._disk:
            if not self._closed:
                self._write_all()
                self._give_free(state)

    def close_forgotten(self) -> None:
        """Close for a log that nobody refers to any more, or at the end of the process: warns of rows that are lost."""
        if os.getpid() != self._process:  # before any lock: a child may be forked while one is held
            return
        if self._flusher == threading.get_ident():  # collected in the middle of this thread's own flush
            threading.Thread(target=self.close_forgotten).start()
            return
        failure: RunLogError | None = None
        try:
            self.close("failed" if self._broke_off else self.state_kept() or "stopped")
        except RunLogError as error:
            failure = error
        finally:  # nobody is left to try again
            with self._disk, contextlib.suppress(RunLogError):
                if not self._closed:
                    self._give_free("failed")
        if failure is not None:
            lost = sum(stream.missing(self._store[table]) for table, stream in self._streams.items())
            warnings.warn(
                f"{lost} rows of the run {self._store.info.problem} in {self._folder} are lost, its log could not be "
                f"closed: {_reason(failure.__cause__ or failure)}",
                RuntimeWarning,
                stacklevel=1000,  # no line of code to show: nobody called this
            )

    def _give_free(self, state: str) -> None:
        self._closed = True
        for stream in self._streams.values():
            stream.close()
        try:
            self._guard.release(state)
        except OSError as error:
            raise self._failed(self._folder / run_lock.NAME, error) from error

    def _write_all(self) -> None:
        self._flusher = threading.get_ident()
        try:
            with self._lock:
                timer, self._timer = self._timer, None
                frozen = self._store.frozen()
            if timer is not None:
                timer.cancel()
            self._failure = None
            if self._closed:
                return
            for table, stream in self._streams.items():
                try:
                    stream.write(frozen[table])
                except Exception as error:  # the border: whatever stops a flush, its rows are kept and this is told
                    raise self._failed(stream.path, error) from error
        finally:
            self._flusher = None

    def _flush_in_background(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - the border of the timer's thread: nobody else would hear of it
            with self._lock:
                self.arm()  # space may come free by itself
            # told at the next append, flush or close
            self._failure = error if isinstance(error, RunLogError) else self._failed(self._folder, error)

    def _failed(self, path: Path, error: Exception) -> RunLogError:
        return RunLogError(
            f"Could not write {path}: {_reason(error)}. All rows are kept in memory: free space and call "
            "log.flush(), or save them elsewhere with log.to_parquet(folder)."
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}"
