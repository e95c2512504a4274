"""From losses to per-task gradients on what the tasks share, their Gramians, and the methods that need them whole."""

from mtlviz.gradients.adatask import AdaTask
from mtlviz.gradients.aggregator import Aggregator
from mtlviz.gradients.general import General
from mtlviz.gradients.graddrop import GradDrop
from mtlviz.gradients.shared import SharedGradients, TaskGradients

__all__ = ["AdaTask", "Aggregator", "General", "GradDrop", "SharedGradients", "TaskGradients"]
