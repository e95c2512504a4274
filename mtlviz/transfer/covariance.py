"""Task covariances XᵀX, gathered batch by batch, and how alike those of two tasks are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import TransferError
from mtlviz.transfer.batches import Embedding, Features, arrays

Floats = NDArray[np.float64]

MASS = 0.99
"""The share of a covariance's eigenvalues that the score keeps."""

CHUNK = 8192
"""Rows that are turned to float64 at once, so that a large float32 array or a file on disk is never copied whole."""

EDGE = 1e-12
"""A share of mass that is this near counts as reached: rounding must not decide, as for 99 of 100 equal eigenvalues."""


@dataclass(frozen=True, eq=False)
class TaskCovariance:
    """A task's covariance C = XᵀX = U D Uᵀ, not centred, of inputs or embeddings X (m, d); made by `of`.

    samples: m, from 2. moment: C (d, d), float64. low, high: each feature's least and greatest value (d,).
    features: the names of the columns, of a DataFrame. task: what errors call it.

    A feature that never varies, such as a column of ones or a dead unit, is a feature like any other: C is not
    centred, so it has its place there. Where all features are constant (all rows are the same, or zero) C is the
    outer product of one point and tells nothing of how a task's inputs spread: that is an error.

    Raises: TransferError for fewer than two samples, rows that are all the same, or numbers whose squares overflow or
    vanish.
    """

    samples: int
    moment: Floats = field(repr=False)
    low: Floats = field(repr=False)
    high: Floats = field(repr=False)
    features: Features = field(default=None, repr=False)
    task: str = "x"

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise TransferError(f"task {self.task!r}: one sample has no covariance to speak of; give two rows or more")
        if np.array_equal(self.low, self.high):
            what = "zero" if not self.low.any() else "the same"
            raise TransferError(
                f"task {self.task!r}: all features are constant, its {self.samples} rows are all {what}; check the "
                "inputs, or the embedding"
            )
        trace = float(np.trace(self.moment))
        if not np.isfinite(trace) or trace < np.finfo(np.float64).tiny:
            ends = f"{self.low.min():g} to {self.high.max():g}"
            raise TransferError(f"task {self.task!r}: its features, {ends}, have squares out of range; scale them")
        self.moment.setflags(write=False)

    @classmethod
    def of(cls, source: Any, *, embed: Embedding | None = None, task: str = "x") -> TaskCovariance:
        """The covariance of a task's inputs, read once, a batch at a time: only (d, d) numbers are kept.

        source: an array (m, d); a DataFrame, of numbers only; an iterable of such batches (n, d), such as a generator
            or `mv.data.task_inputs`; or a TaskCovariance. Batches may be whatever `np.asarray` takes, also torch
            tensors. A list or tuple is one of batches where its elements have two dimensions, else one of rows.
        embed: a function that is given each batch as it came and returns its features (n, d). Then a batch may be
            anything, such as a list of texts.
        task: what errors call it.

        Raises: TransferError, naming the task, for no row or a single one, rows that are all the same, NaN or infinite
        values, what is no array (n, d) of real numbers, batches of different columns, and an embed that returns
        anything but a row for each row.
        """
        if isinstance(source, cls):
            if embed is not None:
                raise TransferError(
                    f"task {task!r}: embed needs the inputs, but their covariance came; leave embed out"
                )
            return replace(source, task=task)
        samples, parts, features = 0, None, None
        for array, names in arrays(source, embed=embed, task=task):
            features = names
            for start in range(0, len(array), CHUNK):
                X = array[start : start + CHUNK].astype(np.float64)  # (n, d)
                _check_finite(X, samples, task)
                samples += len(X)
                parts = _moments(X) if parts is None else _merged(parts, _moments(X))
        if parts is None:
            raise TransferError(
                f"task {task!r} is empty: no row came. A generator can be read once only: give a list of batches, make "
                "the generator anew, or take mv.transfer.TaskCovariance.of(...) once and give that"
            )
        return cls(samples, *parts, features=features, task=task)

    def __add__(self, other: TaskCovariance) -> TaskCovariance:
        """The covariance of both parts of a task's inputs together, as from two machines.

        Raises: TransferError for parts of different features.
        """
        if not isinstance(other, TaskCovariance):
            return NotImplemented
        _check_same_features(self, other)
        moment, low, high = _merged((self.moment, self.low, self.high), (other.moment, other.low, other.high))
        return replace(self, samples=self.samples + other.samples, moment=moment, low=low, high=high)

    @property
    def dimension(self) -> int:
        """d, the number of features."""
        return len(self.moment)

    @property
    def spectrum(self) -> Floats:
        """The eigenvalues D of C (d,), largest first, none below 0: sums of squares over all samples."""
        return self._eigen[0] * float(np.trace(self.moment))

    @property
    def shares(self) -> Floats:
        """The spectrum as shares of its sum (d,)."""
        return self._eigen[0]

    @property
    def directions(self) -> Floats:
        """The principal directions U (d, d), a column for each eigenvalue.

        A direction has no sign of its own: here its largest component, or the first of several, is positive. Where
        eigenvalues are equal, any rotation of their directions would do as well.
        """
        return self._eigen[1]

    def rank(self, mass: float = MASS) -> int:
        """The smallest rank whose eigenvalues hold a share `mass` of the sum of all.

        Raises: TransferError for a mass outside (0, 1].
        """
        return int(np.argmax(np.cumsum(self.shares) >= checked_mass(mass) - EDGE)) + 1

    def root(self, mass: float = MASS) -> Floats:
        """M = U_r D_r^½ (d, r) of the best rank-r part of C that holds `mass`, with C scaled to trace 1.

        Raises: TransferError for a mass outside (0, 1].
        """
        r = self.rank(mass)
        return self.directions[:, :r] * np.sqrt(self.shares[:r])

    @cached_property
    def _eigen(self) -> tuple[Floats, Floats]:
        """The eigenvalues of C / tr C (d,) and the directions (d, d).

        Of XᵀX, not by a decomposition of X, of which no more than a batch is there. It loses what is below 1e-16 of
        the largest eigenvalue, far from any mass that matters.
        """
        D, U = np.linalg.eigh(self.moment / np.trace(self.moment))
        D, U = np.clip(D[::-1], 0.0, None), U[:, ::-1]
        size = np.abs(U)
        first = np.argmax(size >= size.max(axis=0) * (1 - 1e-9), axis=0)
        U = U * np.where(U[first, np.arange(len(U))] < 0, -1.0, 1.0)
        D = D / D.sum()
        for part in (D, U):
            part.setflags(write=False)
        return D, U


