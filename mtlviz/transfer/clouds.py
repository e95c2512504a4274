"""A cloud of points in the plane, and the random numbers that it is made of, the same ones however it is moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import TransferError
from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import within

FAR = 1e6  # the largest coordinate and spread
_POINTS, _LABELS, _HELD_OUT = range(3)  # streams of random numbers


@dataclass(frozen=True)
class Cloud:
    """A Gaussian cloud of points.

    centre: its coordinates (x₁, x₂). along, across: its standard deviations along and across the boundary of its task.
    turn: the degrees by which these two directions are turned from the boundary, counterclockwise.

    Raises: TransferError for a coordinate or an angle that is not finite, or a spread that is not above 0.
    """

    centre: tuple[float, float]
    along: float = field(default=1.0, kw_only=True)
    across: float = field(default=1.0, kw_only=True)
    turn: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.centre, Sequence) or isinstance(self.centre, str) or len(self.centre) != 2:
            raise TransferError(f"centre must be two coordinates, (x_1, x_2), got {self.centre!r}")
        centre = tuple(within(f"coordinate {n} of centre", value, -FAR, FAR) for n, value in enumerate(self.centre, 1))
        object.__setattr__(self, "centre", centre)
        for name in ("along", "across"):
            value = within(name, getattr(self, name), -FAR, FAR)
            if value <= 0:
                raise TransferError(f"{name} is a standard deviation and must be above 0, got {value!r}")
        within("turn", self.turn, -360.0, 360.0)

    def axes(self, boundary: float) -> Floats:
        """A (2, 2) with x = centre + A z for z ~ N(0, I), where the boundary of the task has this angle in degrees."""
        angle = math.radians(boundary + self.turn)
        turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return turned * (self.along, self.across)

    def covariance(self, boundary: float) -> Floats:
        """The covariance (2, 2) of the cloud, where the boundary of its task has this angle in degrees."""
        axes = self.axes(boundary)
        return axes @ axes.T


def normal(boundary: float) -> Floats:
    """The normal (2,) of a boundary with this angle in degrees; the class +1 lies on its side."""
    angle = math.radians(boundary)
    return np.array([-math.sin(angle), math.cos(angle)])


@lru_cache(maxsize=12)
def draws(seeds: tuple[int, ...], task: int, count: int, held_out: bool = False) -> tuple[Floats, Floats]:
    """Normal numbers (S, count, 2) and uniform ones (S, count), of each seed; of a larger count, these are the first.

    So a sample moves with its cloud, and grows, rather than being drawn anew at each move of a slider.
    """
    stream = _HELD_OUT if held_out else _POINTS
    z = np.stack([np.random.default_rng([seed, task, stream]).standard_normal((count, 2)) for seed in seeds])
    u = np.stack([np.random.default_rng([seed, task, _LABELS]).random(count) for seed in seeds])
    z.flags.writeable = u.flags.writeable = False
    return z, u


def labels(x: Floats, boundary: float, flipped: NDArray[np.bool_] | bool = False) -> Floats:
    """The class of each point (..., 2) by a boundary through the origin, −1 or 1; of those `flipped` the other one."""
    return np.where((x @ normal(boundary) > 0) ^ flipped, 1.0, -1.0)
