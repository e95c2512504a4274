"""Tasks with planted relations: covariances, rotations and true parameters that are equal, near or far by design."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from mtlviz.errors import TransferError, unknown
from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole, within

Teacher = Literal["linear", "relu"]
Kind = Literal["regression", "classification"]
Pair = tuple[Floats, Floats]

_THETA, _ASIDE, _ROTATION, _INPUTS, _NOISE = range(1, 6)  # streams of random numbers


@dataclass(frozen=True)
class PlantedTask:
    """One task: how many samples it has, and how it relates to the others of its set.

    samples: m. cosine: of its θ with the base θ₀ that all tasks of a set are planted around.
    aside: which direction θ leaves θ₀ in where the cosine is not ±1; tasks of the same number leave it in the same.
    scales: which diagonal D it has; D_s is κ on the s-th d/10 coordinates and 1 elsewhere, so that tasks of different
        numbers have their variance in different places. rotation: which orthonormal Q it has.
    turned: whether θ turns with the inputs: in coordinates of its own, Qᵀx, the task is then that of rotation 0.
    noise: for a regression, the standard deviation of the label noise as a share of that of the labels; for a
        classification, the share of labels that are drawn anew at random, half of which come out right.

    Raises: TransferError for a number out of range.
    """

    samples: int = 100
    cosine: float = field(default=1.0, kw_only=True)
    aside: int = field(default=0, kw_only=True)
    scales: int = field(default=0, kw_only=True)
    rotation: int = field(default=0, kw_only=True)
    turned: bool = field(default=False, kw_only=True)
    noise: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        whole("samples", self.samples, 1)
        within("cosine", self.cosine, -1.0, 1.0)
        within("noise", self.noise, 0.0, math.inf)
        for name in ("aside", "scales", "rotation"):
            whole(name, getattr(self, name), 0)


@dataclass(frozen=True)
class PlantedTasks:
    """Linear or ReLU tasks on Gaussian inputs X = R D Qᵀ, R iid N(0, 1), with y = Xθ or max(Xθ, 0).

    tasks: {name: PlantedTask}. features: d, from 2. condition: κ, the largest entry of D over the smallest; the
    population's second moment is Q D² Qᵀ, of condition κ². D is scaled so that a coordinate has variance 1 on average.
    teacher: "linear" or "relu". kind: "regression", or "classification" with labels +1 and −1, the sign of Xθ.

    Raises: TransferError for no task, a number out of range, more scales than d/10 coordinates fit into d, noise above
    1 in a classification, or a classification by a ReLU teacher.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, the synthetic experiment of figure 3.
    Differs: the paper prints X = R Q D. With Gaussian R, RQ has the law of R, so that the rotation could not be seen
    and sources of other rotation would be those of the same; here X = R D Qᵀ. The paper does not scale D. Rotations
    and θ₀ are drawn uniformly; the paper does not say how. A positive ReLU has the sign of Xθ, so a classification
    by a ReLU teacher would be the linear one.
    """

    tasks: Mapping[str, PlantedTask]
    features: int = field(default=20, kw_only=True)
    condition: float = field(default=100.0, kw_only=True)
    teacher: Teacher = field(default="linear", kw_only=True)
    kind: Kind = field(default="regression", kw_only=True)

    def __post_init__(self) -> None:
        whole("features", self.features, 2)
        within("condition", self.condition, 1.0, math.inf)
        if self.teacher not in get_args(Teacher):
            raise TransferError(unknown("teacher", self.teacher, get_args(Teacher)))
        if self.kind not in get_args(Kind):
            raise TransferError(unknown("kind", self.kind, get_args(Kind)))
        if self.teacher == "relu" and self.kind == "classification":
            raise TransferError(
                "a ReLU teacher has no classification of its own: max(Xθ, 0) is above 0 where Xθ is; choose "
                "teacher='linear' or kind='regression'"
            )
        object.__setattr__(self, "tasks", _tasks(self.tasks))
        for name, task in self.tasks.items():
            if (task.scales + 1) * self.width > self.features:
                most = self.features // self.width
                raise TransferError(
                    f"task {name!r} has scales={task.scales}, but {self.features} features have room for {most} sets "
                    f"of {self.width}; choose one from 0 to {most - 1}, or more features"
                )
            if self.kind == "classification" and task.noise > 1:
                raise TransferError(f"task {name!r}: noise is a share of the labels, at most 1; got {task.noise!r}")

    @property
    def width(self) -> int:
        """How many coordinates D is κ on: d/10, one at least."""
        return max(1, self.features // 10)

    def scales(self, number: int) -> Floats:
        """The diagonal (d,) of D_number."""
        scales = np.ones(self.features)
        scales[number * self.width : (number + 1) * self.width] = self.condition
        return scales / math.sqrt(np.mean(scales**2))

    def planted(self, seed: int = 0) -> dict[str, Planted]:
        """The population of every task in one draw of θ and the rotations.

        Raises: TransferError for something that is no whole number from 0.
        """
        seed = whole("seed", seed, 0)
        base = _unit(np.random.default_rng([_THETA, seed]).normal(size=self.features))
        return {
            name: self._population(place, task, base, seed) for place, (name, task) in enumerate(self.tasks.items())
        }

    def sample(self, seed: int = 0) -> dict[str, Pair]:
        """{task: (X (m, d), y (m,))}, a training set for each task. Raises: as `planted`."""
        populations = self.planted(seed)
        return {name: populations[name].sample(task.samples) for name, task in self.tasks.items()}

    def _population(self, place: int, task: PlantedTask, base: Floats, seed: int) -> Planted:
        aside = np.random.default_rng([_ASIDE, seed, task.aside]).normal(size=self.features)
        aside = _unit(aside - (aside @ base) * base)
        theta = task.cosine * base + math.sqrt(1.0 - task.cosine**2) * aside
        turn = _rotation(self.features, seed, task.rotation)
        if task.turned:
            theta = turn @ (_rotation(self.features, seed, 0).T @ theta)
        root = self.scales(task.scales)[:, None] * turn.T
        return Planted(theta, root, task.noise, self.teacher, self.kind, (seed, place))


@dataclass(frozen=True, eq=False)
class Planted:
    """The population of one task in one draw: its θ (d,), and the root D Qᵀ (d, d) of its second moment Q D² Qᵀ.

    noise, teacher, kind: as in `PlantedTask` and `PlantedTasks`. stream: of its random numbers.
    """

    theta: Floats
    root: Floats
    noise: float
    teacher: Teacher
    kind: Kind
    stream: tuple[int, int]

    @property
    def moment(self) -> Floats:
        """The second moment E xxᵀ (d, d) of the inputs, uncentred as in the paper; their mean is 0."""
        return self.root.T @ self.root

    def sample(self, samples: int, *, part: int = 0) -> Pair:
        """X (m, d) and y (m,). A smaller sample of the same part is the beginning of a larger one.

        part: 0 to train on; others are independent, to validate and to test on.
        """
        draws = np.random.default_rng([_INPUTS, *self.stream, part]).normal(size=(samples, len(self.theta)))
        x = draws @ self.root
        noise = np.random.default_rng([_NOISE, *self.stream, part]).random(size=(samples, 2))
        clean = x @ self.theta
        if self.kind == "classification":
            random = np.where(noise[:, 1] < 0.5, 1.0, -1.0)
            return x, np.where(noise[:, 0] < self.noise, random, np.where(clean > 0, 1.0, -1.0))
        clean = np.maximum(clean, 0.0) if self.teacher == "relu" else clean
        radius = np.sqrt(-2.0 * np.log1p(-noise[:, 0]))  # Box and Muller: one normal number from each row of two
        return x, clean + self.deviation * radius * np.cos(2.0 * math.pi * noise[:, 1])

    @property
    def deviation(self) -> float:
        """The standard deviation of a regression's label noise."""
        power = float(np.sum((self.root @ self.theta) ** 2))
        return self.noise * math.sqrt(power * (0.5 - 0.5 / math.pi) if self.teacher == "relu" else power)

    def risk(self, direction: Floats, head: float = 1.0) -> float:
        """What `head` · g(xᵀ`direction`) makes of clean labels, over the whole distribution: no sampling error.

        g is the identity or, for a ReLU teacher, max(·, 0). A regression's mean squared error; a classification's share
        of wrong signs, 0.5 where head or direction is 0.

        Differs: the paper takes a validation set; this is what it tends to, less the label noise, which no model can
        predict and which is the same for all.
        """
        mine, true = self.root @ np.asarray(direction, np.float64), self.root @ self.theta
        if self.kind == "classification":
            return _angle(head * mine, true) / math.pi
        if self.teacher == "linear":
            return float(np.sum((head * mine - true) ** 2))
        # E max(u, 0) max(v, 0) of two Gaussians of lengths |u|, |v| and angle φ: |u||v| (sin φ + (π − φ) cos φ) / 2π
        angle, lengths = _angle(mine, true), float(np.linalg.norm(mine) * np.linalg.norm(true))
        both = lengths * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2.0 * math.pi)
        return max(0.0, float(0.5 * head**2 * np.sum(mine**2) + 0.5 * np.sum(true**2) - 2.0 * head * both))


