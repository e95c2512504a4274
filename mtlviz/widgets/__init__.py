"""What a notebook shows while it runs: thin views that draw figures, and hold no numbers of their own."""

from mtlviz.widgets.figure_view import FigureView, view
from mtlviz.widgets.static import StaticFigure, static

__all__ = ["FigureView", "StaticFigure", "static", "view"]
