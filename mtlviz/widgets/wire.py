"""What travels between kernel and browser: a figure as JSON with its arrays in one buffer, or only its changes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.basedatatypes import BaseFigure
from plotly.utils import PlotlyJSONEncoder

Tree = dict[str, Any]
"""A figure: JSON values, and numpy arrays of a dtype that a JavaScript typed array has, one- or two-dimensional."""

Path = tuple[str | int, ...]

ARRAY = "mtlviz:array"  # the key of a reference to an array; no figure has it
ALIGNMENT = 8  # bytes: a Float64Array may only start at multiples of 8
EXACT_BELOW = 256  # numbers: an array this short is read number by number (hover, labels), so it keeps float64
SCREEN = 1e5  # steps over the spread of an array that no screen and no sensible zoom tells apart
SHORT_KEYS = frozenset({"y", "z"})  # drawn along an axis or a colour scale; x counts steps and stays float64

_TYPED = {"f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4"}
_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True)
class Change:
    """One difference between two trees.

    Attributes:
        path: keys and indices from the root to the value.
        value: the new value; the new tail if `keep` is given; meaningless if `gone`.
        keep: how many leading numbers of the old array stay, if the change is a new tail of an array.
        gone: the key no longer exists.
    """

    path: Path
    value: Any = None
    keep: int | None = None
    gone: bool = False


def tree(figure: BaseFigure | Mapping[str, Any]) -> Tree:
    """The figure as a tree that can travel; it shares no array with the figure.

    int64 becomes int32 or float64, strings, dates and objects become JSON lists, NaN survives in numeric arrays and
    becomes null elsewhere. Long `y` and `z` become float32 where a screen cannot show the difference: see `_shortened`.

    Args:
        figure: a plotly figure, or a mapping with "data" and "layout".

    Raises:
        TypeError: not a figure, or a value in it that no JSON can hold.
    """
    if not isinstance(figure, BaseFigure | Mapping):
        raise TypeError(
            f"A view shows a plotly figure, and got {type(figure).__name__}: give it a plotly.graph_objects.Figure."
        )
    if isinstance(figure, BaseFigure):
        # The figure's own to_plotly_json() turns arrays into base64; its traces' keep numpy.
        data = [trace.to_plotly_json() for trace in figure.data]
        layout = figure.layout.to_plotly_json()
    else:
        data, layout = list(figure.get("data") or ()), dict(figure.get("layout") or {})
    return {"data": _clean(data, ""), "layout": _clean(layout, "")}


def changes(old: Tree, new: Tree) -> list[Change] | None:
    """What turns `old` into `new`, or None where the figures have other traces, so that all of it must travel."""
    if [_kind(trace) for trace in old["data"]] != [_kind(trace) for trace in new["data"]]:
        return None
    found: list[Change] = []
    _compare(old, new, (), found)
    return found


def pack(value: Any) -> tuple[Any, bytes]:
    """JSON with each array as `{ARRAY: [offset, length, dtype, row length or 0]}`, and the buffer it points into."""
    offsets: dict[bytes, int] = {}  # each content once: curves mostly share their x
    size = 0

    def walk(node: Any) -> Any:
        nonlocal size
        if isinstance(node, np.ndarray):
            raw = np.ascontiguousarray(node).tobytes()
            padded = raw + b"\0" * (-len(raw) % ALIGNMENT)
            if padded not in offsets:
                offsets[padded] = size
                size += len(padded)
            return {ARRAY: [offsets[padded], node.size, node.dtype.str[1:], node.shape[1] if node.ndim == 2 else 0]}
        if isinstance(node, dict):
            return {key: walk(item) for key, item in node.items()}
        if isinstance(node, list):
            return [walk(item) for item in node]
        return node

    packed = walk(value)
    return packed, b"".join(offsets)


def pack_changes(found: Sequence[Change]) -> tuple[list[Any], bytes]:
    """Changes as JSON `{"path", "value"}`, with "keep" or "gone" where they apply, and the buffer of their arrays."""
    items: list[Tree] = []
    for change in found:
        item: Tree = {"path": list(change.path)}
        if change.gone:
            item["gone"] = True
        else:
            item["value"] = change.value
        if change.keep is not None:
            item["keep"] = change.keep
        items.append(item)
    packed, buffer = pack(items)
    return packed, buffer


def _kind(trace: Tree) -> str:
    return str(trace.get("type", "scatter"))


def _compare(old: Any, new: Any, path: Path, found: list[Change]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        found.extend(Change((*path, key), gone=True) for key in old if key not in new)
        for key, value in new.items():
            if key in old:
                _compare(old[key], value, (*path, key), found)
            else:
                found.append(Change((*path, key), value))
    elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        _compare_arrays(old, new, path, found)
    elif path == ("data",):  # `changes` has seen that the traces pair up
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            _compare(before, after, (*path, index), found)
    elif not _same(old, new):
        found.append(Change(path, new))


def _compare_arrays(old: NDArray[Any], new: NDArray[Any], path: Path, found: list[Change]) -> None:
    if old.dtype != new.dtype or old.ndim != new.ndim or old.ndim != 1:
        if not _same(old, new):
            found.append(Change(path, new))
        return
    shared = min(old.size, new.size)
    differs = ~((old[:shared] == new[:shared]) | ((old[:shared] != old[:shared]) & (new[:shared] != new[:shared])))
    keep = int(np.argmax(differs)) if differs.any() else shared
    if keep < new.size or new.size < old.size:
        # A tail shorter than the whole is worth its bookkeeping; live curves mostly grow at the end.
        found.append(Change(path, new[keep:], keep=keep) if keep > 0 else Change(path, new))


def _same(old: Any, new: Any) -> bool:
    """Equality in which NaN equals NaN, and True, 1 and 1.0 are three values, as in JSON."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        if old.dtype != new.dtype or old.shape != new.shape:
            return False
        return bool(np.array_equal(old, new, equal_nan=True))
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    return bool(old == new)


