"""From losses to per-task gradients on what the tasks share, and their Gramians."""

from mtlviz.gradients.shared import SharedGradients, TaskGradients

__all__ = ["SharedGradients", "TaskGradients"]
