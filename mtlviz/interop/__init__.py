"""Bridges to other libraries: optional extras, imported only when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlviz.interop import tensorboard, torchjd

__all__ = ["tensorboard", "torchjd"]


def __getattr__(name: str) -> Any:
    """A bridge, such as `interop.torchjd`. Raises: ImportError that says what to install."""
    if name in __all__:
        return import_module(f"mtlviz.interop.{name}")
    raise AttributeError(f"module 'mtlviz.interop' has no attribute {name!r}")
