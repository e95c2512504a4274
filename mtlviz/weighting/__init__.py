"""The weightings, by name; each is imported when it is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlviz.errors import WeightingError

if TYPE_CHECKING:
    from mtlviz.weighting.dwa import DWA
    from mtlviz.weighting.equal import Equal
    from mtlviz.weighting.method import Weighting
    from mtlviz.weighting.mgda import MGDA
    from mtlviz.weighting.uncertainty import UncertaintyWeighting

_CLASSES = {"equal": "Equal", "mgda": "MGDA", "uncertainty": "UncertaintyWeighting", "dwa": "DWA"}
_MODULES = {"Weighting": "method"} | {name: module for module, name in _CLASSES.items()}

__all__ = ["DWA", "METHODS", "MGDA", "Equal", "UncertaintyWeighting", "Weighting", "named"]


class _Methods(Mapping[str, "type[Weighting]"]):
    """Method names to classes; importing one imports numba, so that waits for its first use."""

    def __getitem__(self, name: str) -> type[Weighting]:
        class_name = _CLASSES[name]  # before the import, so that an unknown name is a KeyError
        return getattr(import_module(f"mtlviz.weighting.{name}"), class_name)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)

    def __repr__(self) -> str:
        return f"METHODS({', '.join(_CLASSES)})"


METHODS: Mapping[str, type[Weighting]] = _Methods()


def named(name: str) -> Weighting:
    """A fresh weighting with its default constants.

    Raises: WeightingError for an unknown name, listing the choices.
    """
    if name not in METHODS:
        raise WeightingError(f"unknown weighting {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]()


def __getattr__(name: str) -> Any:
    """A class by its own name, such as `weighting.MGDA`."""
    if name in _MODULES:
        return getattr(import_module(f"mtlviz.weighting.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mtlviz.weighting' has no attribute {name!r}")
