"""What the optimizer made of the gradients, beside the plain direction."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from mtlviz.figures.lines import needed
from mtlviz.figures.replay import CHANGES, changes_by_method


def effective_change(frame: pd.DataFrame, *, own_unit: bool = False) -> go.Figure:
    """Draw what the optimizer's step does to each task's loss, beside a step of that length along −Σ w g.

    Args:
        frame: as `analysis.effective_change` returns it.
        own_unit: draw the change in the unit of each task's own loss; else divided by ‖g_t‖ and the step's length,
            which compares tasks: −1 is straight down a task's own gradient, above 0 its loss grows.

    Returns:
        A panel for the plain direction and one for the optimizer, on the same axes, with a line per task.

    Raises:
        FrameError: a column is missing.
    """
    needed(frame, CHANGES, "effective_change")
    said = "change of each loss, to first order" + ("" if own_unit else ", ÷ (‖g‖ × length of the step)")
    says = f"{said}<br>below 0: improves; both steps have the same length"
    quantity, unit = ("change", "change of loss") if own_unit else ("relative", "change / (‖g‖ ‖Δθ‖)")
    return changes_by_method(frame, quantity, unit, "What did the optimizer make of the gradients?", says)