def three_sources(
    *,
    features: int = 20,
    condition: float = 100.0,
    cosine: float = 0.96,
    noise: float = 0.0,
    target_samples: int = 50,
    source_samples: int = 100,
    teacher: Teacher = "linear",
    kind: Kind = "regression",
) -> PlantedTasks:
    """A target and three sources of one θ₂, as in figure 3: what differs is the covariance of their inputs.

    "target": the paper's task 1, with θ₁. "same covariance": its task 2, X of the same D and Q. "other scales": 3, with
    the large variances at other coordinates (D₂). "other rotation": 4, with the same D in other directions (Q₂).
    cosine: of θ₁ and θ₂. noise: of all tasks. The other arguments are those of `PlantedTasks` and `PlantedTask`.

    Raises, Source, Differs: as `PlantedTasks`. The paper's d and sample counts are in an appendix that was not found.
    """
    tasks = {"target": PlantedTask(target_samples, noise=noise)} | {
        name: PlantedTask(source_samples, cosine=cosine, scales=scales, rotation=rotation, noise=noise)
        for name, (scales, rotation) in SOURCES.items()
    }
    return PlantedTasks(tasks, features=features, condition=condition, teacher=teacher, kind=kind)


SOURCES = {"same covariance": (0, 0), "other scales": (1, 0), "other rotation": (0, 1)}
"""The sources of figure 3, which D and which Q each has; the target has the first of both."""


def _tasks(tasks: object) -> dict[str, PlantedTask]:
    if not isinstance(tasks, Mapping) or not tasks or not all(isinstance(t, PlantedTask) for t in tasks.values()):
        raise TransferError(f"tasks must be {{name: PlantedTask}} with one task or more, got {tasks!r}")
    return dict(tasks)


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)


def _rotation(features: int, seed: int, number: int) -> Floats:
    """An orthonormal matrix (d, d), uniform over all of them (Haar): QR with the signs of R taken out."""
    q, r = np.linalg.qr(np.random.default_rng([_ROTATION, seed, number]).normal(size=(features, features)))
    return q * np.sign(np.diag(r))


def _angle(a: Floats, b: Floats) -> float:
    """The angle of two vectors, from 0 to π; π/2 where one is 0. Kahan's form, which is exact for small angles too."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) == 0:
        return math.pi / 2
    a, b = a / lengths[0], b / lengths[1]
    return 2.0 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))
