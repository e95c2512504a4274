"""How the controls of a lab stand: in rows that wrap, each as wide as it says, figures side by side where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

GRID = {"grid_template_columns": "repeat(auto-fit, minmax(min(430px, 100%), 1fr))", "grid_gap": "8px", "width": "auto"}
"""The layout of figures side by side where the cell is wide enough, below each other where it is not."""

_ROW = {"flex_flow": "row wrap", "align_items": "center", "width": "auto"}


def row(*parts: ipywidgets.Widget) -> ipywidgets.HBox:
    """Controls beside each other, and on further lines where there is no room."""
    return ipywidgets.HBox(list(parts), layout=ipywidgets.Layout(**_ROW))


def sized(width: str, label: str, **layout: str) -> dict[str, Any]:
    """The arguments of a control that is this wide in all, and whose description is as wide as `label`."""
    return {"style": {"description_width": label}, "layout": ipywidgets.Layout(width=width, **layout)}


def dropdown(options: Sequence[Any], name: str, width: str, label: str = "66px") -> ipywidgets.Dropdown:
    """A choice of one among `options`, or among the second parts of (shown, value) pairs."""
    return ipywidgets.Dropdown(options=options, description=name, **sized(width, label))
