"""What a notebook shows while it runs: thin views that draw figures, and hold no numbers of their own."""

from typing import TYPE_CHECKING, Any

from mtlviz.widgets.figure_view import FigureView, view
from mtlviz.widgets.static import StaticFigure, static

if TYPE_CHECKING:
    from mtlviz.widgets.pareto_lab import ParetoLab
    from mtlviz.widgets.three_task_lab import ThreeTaskLab

__all__ = ["FigureView", "ParetoLab", "StaticFigure", "ThreeTaskLab", "static", "view"]


def __getattr__(name: str) -> Any:
    """A lab, imported when it is first used: it brings numba, which a figure does not need."""
    if name == "ParetoLab":
        from mtlviz.widgets.pareto_lab import ParetoLab

        return ParetoLab
    if name == "ThreeTaskLab":
        from mtlviz.widgets.three_task_lab import ThreeTaskLab

        return ThreeTaskLab
    raise AttributeError(f"module 'mtlviz.widgets' has no attribute {name!r}")
