"""When tasks help each other: task covariances, and small problems of transfer that are solved exactly; no torch."""

from typing import TYPE_CHECKING, Any

from mtlviz.transfer.covariance import TaskCovariance, covariance_cosine, covariance_score, covariances

if TYPE_CHECKING:
    from mtlviz.transfer.clouds import Cloud
    from mtlviz.transfer.three_task import ThreeTask

__all__ = ["Cloud", "TaskCovariance", "ThreeTask", "covariance_cosine", "covariance_score", "covariances"]


def __getattr__(name: str) -> Any:
    """The three-task picture, imported when it is first used: it brings numba, which covariances do not need."""
    if name not in ("Cloud", "ThreeTask"):
        raise AttributeError(f"module 'mtlviz.transfer' has no attribute {name!r}")
    from mtlviz.weighting.notice import compiling

    with compiling():
        from mtlviz.transfer import clouds, three_task
    return clouds.Cloud if name == "Cloud" else three_task.ThreeTask
