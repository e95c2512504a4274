"""The rows of a run in memory: growable numpy columns, the same whether appended live or read from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.runlog.info import RunInfo
from mtlviz.runlog.layout import TABLES, Block, Column, columns

_FIRST_CAPACITY = 64


class Table:
    """The columns of one table, (rows,) or (rows, width) each.

    A row never changes once it counts in `rows`, and growing makes new arrays: so a slice up to `rows`, taken under the
    log's lock, stays valid without a copy while another thread appends.
    """

    __slots__ = ("arrays", "columns", "rows")

    def __init__(self, wanted: Sequence[Column]) -> None:
        self.columns = tuple(wanted)
        self.rows = 0
        self.arrays = {c.name: _empty(c, _FIRST_CAPACITY) for c in self.columns}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name][: self.rows]

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all; at least doubles, so that appending stays cheap on average."""
        capacity = len(self.arrays[self.columns[0].name])
        if rows <= capacity:
            return
        capacity = max(rows, 2 * capacity)
        for column in self.columns:
            larger = _empty(column, capacity)
            larger[: self.rows] = self.arrays[column.name][: self.rows]
            self.arrays[column.name] = larger

    def extend(self, block: Block) -> None:
        """Append the rows of a block."""
        count = len(block[self.columns[0].name])
        self.grow(self.rows + count)
        for column in self.columns:
            self.arrays[column.name][self.rows : self.rows + count] = block[column.name]
        self.rows += count

    def block(self, start: int, stop: int) -> Block:
        """The rows from `start` up to `stop`, without a copy."""
        return {name: array[start:stop] for name, array in self.arrays.items()}

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows whose `mask` (rows,) is False."""
        self.arrays = {name: array[: self.rows][mask] for name, array in self.arrays.items()}
        self.rows = int(mask.sum())

    def frozen(self) -> Table:
        """The same rows as a table that no longer grows with this one."""
        copy = object.__new__(Table)
        copy.columns, copy.rows, copy.arrays = self.columns, self.rows, dict(self.arrays)
        return copy


class Store:
    """All tables of a run; `generation` grows when rows that were there are superseded by a resumed segment."""

    __slots__ = ("events_before", "generation", "info", "segments", "tables")

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        self.tables = {table: Table(columns(table, info)) for table in TABLES}
        self.generation = 0
        self.segments = 1
        self.events_before = 0  # rows of `events` that earlier segments wrote

    def __getitem__(self, table: str) -> Table:
        return self.tables[table]

    def begin_segment(self, first_step: int) -> None:
        """Leave out what a segment that begins with the update `first_step` supersedes.

        It starts from the parameters after `first_step` - 1 updates: the past is every row up to there, in all tables.
        A row with `step` >= `first_step` is superseded: an update that was done again, or something that was
        seen after such an update. What was seen after `first_step` - 1 updates stays.
        """
        for table in self.tables.values():
            keep = table["step"] < first_step
            if not keep.all():
                table.keep(keep)
                self.generation += 1
        self.segments += 1
        self.events_before = self["events"].rows

    def frozen(self) -> Store:
        """All rows of this moment, as a store that no longer grows with this one."""
        copy = object.__new__(Store)
        copy.info, copy.generation, copy.segments = self.info, self.generation, self.segments
        copy.events_before = self.events_before
        copy.tables = {name: table.frozen() for name, table in self.tables.items()}
        return copy


def _empty(column: Column, rows: int) -> NDArray[Any]:
    shape = (rows,) if column.width is None else (rows, column.width)
    return np.empty(shape, dtype=column.dtype)
