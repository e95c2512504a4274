"""A figure as HTML in the notebook, for runs that no browser watches (nbclient, papermill, nbconvert --execute)."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
import plotly.io
from plotly.basedatatypes import BaseFigure
from plotly.offline import get_plotlyjs

from mtlviz.widgets import library
from mtlviz.widgets.display import caption

_CONFIG = {"responsive": True, "displaylogo": False, "showTips": False, "showSendToCloud": False, "plotlyServerURL": ""}


@dataclass(frozen=True)
class StaticFigure:
    """A figure that displays as HTML, interactive wherever the notebook is opened, without kernel or network.

    Attributes:
        html: the HTML, with plotly.js in it if it is the one that brings it for its notebook.
        caption: the figure's title, for places that show plain text only.
    """

    html: str
    caption: str

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.caption}


def static(figure: BaseFigure, *, height: int | None = None, with_library: bool | None = None) -> StaticFigure:
    """The figure as HTML that a saved notebook keeps; `FigureView` is for notebooks that somebody watches.

    Args:
        figure: a plotly figure.
        height: height in pixels; None takes the figure's `layout.height`, or 400.
        with_library: bring plotly.js (4.8 MB) along, which a notebook needs once, before its first figure. None brings
            it with the first static figure of this kernel. Give True to the first one after its output was cleared.
    """
    sized = go.Figure(figure).update_layout(height=height or figure.layout.height or 400)
    plot = plotly.io.to_html(sized, config=_CONFIG, include_plotlyjs=False, full_html=False, default_width="100%")
    brings = library.first("static") if with_library is None else with_library
    script = f"<script>{get_plotlyjs()}</script>\n" if brings else ""
    return StaticFigure(script + plot, caption=caption(figure))
