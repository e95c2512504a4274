"""The browser's side of the wire in numpy, written from the format's description: an oracle for what kernels send."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np


def unpacked(node: Any, buffer: bytes) -> Any:
    """Packed JSON with its arrays back in place."""
    if isinstance(node, list):
        return [unpacked(item, buffer) for item in node]
    if not isinstance(node, dict):
        return node
    if "mtlviz:array" in node:
        offset, length, dtype, width = node["mtlviz:array"]
        assert offset % 8 == 0
        array = np.frombuffer(buffer, dtype=f"<{dtype}", count=length, offset=offset)
        return array.reshape(-1, width) if width else array
    return {key: unpacked(item, buffer) for key, item in node.items()}


def applied(tree: dict[str, Any], packed: list[Any], buffer: bytes) -> dict[str, Any]:
    """The tree after a patch."""
    result = copy.deepcopy(tree)
    for change in unpacked(packed, buffer):
        *path, key = change["path"]
        parent = result
        for step in path:
            parent = parent[step]
        if change.get("gone"):
            del parent[key]
        elif "keep" in change:
            parent[key] = np.concatenate([parent[key][: change["keep"]], change["value"]])
        else:
            parent[key] = change["value"]
    return result


def same(a: Any, b: Any) -> bool:
    """Equality of trees: types, dtypes, shapes and bits of arrays, NaN equal to NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b
