"""mtlviz shows why multi-task training goes wrong, live, with evidence.

The map of the house: `Task` and `Problem` say what is learned; `train` (a generator of records) and `start` (the same in
the background) learn it with a `weighting`; a `RunLog` keeps what happened; `analysis` turns the log into frames,
`figures` turns frames into figures, and `dashboard` shows them live in JupyterLab. `report` writes them to one file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlviz import analysis, data, figures, gradients, models, runlog, training, weighting, widgets
    from mtlviz.data.problem import Problem
    from mtlviz.report import report
    from mtlviz.runlog.log import RunLog
    from mtlviz.runlog.records import Event, Measure, Step, Validation
    from mtlviz.task import Task
    from mtlviz.training.loop import Training, train
    from mtlviz.training.run import Run, start
    from mtlviz.widgets.dashboard import Dashboard, dashboard
    from mtlviz.widgets.figure_view import FigureView, view

__version__ = "0.1.0"

_ROOMS = ("analysis", "data", "figures", "gradients", "models", "runlog", "training", "weighting", "widgets")
_NAMES = {
    "Dashboard": "mtlviz.widgets.dashboard",
    "Event": "mtlviz.runlog.records",
    "FigureView": "mtlviz.widgets.figure_view",
    "Measure": "mtlviz.runlog.records",
    "Problem": "mtlviz.data.problem",
    "Run": "mtlviz.training.run",
    "RunLog": "mtlviz.runlog.log",
    "Step": "mtlviz.runlog.records",
    "Task": "mtlviz.task",
    "Training": "mtlviz.training.loop",
    "Validation": "mtlviz.runlog.records",
    "dashboard": "mtlviz.widgets.dashboard",
    "report": "mtlviz.report",
    "start": "mtlviz.training.run",
    "train": "mtlviz.training.loop",
    "view": "mtlviz.widgets.figure_view",
}

__all__ = [*_ROOMS, *_NAMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used, so that a log opens without importing torch."""
    if name in _ROOMS:
        return import_module(f"mtlviz.{name}")
    if name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mtlviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
