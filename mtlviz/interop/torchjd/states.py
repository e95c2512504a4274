"""The state of a TorchJD object as tensors and plain values, and the object brought back to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchjd
from torch import nn

from mtlviz.errors import WeightingError

_PLAIN = (type(None), bool, int, float, str)
_KIND = "$torch"  # {"$torch": "tensor", ...}: what plain values have no word for
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_REBUILD = "_init_optim_problem"  # NashMTL's: its cvxpy problem is made anew from the numbers, which are kept


def state_of(given: nn.Module, name: str) -> dict[str, Any]:
    """A copy of all numbers of an object: parameters, buffers and plain attributes, in lists, tuples and dicts too.

    An optimizer of torch among the attributes is kept by its state, and tensors with their device.

    name: what an error calls the object. Raises: WeightingError naming an attribute of a `torchjd.Stateful` part that
    cannot be kept; functions, and what parts without a state hold, are settings.
    """
    names = {id(parameter): path for path, parameter in given.named_parameters()}
    state: dict[str, Any] = {}
    for path, part in given.named_modules():
        state[path] = {}
        for key, value in _own(part):
            try:
                state[path][key] = _kept(value, names)
            except _UnkeptError as error:
                if not isinstance(part, torchjd.Stateful) or callable(value) or hasattr(part, _REBUILD):
                    continue
                raise WeightingError(
                    f"{name} has a state that cannot be kept: {type(part).__name__}.{key} is or has {error}. Neither a "
                    "rewind nor a resumed run could go back to it; hold it as numbers, tensors, lists and dicts of "
                    "them, or a torch.optim.Optimizer, or train without a schedule and without a folder for the log."
                ) from error
    return state


def bring_back(given: nn.Module, state: dict[str, Any]) -> None:
    """Brings an object, also a new one, to a `state_of`; parameters stay the ones that an optimizer knows."""
    parameters = dict(given.named_parameters())
    for path, part in given.named_modules():  # all parameters first, as the state of an optimizer is cast to theirs
        for key in part._parameters.keys() & state[path].keys():
            part._parameters[key].data = _restored(state[path][key], parameters)
    for path, part in given.named_modules():
        for key in state[path].keys() - part._parameters.keys():
            setattr(part, key, _restored(state[path][key], parameters))
        if hasattr(part, _REBUILD) and part.step:  # it does so itself before its first step
            getattr(part, _REBUILD)()


def place(given: nn.Module, like: torch.Tensor) -> None:
    """Brings an object's numbers, also those that are plain attributes, to the dtype and device of `like`."""
    given.to(device=like.device, dtype=like.dtype)
    for part in given.modules():
        for key, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(part, key, value.to(like))


class _UnkeptError(Exception):
    """Says what was found that cannot be kept."""


def _own(part: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from part._parameters.items()
    yield from part._buffers.items()
    yield from ((key, value) for key, value in vars(part).items() if key not in _OF_EVERY_MODULE)


def _kept(value: Any, names: dict[int, str]) -> Any:
    """A copy of plain values and tensors alone. names: of the object's parameters, by their id."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return np.array(value)
    if isinstance(value, torch.Tensor):
        return {_KIND: "tensor", "is": value.detach().clone(), "on": str(value.device)}
    if isinstance(value, torch.dtype | torch.device):
        return {_KIND: type(value).__name__, "is": str(value).removeprefix("torch.")}
    if type(value) in (list, tuple):
        return type(value)(_kept(item, names) for item in value)
    if type(value) is dict and _KIND not in value and all(type(key) in _PLAIN for key in value):
        return {key: _kept(item, names) for key, item in value.items()}
    if isinstance(value, torch.optim.Optimizer) and getattr(torch.optim, type(value).__name__, None) is type(value):
        learned = [[names.get(id(parameter)) for parameter in group["params"]] for group in value.param_groups]
        if not any(None in group for group in learned):
            state = _kept(dict(value.state_dict()), names)
            return {_KIND: "optimizer", "is": type(value).__name__, "of": learned, "state": state}
    raise _UnkeptError(f"a {type(value).__module__}.{type(value).__qualname__}")


def _restored(value: Any, parameters: dict[str, nn.Parameter]) -> Any:
    """What was kept. parameters: the object's, by their names."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return type(value)(_restored(item, parameters) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind is None:
        return {key: _restored(item, parameters) for key, item in value.items()}
    if kind == "tensor":
        return value["is"].to(value["on"], copy=True)
    if kind == "optimizer":
        groups = [{"params": [parameters[name] for name in group]} for group in value["of"]]
        made = getattr(torch.optim, value["is"])(groups)
        made.load_state_dict(_restored(value["state"], parameters))
        return made
    return getattr(torch, value["is"]) if kind == "dtype" else torch.device(value["is"])