def _clean(node: Any, key: str) -> Any:
    """The node in the types of a `Tree`; `key` is the last name on the way to it."""
    if node is None or isinstance(node, str | bool | int):
        return node if type(node) in (str, bool, int, type(None)) else _plain(node)
    if isinstance(node, float):
        return float(node) if math.isfinite(node) else None
    if isinstance(node, np.ndarray):
        return _clean_array(node, key)
    if isinstance(node, Mapping):
        return {str(name): _clean(item, str(name)) for name, item in node.items()}
    if isinstance(node, list | tuple):
        return [_clean(item, key) for item in node]
    if isinstance(node, np.generic):
        return _clean(node.item(), key)
    return _plain(node)


def _clean_array(array: NDArray[Any], key: str) -> Any:
    if array.dtype.kind == "M":
        # NaT == NaT is false: that is how it is told from a date.
        return [str(stamp) if stamp == stamp else None for stamp in array.ravel()]
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        return _clean(array.tolist(), key)
    native = array.astype(array.dtype.newbyteorder("<"), copy=True)
    if native.dtype.str[1:] in ("i8", "u8"):
        return _narrowed(native)
    if native.dtype == np.float16:
        return native.astype(np.float32)
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    if native.dtype == np.float64 and key in SHORT_KEYS:
        native = _shortened(native)
    assert native.dtype.str[1:] in _TYPED
    return native


def _narrowed(integers: NDArray[Any]) -> NDArray[Any]:
    """64-bit integers as int32 if they fit, else as float64, which is all that JavaScript's own numbers hold."""
    bounds = np.iinfo(np.int32)
    fits = integers.size == 0 or (integers.min() >= bounds.min and integers.max() <= bounds.max)
    return integers.astype(np.int32 if fits else np.float64)


def _shortened(numbers: NDArray[np.float64]) -> NDArray[Any]:
    """float32, if the array is long, its error stays under a 1e5th of its spread, and nothing over- or underflows."""
    finite = np.abs(numbers[np.isfinite(numbers)])
    if numbers.size < EXACT_BELOW or finite.size == 0:
        return numbers
    largest = float(finite.max())
    positive = finite[finite > 0]
    smallest = float(positive.min()) if positive.size else 1.0
    values = numbers[np.isfinite(numbers)]
    spread = float(values.max()) - float(values.min())
    safe = largest <= float(_FLOAT32.max) and smallest >= float(_FLOAT32.tiny)
    return numbers.astype(np.float32) if safe and largest * float(_FLOAT32.eps) * SCREEN <= spread else numbers


def _plain(value: Any) -> Any:
    """A date, a decimal, a pandas NA or another guest, as plotly itself would write it."""
    if isinstance(value, date):  # datetime and pandas' Timestamp are dates; NaT is not equal to itself
        return value.isoformat() if value == value else None
    return json.loads(json.dumps(value, cls=PlotlyJSONEncoder))
