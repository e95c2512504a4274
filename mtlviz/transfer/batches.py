"""A task's inputs in any of the forms that users have them, read once as arrays (n, d)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import TransferError

Embedding = Callable[[Any], Any]
"""A function of a batch, as it came, that returns its features (n, d), a row for each of its rows."""

Features = tuple[str, ...] | None
"""The names of the columns, where the batches have names."""


def arrays(source: Any, *, embed: Embedding | None, task: str) -> Iterator[tuple[NDArray[Any], Features]]:
    """Yield what `TaskCovariance.of` reads: arrays (n, d) of real numbers, all of one d, and their columns' names.

    Raises: TransferError, naming the task and the batch, for what is no such array.
    """
    if embed is not None and not callable(embed):
        raise TransferError(f"task {task!r}: embed must be a function batch -> (n, d), got {type(embed).__name__}")
    first: tuple[int, Features] | None = None
    alone = _is_one(source, task)
    for number, batch in enumerate([source] if alone else source, start=1):
        where = f"task {task!r}" if alone else f"task {task!r}, batch {number}"
        array, features = _array(batch, where) if embed is None else _embedded(embed, batch, where)
        first = first or (array.shape[1], features)
        if array.shape[1] != first[0]:
            maker = "embed returned" if embed is not None else "it has"
            raise TransferError(f"{where}: {maker} {array.shape[1]} features, the batches before have {first[0]}")
        if features != first[1]:
            raise TransferError(f"{where}: its columns are {_said(features)}, before they were {_said(first[1])}")
        yield array, features


def _is_one(source: Any, task: str) -> bool:
    """Whether a source is one array; else it is an iterable of batches. Raises: TransferError where it is neither."""
    if hasattr(source, "__array__") or hasattr(source, "toarray"):
        return True
    if isinstance(source, (str, bytes, Mapping)) or not isinstance(source, Iterable):
        raise TransferError(
            f"task {task!r}: needs an array (n, d), a DataFrame, a TaskCovariance or an iterable of array batches; got "
            f"{type(source).__name__}"
        )
    return isinstance(source, (list, tuple)) and len(source) > 0 and _depth(source[0]) < 2


def _depth(value: Any) -> int:
    """How many dimensions a value has, told from its first elements; a text is one row, a mapping one batch."""
    if isinstance(value, (str, bytes)):
        return 1
    if isinstance(value, (list, tuple)):
        return 1 + (_depth(value[0]) if value else 0)
    return 2 if isinstance(value, Mapping) else int(getattr(value, "ndim", 0))


def _embedded(embed: Embedding, batch: Any, where: str) -> tuple[NDArray[Any], Features]:
    """Return what embed makes of a batch. Raises: TransferError where it is not a row of features for each row."""
    try:
        features = embed(batch)
    except Exception as error:  # the user's own code may raise anything; it is told where
        hint = (
            "; a torch module takes tensors: give mv.data.task_inputs(problem, embed=module)"
            if _is_module(embed)
            else ""
        )
        error.add_note(f"raised by embed for {where}{hint}")
        raise
    came = f"{where}: embed returned"
    if isinstance(features, (str, bytes, Mapping)) or np.ndim(features) == 0:
        raise TransferError(f"{came} a {type(features).__name__}; it must return an array (n, d)")
    array, names = _array(features, where, came=came)
    rows = _rows(batch)
    if rows is not None and len(array) != rows:
        raise TransferError(f"{came} {len(array)} rows for the {rows} rows of the batch; it must return a row for each")
    return array, names


def _is_module(embed: Any) -> bool:
    """Whether a function is a torch module, known without torch; it is given what came, such as a numpy array."""
    return hasattr(embed, "state_dict") and hasattr(embed, "forward")


def _rows(batch: Any) -> int | None:
    """How many rows a batch has: those of its first member where it is a pair or a mapping; None where it has none."""
    member = next(iter(batch.values()), None) if isinstance(batch, Mapping) else None
    if isinstance(batch, (list, tuple)) and batch and _depth(batch[0]) > 1:
        member = batch[0]
    try:
        return len(batch if member is None else member)
    except TypeError:
        return None


def _array(value: Any, where: str, *, came: str | None = None) -> tuple[NDArray[Any], Features]:
    """Return a batch as an array (n, d) of real numbers. Raises: TransferError for what is none."""
    came = came or f"{where}: got"
    if hasattr(value, "toarray"):
        raise TransferError(
            f"{came} a sparse {type(value).__name__}; give dense batches of it: (x[i : i + 1000].toarray() for i in …)"
        )
    if isinstance(value, (list, tuple)) and value and _depth(value[0]) > 1:
        raise TransferError(
            f"{came} a {type(value).__name__} of {len(value)} arrays as one batch; of pairs (inputs, targets) give the "
            "inputs: (x for x, _ in loader)"
        )
    if isinstance(value, pd.DataFrame):
        return _columns(value, came)
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value  # a torch tensor, known without torch
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TransferError(f"{came} a {type(value).__name__} that is no array of numbers: {error}") from error
    if array.dtype.kind not in "biuf" or np.ma.is_masked(value):
        kind = "masked values" if np.ma.is_masked(value) else f"values of type {array.dtype}"
        raise TransferError(f"{came} {kind}; features must be real numbers, in every row")
    if array.ndim != 2 or array.shape[1] == 0:
        raise TransferError(
            f"{came} an array of shape {array.shape}; needed is (n, d), a row per sample and a column per feature, "
            "such as x.reshape(len(x), -1)"
        )
    return array, None


def _columns(frame: pd.DataFrame, came: str) -> tuple[NDArray[Any], Features]:
    """Return a DataFrame's numbers, NaN where one is missing, and the names of its columns."""
    real = [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind) for kind in frame.dtypes]
    if not all(real) or not real:
        wrong = tuple(str(name) for name, good in zip(frame.columns, real, strict=True) if not good)
        raise TransferError(f"{came} a DataFrame with columns that are no real numbers: {_said(wrong)}")
    return frame.to_numpy(np.float64, na_value=np.nan), tuple(map(str, frame.columns))


def _said(features: Features) -> str:
    if features is None:
        return "without names"
    more = f", … ({len(features)})" if len(features) > 6 else ""
    return ", ".join(map(repr, features[:6])) + more if features else "it has none"
