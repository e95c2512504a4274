"""What a notebook shows while it runs: thin views that draw figures, and hold no numbers of their own."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlviz.widgets.figure_view import FigureView, view
from mtlviz.widgets.static import StaticFigure, static

if TYPE_CHECKING:
    from mtlviz.widgets.pareto_lab import ParetoLab
    from mtlviz.widgets.three_task_lab import ThreeTaskLab
    from mtlviz.widgets.transfer_lab import TransferLab

__all__ = ["FigureView", "ParetoLab", "StaticFigure", "ThreeTaskLab", "TransferLab", "static", "view"]

_LABS = {"ParetoLab": "pareto_lab", "ThreeTaskLab": "three_task_lab", "TransferLab": "transfer_lab"}


def __getattr__(name: str) -> Any:
    """A lab, imported when it is first used: it brings numba, which a figure does not need."""
    if name in _LABS:
        return getattr(import_module(f"mtlviz.widgets.{_LABS[name]}"), name)
    raise AttributeError(f"module 'mtlviz.widgets' has no attribute {name!r}")
