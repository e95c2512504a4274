"""Models that share parameters between tasks."""

from mtlviz.models.aligned_trunk import AlignedTrunk, aligned
from mtlviz.models.shared_trunk import SharedTrunk, linear_heads

__all__ = ["AlignedTrunk", "SharedTrunk", "aligned", "linear_heads"]
