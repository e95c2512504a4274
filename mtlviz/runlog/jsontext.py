"""JSON that also carries NaN and the infinities, and stays JSON for every other reader."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_FLOAT = "$float"  # {"$float": "nan"}: strict JSON has no word for NaN and the infinities


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON text of plain values, mappings, sequences and numpy numbers or arrays.

    NaN, inf and -inf become `{"$float": "nan"}` and so on; tuples and arrays become lists, keys become strings.

    Raises:
        TypeError: for a value that JSON cannot hold, or a mapping with the reserved key "$float".
    """
    return json.dumps(_plain(value), allow_nan=False, indent=indent)


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        ValueError: where the text is no JSON.
    """
    return json.loads(text, object_hook=_restored)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, Mapping):
        if _FLOAT in value:
            raise TypeError(f'the key "{_FLOAT}" is reserved')
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _restored(mapping: dict[str, Any]) -> Any:
    return float(mapping[_FLOAT]) if mapping.keys() == {_FLOAT} else mapping
