"""Models that share parameters between tasks."""

from mtlviz.models.shared_trunk import SharedTrunk, linear_heads

__all__ = ["SharedTrunk", "linear_heads"]
