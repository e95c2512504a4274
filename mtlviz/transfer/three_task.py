"""The three-task picture: tasks 2 and 3 share a boundary, and yet one helps task 1 and the other hurts it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mtlviz.errors import TransferError
from mtlviz.intervals import mean_interval, verdict
from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole, within
from mtlviz.transfer.clouds import Cloud, draws, labels, normal
from mtlviz.transfer.held_out import cloud_accuracy
from mtlviz.transfer.shared_direction import Fits, shared_direction

TASKS = ("task 1", "task 2", "task 3")
TRAINED = ("alone", "with 2", "with 3", "all")
SEEDS = 100
MOST = 10_000  # samples of a task
LEAST_RIDGE = 0.01  # below, the loss has more valleys than the scan over the angle tells apart

_GROUPS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (1, 1, 1)], dtype=bool)
_ROWS = (*(("alone", t, t) for t in range(3)), *(("with 2", 3, t) for t in (0, 1)), *(("with 3", 4, t) for t in (0, 2)))
_ROWS = (*_ROWS, *(("all", 5, t) for t in range(3)))  # trained, group, task

_USUAL = (
    Cloud((0.0, 0.0), along=1.5, across=0.8),
    Cloud((-4.5, -2.6), along=0.2, across=2.0),
    Cloud((5.2, 3.0), along=2.0, across=0.4),
)


@dataclass(frozen=True)
class ThreeTask:
    """Three binary classifications in the plane that share one direction, fitted exactly.

    The model has hard sharing of the least capacity, r = 1: task t has the logit a_t ⟨b, x⟩ + c_t, with one direction b
    for all and a slope and an intercept of its own. Trained together, tasks pull at b, and each pulls the harder the
    more its points along its boundary say which way that boundary runs.

    clouds: where the points of each task lie. boundary: the angle in degrees of task 1's boundary, shared_boundary: of
        that of tasks 2 and 3; both run through the origin, and labels are +1 to the left of their direction.
    samples: how many training points each task has. noise: the share of training labels that are flipped; accuracy is
        held against the true ones. ridge: λ in the loss Σ_t (Σ_i log(1 + exp(−y_i logit_i)) + λ/2 a_t²), without
        which data that can be separated have no best fit; alone it is scikit-learn's
        `LogisticRegression(C=1 / ridge)`.

    A sample may hold points of one class only, where a task has few or its cloud lies to one side: the task is then
    fitted by that class everywhere, and pulls nowhere.

    Raises: TransferError for a number out of range, or other than three clouds or counts.

    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, figure 2 (the picture) and section 2 (the model, r = 1).
    Differs: the paper's numbers are not known; the settings here are ours. It minimises squared errors, this the
    logistic loss, with intercepts and a ridge.
    """

    clouds: tuple[Cloud, Cloud, Cloud] = _USUAL
    boundary: float = field(default=45.0, kw_only=True)
    shared_boundary: float = field(default=30.0, kw_only=True)
    samples: tuple[int, int, int] = field(default=(8, 24, 24), kw_only=True)
    noise: float = field(default=0.0, kw_only=True)
    ridge: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        for name, what in (("clouds", "Cloud"), ("samples", "number")):
            value: Any = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable) or len(tuple(value)) != 3:
                raise TransferError(f"{name} must be three, a {what} for each task, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        if any(not isinstance(cloud, Cloud) for cloud in self.clouds):
            raise TransferError(f"clouds must be three mtlviz.transfer.Cloud, got {self.clouds!r}")
        for task, count in zip(TASKS, self.samples, strict=True):
            if whole(f"samples of {task}", count, 2) > MOST:
                raise TransferError(f"samples of {task} must be {MOST:,} or fewer, got {count:,}")
        for name in ("boundary", "shared_boundary"):
            within(name, getattr(self, name), -360.0, 360.0)
        within("noise", self.noise, 0.0, 0.5)
        within("ridge", self.ridge, LEAST_RIDGE, 1e6)

    @property
    def angles(self) -> tuple[float, float, float]:
        """The angle of each task's boundary, in degrees."""
        return self.boundary, self.shared_boundary, self.shared_boundary

    def sample(self, seed: int = 0) -> dict[str, tuple[Floats, Floats]]:
        """Each task's training points (n, 2) and their labels (n,), −1 or 1.

        Raises: TransferError for a seed that is no whole number from 0.
        """
        whole("seed", seed, 0)
        return {name: self._one(seed, t, self.samples[t]) for t, name in enumerate(TASKS)}

    def held_out(self, seed: int = 0, *, count: int = 1000) -> dict[str, tuple[Floats, Floats]]:
        """Further points (count, 2) of each task with their true labels (count,), that are in no training sample.

        Raises: TransferError for a seed below 0 or a count below 1.
        """
        whole("seed", seed, 0)
        whole("count", count, 1)
        return {name: self._one(seed, t, count, held_out=True) for t, name in enumerate(TASKS)}

    def points(self, seed: int = 0) -> pd.DataFrame:
        """The training sample as a frame [task, x_1, x_2, label]. Raises: as `sample` does."""
        sample = self.sample(seed)
        x = np.concatenate([x for x, _ in sample.values()])
        parts = {"x_1": x[:, 0], "x_2": x[:, 1], "label": np.concatenate([y for _, y in sample.values()]).astype(int)}
        return pd.DataFrame({"task": _tasks(np.repeat(np.arange(3), self.samples)), **parts})

    def boundaries(self, seed: int = 0) -> pd.DataFrame:
        """The true boundaries, and those that are learned from the sample of this seed.

        Returns: a row per line [trained, task, x_1, x_2, angle]: trained is "true" or one of `TRAINED`; (x_1, x_2) is
            the point of the line next to the centre of the task's cloud; angle is in degrees, from 0 to 180. A task of
            which the sample has one class only has no learned boundary.

        Raises: as `sample` does.
        """
        whole("seed", seed, 0)
        fits = _fitted(self, (seed,))
        rows: list[tuple[Any, ...]] = [
            ("true", t, *_nearest(self.clouds[t].centre, normal(angle), 0.0)) for t, angle in enumerate(self.angles)
        ]
        for trained, g, t in _ROWS:
            slope, intercept = fits.slope[0, g, t], fits.intercept[0, g, t]
            if slope != 0:
                direction = np.array([np.cos(fits.angle[0, g]), np.sin(fits.angle[0, g])])
                rows.append((trained, t, *_nearest(self.clouds[t].centre, direction, intercept / slope)))
        frame = pd.DataFrame(rows, columns=["trained", "task", "x_1", "x_2", "angle"])
        return frame.assign(trained=_trained(frame["trained"], "true"), task=_tasks(frame["task"]))

    def accuracy(self, seeds: int | Iterable[int] = SEEDS, *, confidence: float = 0.95) -> pd.DataFrame:
        """How well each task does alone, with another and with all, on average over training samples.

        seeds: how many samples, or which. confidence: of the intervals, by Student's t over the seeds.

        Returns: a row per trained group and task of it [trained, task, accuracy, low, high, gain, gain_low, gain_high,
            verdict, seeds]. accuracy is exact for each sample: the probability of the right class, from 0 to 1, over
            the whole cloud. gain is that over training alone, taken per seed, with its own interval; verdict is
            "positive", "negative" or "undecided" by that interval, and "" for the task alone.

        Raises: TransferError for no seeds, one below 0 or twice, or a confidence outside (0, 1).
        """
        numbers = _numbered(seeds)
        if not 0 < within("confidence", confidence, 0.0, 1.0) < 1:
            raise TransferError(f"confidence must be between 0 and 1, got {confidence!r}")
        fits = _fitted(self, numbers)
        rows: list[tuple[Any, ...]] = []
        alone = [self._accuracy(fits, t, t) for t in range(3)]
        for trained, g, t in _ROWS:
            values = self._accuracy(fits, g, t)
            gained = ("",) if trained == "alone" else ()
            gain = (np.nan,) * 3 if gained else mean_interval(values - alone[t], confidence)
            said = gained or (verdict(*gain[1:]),)
            rows.append((trained, t, *mean_interval(values, confidence), *gain, *said, len(numbers)))
        names = ["trained", "task", "accuracy", "low", "high", "gain", "gain_low", "gain_high", "verdict", "seeds"]
        frame = pd.DataFrame(rows, columns=names)
        return frame.assign(trained=_trained(frame["trained"]), task=_tasks(frame["task"]))

    def turns(self, seeds: int | Iterable[int] = SEEDS) -> pd.DataFrame:
        """By how many degrees each learned boundary is turned from the true one of its task, sample by sample.

        Returns: a row per trained group, task of it and seed [trained, task, seed, turn]: turn is above 0
            counterclockwise, from −180 to 180; beyond 90 the two classes have changed sides. Samples of one class only
            have no boundary and are left out.

        Raises: as `accuracy` does.
        """
        numbers = _numbered(seeds)
        fits = _fitted(self, numbers)
        parts = []
        for trained, g, t in _ROWS:
            facing = fits.angle[:, g] + np.where(fits.slope[:, g, t] < 0, np.pi, 0.0)  # of the learned normal
            turn = (np.degrees(facing) - 90.0 - self.angles[t] + 180.0) % 360.0 - 180.0
            kept = fits.slope[:, g, t] != 0
            part = {"trained": trained, "task": t, "seed": np.array(numbers)[kept], "turn": turn[kept]}
            parts.append(pd.DataFrame(part))
        frame = pd.concat(parts, ignore_index=True)
        return frame.assign(trained=_trained(frame["trained"]), task=_tasks(frame["task"]))

    @property
    def offset(self) -> float:
        """By how many degrees the boundary of tasks 2 and 3 is turned from that of task 1, from −180 to 180."""
        return (self.shared_boundary - self.boundary + 180.0) % 360.0 - 180.0

    def _one(self, seed: int, task: int, count: int, *, held_out: bool = False) -> tuple[Floats, Floats]:
        x, y = self._drawn((seed,), task, count, held_out=held_out)
        return x[0], y[0]

    def _drawn(self, seeds: tuple[int, ...], task: int, count: int, *, held_out: bool = False) -> tuple[Floats, Floats]:
        """Points (S, count, 2) of a task, and their labels (S, count)."""
        z, u = draws(seeds, task, count, held_out)
        cloud, angle = self.clouds[task], self.angles[task]
        x = z @ cloud.axes(angle).T + cloud.centre
        return x, labels(x, angle, False if held_out else u < self.noise)

    def fits(self, seeds: tuple[int, ...]) -> Fits:
        """The exact fits of these samples, of the groups (task 1, 2, 3, 1 and 2, 1 and 3, all) in this order."""
        drawn = [self._drawn(seeds, t, self.samples[t]) for t in range(3)]
        x, y = (np.concatenate([pair[part] for pair in drawn], axis=1) for part in (0, 1))
        return shared_direction(x, y, self.samples, _GROUPS, ridge=self.ridge)

    def _accuracy(self, fits: Fits, group: int, task: int) -> Floats:
        """The exact accuracy (S,) of a task in a group, for each sample."""
        cloud, angle = self.clouds[task], self.angles[task]
        direction = np.stack([np.cos(fits.angle[:, group]), np.sin(fits.angle[:, group])], axis=1)  # (S, 2)
        weights, intercept = fits.slope[:, group, task, None] * direction, fits.intercept[:, group, task]
        return cloud_accuracy(np.array(cloud.centre), cloud.covariance(angle), normal(angle), weights, intercept)


