"""Reads a run's Arrow streams as they grow: whole messages only, checked, and never past damage."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import pyarrow as pa

from mtlviz.errors import RunLogError
from mtlviz.runlog import folder as run_folder
from mtlviz.runlog.layout import TABLES, arrow_schema, columns, to_block
from mtlviz.runlog.lock import writing
from mtlviz.runlog.rows import fits
from mtlviz.runlog.store import Store

_CHUNK = 1 << 25
_LONGEST_METADATA = 1 << 24
_UNREADABLE = (pa.ArrowException, OSError, ValueError, EOFError)  # what pyarrow raises on bytes that are no message


class DamagedLogWarning(UserWarning):
    """A file of a run holds bytes that could not be read; what lies before them is kept."""


class _DamageError(Exception):
    """The bytes from here on are no message of this stream."""


def message_size(data: memoryview) -> int | None:
    """Bytes of the Arrow IPC message that `data` begins with; None where too little of it is there to know.

    Layout: 0xFFFFFFFF, the metadata's length (int32), the metadata (a flatbuffer), the body.

    Raises:
        _DamageError: where it is no message.
    """
    if len(data) < 8:
        return None
    mark, length = struct.unpack_from("<Ii", data, 0)
    if mark != 0xFFFFFFFF or not 0 < length <= _LONGEST_METADATA:
        raise _DamageError
    if len(data) < 8 + length:
        return None
    metadata = data[8 : 8 + length]
    try:  # flatbuffer: root offset -> table -> its vtable, where slot 3 of a Message is bodyLength
        (table,) = struct.unpack_from("<I", metadata, 0)
        (back,) = struct.unpack_from("<i", metadata, table)
        (entries,) = struct.unpack_from("<H", metadata, table - back)
        (slot,) = struct.unpack_from("<H", metadata, table - back + 10) if entries >= 12 else (0,)
        (body,) = struct.unpack_from("<q", metadata, table + slot) if slot else (0,)
    except struct.error:
        raise _DamageError from None
    if body < 0:
        raise _DamageError
    return 8 + length + body


class _Stream:
    """One file, read up to `offset`."""

    def __init__(self, path: Path, table: str, segment: int) -> None:
        self.path, self.table, self.segment = path, table, segment
        self.offset = 0
        self.schema: pa.Schema | None = None
        self.damaged = False
        self.last_step = -1  # of the rows that were taken; -1 before the first
        self._told = False

    def first_step(self, store: Store) -> int | None:
        """The first step of the segment, from the header; None while that is not there."""
        if self.schema is None and not self.damaged:
            data, ends = self._whole_messages()
            if ends:
                self._take_header(data[: ends[0] - self.offset], store)
        return None if self.schema is None else int(self.schema.metadata[b"mtlviz.first_step"])

    def take(self, store: Store) -> bool:
        """Append the rows that are new to the store; True if there were any."""
        before = store[self.table].rows
        while not self.damaged and self._size() > self.offset and self.first_step(store) is not None:
            batches, ends = self._batches()
            if not batches:
                break
            if not self._extend(store, batches):  # find the batch that does not fit, and keep what lies before
                good = 0
                while self._extend(store, batches[good : good + 1]):
                    good += 1
                self.damaged = True
                ends = ends[: good + 1]
            self.offset = ends[-1]
        return store[self.table].rows > before

    def tell_left_out(self, *, final: bool) -> None:
        """Warn, once, of bytes that cannot be read; a torn tail counts only when nobody will complete it."""
        left = self._size() - self.offset
        if self._told or left <= 0 or not (self.damaged or final):
            return
        self._told = True
        why = "cannot be read" if self.damaged else "are an unfinished message, as after a crash or a copy cut short"
        warnings.warn(
            f"{self.path}: from byte {self.offset} on, {left} bytes {why}; they are left out, "
            "what lies before is kept.",
            DamagedLogWarning,
            stacklevel=2,
        )

    @property
    def blank(self) -> bool:
        """Whether there is not a single byte of it: a writer begins every file with a header."""
        return self.offset == 0 and self._size() == 0

    def _take_header(self, message: bytes, store: Store) -> None:
        try:
            # Arrow's stream reader checks what kind of message it meets; reading a lone message crashes on a wrong one.
            schema = pa.ipc.open_stream(pa.BufferReader(message)).schema
        except _UNREADABLE:
            self.damaged = True
            return
        metadata = schema.metadata or {}
        first_step = metadata.get(b"mtlviz.first_step", b"")
        wanted = arrow_schema(self.table, store.info, segment=self.segment, first_step=1)
        tasks = b"mtlviz.tasks"
        if not schema.equals(wanted) or metadata.get(tasks) != wanted.metadata[tasks] or not first_step.isdigit():
            raise RunLogError(
                f"{self.path} does not belong to the run that {run_folder.RUN} beside it tells of: its columns or "
                f"tasks are others. Restore the file or {run_folder.RUN}, or move the file away to read the rest."
            )
        self.schema = schema
        self.offset = len(message)

    def _batches(self) -> tuple[list[pa.RecordBatch], list[int]]:
        """The whole batches of the next part of the file, and the offsets: where they begin and where each ends."""
        assert self.schema is not None
        batches: list[pa.RecordBatch] = []
        data, whole = self._whole_messages()
        ends = [self.offset]
        stream = pa.ipc.open_stream(pa.BufferReader(self.schema.serialize().to_pybytes() + data))
        for end in whole:
            try:
                batch = stream.read_next_batch()
                batch.validate(full=True)
            except (*_UNREADABLE, StopIteration):
                self.damaged = True
                break
            batches.append(batch)
            ends.append(end)
        return batches, ends

    def _extend(self, store: Store, batches: list[pa.RecordBatch]) -> bool:
        """Append batches to the store, all or none; False where they do not fit (or there are none)."""
        if not batches:
            return False
        try:
            block = to_block(batches, columns(self.table, store.info))
        except _UNREADABLE:
            return False
        if not fits(self.table, block, store):
            return False
        store[self.table].extend(block)
        self.last_step = max(self.last_step, int(block["step"].max(initial=-1)))
        return True

    def _whole_messages(self) -> tuple[bytes, list[int]]:
        """The whole messages in the next part of the file: their bytes, and the offset where each ends."""
        data, at = self._bytes(_CHUNK), 0
        ends: list[int] = []
        try:
            size = message_size(memoryview(data))
            if size is not None and len(data) < size <= self._size() - self.offset:
                data = self._bytes(size)
            view = memoryview(data)
            while size is not None and at + size <= len(data):
                at += size
                ends.append(self.offset + at)
                size = message_size(view[at:])
        except _DamageError:
            self.damaged = not ends  # else these first: the next part will begin with the damage
        return data[:at], ends

    def _bytes(self, most: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                return file.read(most)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RunLogError(
                f"Could not read {self.path}: {error.strerror or error}. Make it readable, or move it away "
                "to read the rest."
            ) from error

    def _size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return self.offset


class Reader:
    """Follows a run's folder: brings a store up to date with what its files hold.

    Args:
        segments: read only so many of the run's segments, so as it was before it was resumed; None for all.
    """

    def __init__(self, folder: Path, store: Store, *, segments: int | None = None) -> None:
        self._folder, self._store, self._limit = folder, store, segments
        self.whole = segments is None
        self._files: dict[int, dict[str, _Stream]] = {}
        self._current = 0
        self._told: set[int] = set()  # segments whose missing steps were told
        self._identity = self._run_identity()

    def refresh(self) -> bool:
        """Take in what is new; True if something was.

        Raises:
            RunLogError: where a file belongs to another run, or the run was overwritten by a new one.
        """
        identity = self._run_identity()
        if identity is None:  # the folder is gone: what was read of it stays
            return False
        if identity != self._identity:
            raise RunLogError(
                f"The run in {self._folder} was overwritten by a new one: open it again with RunLog.open."
            )
        held = writing(self._folder)  # asked first: what is torn after the end stays torn
        live = self._limit is None and held
        try:
            found = run_folder.streams(self._folder)
        except FileNotFoundError:
            return False
        segments = [s for s in sorted(found) if s >= self._current and (self._limit is None or s < self._limit)]
        new = False
        for segment in segments:
            files = self._files.setdefault(segment, {})
            for table, path in found[segment].items():
                files.setdefault(table, _Stream(path, table, segment))
            if segment > self._current and not self._begin(segment):
                continue
            for table in TABLES:
                if table in files:
                    new = files[table].take(self._store) or new
        for segment in segments:
            for stream in self._files[segment].values():
                stream.tell_left_out(final=segment < self._current or not live)
            if not held:
                self._tell_missing_steps(segment)
        return new

    def _tell_missing_steps(self, segment: int) -> None:
        """Warn, once, where an ended segment has no steps at all although its other tables were filled after some."""
        files = self._files[segment]
        steps, others = files.get("steps"), [stream for table, stream in files.items() if table != "steps"]
        if segment in self._told or not (steps is None or steps.blank):
            return
        firsts = [first for stream in others if (first := stream.first_step(self._store)) is not None]
        reached = max((stream.last_step for stream in others), default=-1)
        if firsts and reached >= firsts[0]:
            self._told.add(segment)
            path = run_folder.stream(self._folder, "steps", segment)
            warnings.warn(
                f"{path} is {'missing' if steps is None else 'empty'}, although other files of the run tell of step "
                f"{reached}: its steps are left out. Restore it from a copy.",
                DamagedLogWarning,
                stacklevel=2,
            )

    def _begin(self, segment: int) -> bool:
        """Go on to a segment as soon as one of its headers says where it begins."""
        steps = [stream.first_step(self._store) for stream in self._files[segment].values()]
        first = next((step for step in steps if step is not None), None)
        if first is None:
            return False
        self._store.begin_segment(first)
        self._current = segment
        return True

    def _run_identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._folder / run_folder.RUN)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