def covariances(
    inputs: Mapping[str, Any], *, embed: Embedding | None = None, least: int = 1
) -> dict[str, TaskCovariance]:
    """Each task's covariance, all of the same features, in the order given: {task: what `TaskCovariance.of` takes}.

    Take them once where inputs are large or come from generators: every analysis of inputs takes covariances too.

    Raises: TransferError as `TaskCovariance.of`, for no mapping or fewer than `least` tasks, a name that is no text,
    and tasks of different features, naming both.
    """
    if not isinstance(inputs, Mapping):
        raise TransferError(f"needs {{task: inputs}}, got {type(inputs).__name__}")
    if len(inputs) < least:
        raise TransferError(f"needs {{task: inputs}}, at least {least}; got the tasks {list(inputs)}")
    if wrong := [name for name in inputs if not isinstance(name, str)]:
        raise TransferError(f"tasks are named by text, got {', '.join(map(repr, wrong))}")
    found = {task: TaskCovariance.of(source, embed=embed, task=task) for task, source in inputs.items()}
    first = next(iter(found.values()), None)
    for other in found.values():
        assert first is not None, "there is one"
        _check_same_features(first, other)
    return found


def covariance_score(one: TaskCovariance, other: TaskCovariance, *, mass: float = MASS) -> float:
    """The covariance similarity score ‖M₁ᵀM₂‖_F / (‖M₁‖_F ‖M₂‖_F), 0 (no direction in common) to 1.

    M_i = U_r D_r^½ of the best rank-r_i part of C_i = XᵢᵀXᵢ that holds `mass` of the sum of its eigenvalues.

    The score of a task with itself is ‖D_r‖_F / tr D_r: **it is 1 only where the kept part has rank 1**, and the less
    the more directions share the mass; so scores of tasks of high rank are low, however alike. `covariance_cosine`
    does not have that. Neither the scale of X_i nor a rotation of all tasks' features together changes it, where the
    cut is clear: the best rank-r part is not unique where eigenvalues r and r + 1 are equal.

    Raises: TransferError for tasks of different features, or a mass outside (0, 1].

    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, equation 5. Differs: "99 % of the singular values" does not
    say of what; here it is of the sum of D, the eigenvalues of XᵢᵀXᵢ. Zero inputs, where the quotient is 0/0, are an
    error and not a score.
    """
    _check_same_features(one, other)
    M_1, M_2 = one.root(mass), other.root(mass)  # (d, r_1), (d, r_2)
    return min(float(np.linalg.norm(M_1.T @ M_2) / (np.linalg.norm(M_1) * np.linalg.norm(M_2))), 1.0)