@lru_cache(maxsize=8)
def _fitted(picture: ThreeTask, seeds: tuple[int, ...]) -> Fits:
    """As `ThreeTask.fits`; accuracy, turns and boundaries are three views of the same fits."""
    return picture.fits(seeds)


def _nearest(centre: tuple[float, float], direction: Floats, offset: float) -> tuple[float, float, float]:
    """The point of the line ⟨direction, x⟩ + offset = 0 next to the centre, and its angle in degrees."""
    x_1, x_2 = np.array(centre) - (direction @ np.array(centre) + offset) * direction
    return float(x_1), float(x_2), float(np.rad2deg(np.arctan2(-direction[0], direction[1])) % 180.0)


def _numbered(seeds: Any) -> tuple[int, ...]:
    """The seeds: 0 to n − 1, or those given. Raises: TransferError for none, one below 0 or one that stands twice."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        return tuple(range(whole("seeds", seeds, 1)))
    numbers = tuple(whole("a seed", seed, 0) for seed in seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise TransferError(f"seeds must be different numbers, at least one; got {numbers}")
    return numbers


def _tasks(places: Any) -> Any:
    return pd.Categorical.from_codes(np.asarray(places, dtype=np.int64), categories=pd.Index(TASKS))


def _trained(names: Iterable[str], *further: str) -> Any:
    return pd.Categorical(list(names), categories=[*further, *TRAINED])
