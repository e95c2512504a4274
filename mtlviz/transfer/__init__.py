"""When tasks help each other: task covariances, and small problems of transfer that are solved exactly; no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlviz.transfer.covariance import TaskCovariance, covariance_cosine, covariance_score, covariances

if TYPE_CHECKING:
    from mtlviz.transfer.clouds import Cloud
    from mtlviz.transfer.generator import Planted, PlantedTask, PlantedTasks, three_sources
    from mtlviz.transfer.linear import SharedFit, shared_fit, single_fit
    from mtlviz.transfer.relu import relu_fit
    from mtlviz.transfer.reweighting import svd_task_weights
    from mtlviz.transfer.sources import best_sources, source_differences, source_settings, source_sweep
    from mtlviz.transfer.three_task import ThreeTask

__all__ = [
    "Cloud",
    "Planted",
    "PlantedTask",
    "PlantedTasks",
    "SharedFit",
    "TaskCovariance",
    "ThreeTask",
    "best_sources",
    "covariance_cosine",
    "covariance_score",
    "covariances",
    "relu_fit",
    "shared_fit",
    "single_fit",
    "source_differences",
    "source_settings",
    "source_sweep",
    "svd_task_weights",
    "three_sources",
]

_HOMES = {
    "generator": ("Planted", "PlantedTask", "PlantedTasks", "three_sources"),
    "linear": ("SharedFit", "shared_fit", "single_fit"),
    "relu": ("relu_fit",),
    "reweighting": ("svd_task_weights",),
    "sources": ("best_sources", "source_differences", "source_settings", "source_sweep"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What covariances do not need, imported when it is first used: scipy's optimizers, or numba for the picture."""
    if name in _HOME:
        return getattr(import_module(f"mtlviz.transfer.{_HOME[name]}"), name)
    if name not in ("Cloud", "ThreeTask"):
        raise AttributeError(f"module 'mtlviz.transfer' has no attribute {name!r}")
    from mtlviz.weighting.notice import compiling

    with compiling():
        from mtlviz.transfer import clouds, three_task
    return clouds.Cloud if name == "Cloud" else three_task.ThreeTask
