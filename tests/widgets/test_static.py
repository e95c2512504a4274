import re

import nbformat
import plotly.graph_objects as go
import pytest
from nbclient import NotebookClient

from mtlviz.widgets import static


def test_a_notebook_run_without_a_browser_carries_its_library_once():
    cells = [
        "import plotly.graph_objects as go\nfrom mtlviz.widgets import FigureView, static",
        "figure = go.Figure(go.Scatter(y=[1, 2]))\nstatic(figure)",
        "static(figure)",
        "FigureView(figure)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    first, second = (cell.outputs[0].data["text/html"] for cell in notebook.cells[1:3])
    assert len(first) > 4_000_000
    assert len(second) < 100_000
    for html in (first, second):
        assert "Plotly.newPlot" in html
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)
    assert "static(figure)" in notebook.cells[3].outputs[-1].data["text/plain"]


@pytest.mark.parametrize("height", [None, 250])
def test_height_and_hostile_names(height):
    figure = go.Figure(go.Scatter(y=[1, 2], name="</script><script>alert(1)</script>"), layout={"height": 333})
    html = static(figure, height=height, with_library=False).html
    assert f"height:{height or 333}px" in html.replace(" ", "")
    assert "alert(1)</script>" not in html
    assert len(html) < len(static(figure, with_library=True).html) - 4_000_000
