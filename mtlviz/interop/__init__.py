"""Bridges to other libraries: optional extras, imported only when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mtlviz.interop.lightning as lightning
    import mtlviz.interop.tensorboard as tensorboard
    import mtlviz.interop.torchjd as torchjd
    import mtlviz.interop.transformers as transformers

__all__ = ["lightning", "tensorboard", "torchjd", "transformers"]


def __getattr__(name: str) -> Any:
    """A bridge, such as `interop.torchjd`. Raises: ImportError that says what to install."""
    if name in __all__:
        return import_module(f"mtlviz.interop.{name}")
    raise AttributeError(f"module 'mtlviz.interop' has no attribute {name!r}")
