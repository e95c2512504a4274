"""Training: a generator of records, and the same in the background."""

from mtlviz.training.loop import Training, train
from mtlviz.training.run import Run, start

__all__ = ["Run", "Training", "start", "train"]
