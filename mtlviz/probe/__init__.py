"""Measuring a training loop of the user's own from inside: what its tasks' gradients do to each other."""

from mtlviz.probe.probe import Probe

__all__ = ["Probe"]
