"""`python -m mtlviz`: see `mtlviz.cli`."""

from mtlviz.cli import app

app(prog_name="mtlviz")
