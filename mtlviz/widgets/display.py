"""A widget displayed so that a saved notebook still shows its last picture."""

from __future__ import annotations

import base64
import html
import re
import threading
import uuid
from typing import Any

from IPython.display import display, update_display
from ipywidgets import DOMWidget
from plotly.basedatatypes import BaseFigure

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LIVE = "mtlviz-live"  # CSS class of a widget while it lives in the page
NO_PICTURE = "No picture was kept: no browser showed this view. Without a browser, use mtlviz.widgets.static(figure)."

# The outputs of one display are neighbours: the widget, this marker, the picture. While the widget lives, the picture
# hides; in a reopened notebook JupyterLab's "model not found" hides and the picture shows. A second output, because
# JupyterLab shows no other type of an output that holds a widget, and redraws the widget whenever its output changes.
_CHILD = ".jp-OutputArea-child"
_MARKER = f"""<style class="mtlviz-picture-follows">
{_CHILD}:has(.mtlviz-picture-follows) {{ display: none }}
{_CHILD}:has(.{LIVE}) + {_CHILD}:has(.mtlviz-picture-follows) + {_CHILD} {{ display: none }}
{_CHILD}:has(> .jp-OutputArea-output.jupyter-widgets):has(+ {_CHILD} .mtlviz-picture-follows) {{ display: none }}
</style>"""


def caption(figure: BaseFigure) -> str:
    """What stands for a figure in plain text: its title, or the question that it answers."""
    meta = figure.layout.meta
    asked = meta.get("question") if isinstance(meta, dict) else None
    text = re.sub(r"<[^>]*>", " ", str(figure.layout.title.text or asked or ""))
    return " ".join(html.unescape(text).split()) or "A figure of mtlviz"


class KeptDisplay:
    """Displays one widget together with a picture of it, which takes its place where the widget no longer lives.

    The picture is an output of its own next to the widget and hidden while the widget lives, so that a new picture
    never redraws the widget. Without pictures (no browser) the outputs say so in plain text.

    Args:
        widget: the widget; a box with many others too.
        caption: what stands for the widget in plain text, such as its title.
    """

    def __init__(self, widget: DOMWidget, caption: str) -> None:
        self.widget = widget
        self.caption = caption
        self._lock = threading.Lock()
        self._display_id = f"mtlviz-{uuid.uuid4().hex}"
        self._picture: bytes | None = None
        self._displayed = False
        widget.add_class(LIVE)

    def display(self) -> None:
        """Shows the widget in the current cell; call it from `_ipython_display_`."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({WIDGET_VIEW: view, "text/plain": self.caption}, raw=True)
        display({"text/html": _MARKER, "text/plain": ""}, raw=True)
        with self._lock:
            self._displayed = True
            display(self._bundle(), raw=True, display_id=self._display_id)

    def keep(self, picture: bytes) -> None:
        """Puts a PNG beside the widget, wherever it has been displayed; from any thread."""
        with self._lock:
            self._picture = picture
            if self._displayed:
                update_display(self._bundle(), raw=True, display_id=self._display_id)

    def _bundle(self) -> dict[str, Any]:
        if self._picture is None:
            return {"text/plain": NO_PICTURE}
        return {"image/png": base64.b64encode(self._picture).decode(), "text/plain": self.caption}
