"""The columns of each table, in memory as numpy arrays and on disk as Arrow IPC streams."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtlviz.runlog.info import SCHEMA, RunInfo
from mtlviz.runlog.records import PHASES

TABLES = ("steps", "layers", "validations", "events", "measures")
_NUMPY: dict[str, np.dtype[Any]] = {
    "int": np.dtype(np.int64),
    "float": np.dtype(np.float64),
    "code": np.dtype(np.int8),
    "text": np.dtype(object),
}
_ARROW = {"int": pa.int64(), "float": pa.float64(), "code": pa.int8(), "text": pa.utf8()}

Block = dict[str, NDArray[Any]]  # the columns of some rows: (n,) or (n, width) each


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `width` values a row (None: a plain scalar), `optional` texts may be None."""

    name: str
    kind: str  # "int", "float", "code" or "text"
    width: int | None = None
    optional: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of a value."""
        return _NUMPY[self.kind]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of a row."""
        return _ARROW[self.kind] if self.width is None else pa.list_(_ARROW[self.kind], self.width)


def columns(table: str, info: RunInfo) -> tuple[Column, ...]:
    """The columns of a table for a run of T tasks and K layers; a Gramian is its upper triangle, row by row."""
    T, K = len(info.tasks), len(info.layers)
    M = T * (T + 1) // 2
    clocks = (Column("step", "int"), Column("position", "int"))
    task = Column("task", "text", optional=True)
    return {
        "steps": (
            *clocks,
            Column("time", "float"),
            Column("learning_rate", "float"),
            Column("losses", "float", T),
            Column("weights", "float", T),
            Column("gramian", "float", M),
            Column("samples", "int", T),
            Column("phases", "code", T),
        ),
        "layers": (*clocks, Column("gramians", "float", K * M)),
        "validations": (*clocks, Column("task", "text"), Column("metric", "text"), Column("value", "float")),
        "events": (*clocks, task, Column("kind", "text"), Column("detail", "text")),
        "measures": (
            clocks[0],
            Column("name", "text"),
            task,
            Column("other", "text", optional=True),
            Column("layer", "text", optional=True),
            Column("value", "float"),
        ),
    }[table]


def arrow_schema(table: str, info: RunInfo, *, segment: int, first_step: int) -> pa.Schema:
    """The Arrow schema of a table's stream; its metadata say all that is needed to read the file without mtlviz."""
    metadata = {
        "mtlviz.schema": str(SCHEMA),
        "mtlviz.table": table,
        "mtlviz.segment": str(segment),
        "mtlviz.first_step": str(first_step),
        "mtlviz.tasks": json.dumps([task.name for task in info.tasks]),
        "mtlviz.layers": json.dumps(list(info.layers)),
        "mtlviz.phases": json.dumps(PHASES),  # `phases` holds indices into these
        "mtlviz.gramian": "upper triangle, row by row, one after the other where there are several",
    }
    return pa.schema([pa.field(c.name, c.arrow) for c in columns(table, info)], metadata=metadata)


def to_batch(block: Block, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as an Arrow record batch; numbers are not copied.

    Made from buffers, because `pa.array` imports pandas: half a second that would stall training, and that fails when
    the last rows are flushed at the end of the process.
    """
    arrays = []
    for field in schema:
        values = block[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.Array.from_buffers(field.type.value_type, values.size, [None, pa.py_buffer(values)])
            arrays.append(pa.Array.from_buffers(field.type, len(values), [None], children=[flat]))
        elif pa.types.is_string(field.type):
            arrays.append(_text_array(values))
        else:
            arrays.append(pa.Array.from_buffers(field.type, len(values), [None, pa.py_buffer(values)]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _text_array(values: NDArray[Any]) -> pa.Array:
    encoded = [b"" if text is None else text.encode() for text in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    present = np.packbits([text is not None for text in values], bitorder="little")
    buffers = [pa.py_buffer(present), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.utf8(), len(encoded), buffers)


def to_block(batches: list[pa.RecordBatch], wanted: tuple[Column, ...]) -> Block:
    """The columns of some record batches, put together.

    Raises:
        ValueError: where a value is missing that may not be.
    """
    block: Block = {}
    for index, column in enumerate(wanted):
        array = pa.concat_arrays([batch.column(index) for batch in batches])
        if array.null_count and not column.optional:
            raise ValueError(f"column {column.name} lacks {array.null_count} values")
        if column.width is not None:
            values = array.flatten()
            if values.null_count or len(values) != len(array) * column.width:
                raise ValueError(f"column {column.name} lacks values")
            block[column.name] = values.to_numpy().reshape(len(array), column.width)
        else:
            block[column.name] = array.to_numpy(zero_copy_only=False).astype(column.dtype, copy=False)
    return block
