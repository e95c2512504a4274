"""States as tensors and plain values alone, which torch loads without running anybody's code."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mtlviz.errors import RunLogError

_NUMPY = "$numpy"  # {"$numpy": tensor}: an array, which files of tensors and plain values have no word for
_PLAIN = (type(None), bool, int, float, str)
_MAPPINGS = (dict, OrderedDict, Counter)  # torch's loader of weights knows these; schedulers count their milestones


def packed(value: Any, place: str = "") -> Any:
    """A copy of nested mappings, lists and tuples that holds nothing but tensors on the CPU and plain values.

    Raises: RunLogError naming the place of anything else, as in "optimizer.state.0.step".
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.device.type == "meta" or value.is_quantized:
            raise _refused(f"a tensor of layout {value.layout} on {value.device}", place)
        return value.detach().cpu().clone()
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return value.item()
    if isinstance(value, np.ndarray):
        try:
            return {_NUMPY: torch.from_numpy(np.array(value, order="C"))}
        except TypeError:
            raise _refused(f"an array of {value.dtype}", place) from None
    if isinstance(value, Mapping):
        items = {_key(key, place): packed(item, _inside(place, key)) for key, item in value.items()}
        return _alike(value, items) if type(value) in _MAPPINGS else items
    if isinstance(value, list | tuple):
        row = [packed(item, _inside(place, number)) for number, item in enumerate(value)]
        return tuple(row) if isinstance(value, tuple) else row
    raise _refused(f"a {type(value).__name__}", place)


def unpacked(value: Any) -> Any:
    """A copy of what was packed, with arrays as arrays again."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        if value.keys() == {_NUMPY}:
            return value[_NUMPY].clone().numpy()
        return _alike(value, {key: unpacked(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(unpacked(item) for item in value)
    return value


def _alike(mapping: Any, items: dict[Any, Any]) -> Any:
    """Items in a mapping of the same kind, with what a module's own state says of its versions."""
    made = type(mapping)(items)
    if isinstance(mapping, OrderedDict) and hasattr(mapping, "_metadata"):
        made._metadata = packed(mapping._metadata)
    return made


def _key(key: object, place: str) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    if type(key) not in _PLAIN or key == _NUMPY:
        raise _refused(f"the key {key!r}", place)
    return key


def _inside(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _refused(what: str, place: str) -> RunLogError:
    return RunLogError(
        f"A checkpoint holds tensors, numbers, texts, and lists and mappings of them; {place or 'the state'} is or has "
        f"{what}."
    )


def digest(content: Any) -> str:
    """A fingerprint of every number, text and key."""
    found = hashlib.blake2b(digest_size=16)
    _add_to(found, content)
    return found.hexdigest()


def _add_to(found: hashlib.blake2b, content: Any) -> None:
    if isinstance(content, torch.Tensor):
        found.update(f"{content.dtype} {tuple(content.shape)}".encode())
        if content.numel():  # torch cannot see the bytes of nothing
            found.update(content.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(content, Mapping | list | tuple):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        found.update(f"{type(content).__name__} {len(content)}".encode())
        for key, item in items:
            found.update(repr(key).encode("utf-8", "surrogatepass"))
            _add_to(found, item)
        _add_to(found, getattr(content, "_metadata", None))
    else:
        found.update(repr(content).encode("utf-8", "surrogatepass"))