def covariance_cosine(one: TaskCovariance, other: TaskCovariance) -> float:
    """The cosine between two covariances, ⟨C₁, C₂⟩ / (‖C₁‖_F ‖C₂‖_F): 0 to 1, and 1 just where C₂ is a multiple of C₁.

    An extension of ours: the square of the paper's score at full mass, divided by both tasks' scores with themselves,
    so that each task is wholly like itself. Nothing is cut off.

    Raises: TransferError for tasks of different features.
    """
    _check_same_features(one, other)
    C_1, C_2 = (each.moment / np.trace(each.moment) for each in (one, other))
    return min(max(float((C_1 * C_2).sum() / (np.linalg.norm(C_1) * np.linalg.norm(C_2))), 0.0), 1.0)


def checked_mass(mass: Any) -> float:
    """A mass as a float. Raises: TransferError outside (0, 1]."""
    if isinstance(mass, bool) or not isinstance(mass, Real) or not 0 < float(mass) <= 1:
        raise TransferError(f"mass must be a share above 0, up to 1, such as 0.99; got {mass!r}")
    return float(mass)


def _moments(X: Floats) -> tuple[Floats, Floats, Floats]:
    """Return XᵀX (d, d) of rows (n, d), and each column's least and greatest value (d,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # told by the covariance that they make
        return X.T @ X, X.min(axis=0), X.max(axis=0)


def _merged(one: tuple[Floats, Floats, Floats], other: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    return one[0] + other[0], np.minimum(one[1], other[1]), np.maximum(one[2], other[2])


def _check_finite(X: Floats, before: int, task: str) -> None:
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0].tolist()
        raise TransferError(
            f"task {task!r}: feature {column} of row {before + row} is {X[row, column]} (both counted from 0); drop or "
            "fill such rows, or mend the embedding"
        )


def _check_same_features(one: TaskCovariance, other: TaskCovariance) -> None:
    """Check that two covariances are of the same features. Raises: TransferError naming both tasks."""
    if one.dimension != other.dimension:
        raise TransferError(
            f"tasks {one.task!r} and {other.task!r} have {one.dimension} and {other.dimension} features; a covariance "
            "score needs the same features in both, such as those of one embedding (embed=)"
        )
    if one.features and other.features and one.features != other.features:
        pairs = zip(one.features, other.features, strict=True)
        place, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise TransferError(
            f"column {place} is {a!r} in task {one.task!r} and {b!r} in task {other.task!r}; give both the same "
            "columns in the same order"
        )
