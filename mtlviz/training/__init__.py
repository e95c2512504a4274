"""Training: a generator of records, the same in the background, and the schedules in which tasks converge."""

from mtlviz.training.checkpoints import best_model
from mtlviz.training.loop import Training, train
from mtlviz.training.run import Run, start
from mtlviz.training.schedules import BornAgain, Continual, Joint, Sequential

__all__ = ["BornAgain", "Continual", "Joint", "Run", "Sequential", "Training", "best_model", "start", "train"]
