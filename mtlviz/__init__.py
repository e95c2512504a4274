"""mtlviz shows why multi-task training goes wrong, live, with evidence.

The map of the house: `Task` and `Problem` say what is learned; `train` (a generator of records) and `start` (the same
in the background) learn it with a `weighting`; a `RunLog` keeps what happened; `analysis` turns the log into frames,
`figures` turns frames into figures, `dashboard` shows them live in JupyterLab and `report` writes them to one file.
`Probe` records a training loop of your own. `experiments` trains many runs and puts them in one table. `pareto` holds
problems of two objectives in the plane, and the descent of every method on them. `transfer` asks when tasks help each
other: task covariances, and small problems that are solved exactly; `TransferLab` shows what experiments say of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlviz import (
        analysis,
        data,
        experiments,
        figures,
        gradients,
        interop,
        metrics,
        models,
        pareto,
        probe,
        report,
        runlog,
        training,
        transfer,
        weighting,
        widgets,
    )
    from mtlviz.data.problem import Problem
    from mtlviz.probe.probe import Probe
    from mtlviz.runlog.log import RunLog
    from mtlviz.runlog.records import Event, Measure, Step, Validation
    from mtlviz.soft_labels import SoftLabels
    from mtlviz.task import Task
    from mtlviz.training.loop import Training, train
    from mtlviz.training.run import Run, start
    from mtlviz.widgets.dashboard import Dashboard, dashboard
    from mtlviz.widgets.figure_view import FigureView, view
    from mtlviz.widgets.pareto_lab import ParetoLab
    from mtlviz.widgets.three_task_lab import ThreeTaskLab
    from mtlviz.widgets.transfer_lab import TransferLab

__version__ = "0.1.0"

__all__ = [
    "Dashboard",
    "Event",
    "FigureView",
    "Measure",
    "ParetoLab",
    "Probe",
    "Problem",
    "Run",
    "RunLog",
    "SoftLabels",
    "Step",
    "Task",
    "ThreeTaskLab",
    "Training",
    "TransferLab",
    "Validation",
    "analysis",
    "dashboard",
    "data",
    "experiments",
    "figures",
    "gradients",
    "interop",
    "metrics",
    "models",
    "pareto",
    "probe",
    "report",
    "runlog",
    "start",
    "train",
    "training",
    "transfer",
    "view",
    "weighting",
    "widgets",
]

_HOMES = {
    "data.problem": ("Problem",),
    "probe.probe": ("Probe",),
    "runlog.log": ("RunLog",),
    "runlog.records": ("Event", "Measure", "Step", "Validation"),
    "soft_labels": ("SoftLabels",),
    "task": ("Task",),
    "training.loop": ("Training", "train"),
    "training.run": ("Run", "start"),
    "widgets.dashboard": ("Dashboard", "dashboard"),
    "widgets.figure_view": ("FigureView", "view"),
    "widgets.pareto_lab": ("ParetoLab",),
    "widgets.three_task_lab": ("ThreeTaskLab",),
    "widgets.transfer_lab": ("TransferLab",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used, so that a log opens without importing torch."""
    if name in _HOME:
        value = getattr(import_module(f"mtlviz.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in __all__:
        return import_module(f"mtlviz.{name}")
    raise AttributeError(f"module 'mtlviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
