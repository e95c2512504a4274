"""Task weights from a singular value decomposition of what tasks with common inputs ask for (Algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import TransferError
from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole

MISSING = -100  # an integer label that is none, as in torch's losses


def svd_task_weights(x: Any, labels: Mapping[str, Any], *, rank: int = 1, standardize: bool = True) -> pd.DataFrame:
    """A weight for each of some tasks that share their inputs: how much it asks for what the tasks have in common.

    x: (m, d), inputs or embeddings, an array or a DataFrame. labels: {task: (m,) or (m, c)}. Whole numbers (m,) are
    classes, and each class that occurs becomes a column of zeros and ones; floats are used as they are, and so is a
    matrix (m, c), a column for each output. NaN, or -100 among whole numbers, says that there is no label. rank: r, how
    many directions count as common, from 1 to the number of tasks. standardize: whether `weight` is that of
    standardised labels, each column less its mean and over its standard deviation, or of the labels as they are.

    θ_i = Xᵀ y_i; U_r are the first r left singular vectors of [θ_1 … θ_k]; α_i = ‖U_rᵀ θ_i‖. A task of several columns
    has as many θ_i, each counting 1/c: α_i is the root of their mean square, so that neither the number of classes nor
    a second column that says the same as the first makes a task heavier. Where only m_i of the labels are known, θ_i is
    scaled by m/m_i: it is what all of them would be expected to give. Its error is larger then, and adds to its length.

    Returns a row per task: task, samples (m_i), alpha (α_i/m by standardised labels), weight (α_i over the mean of all
    tasks, so that equal tasks have weight 1 and the learning rate keeps its meaning), and raw_alpha and raw_weight, the
    same of the labels as they are. `weighting.Fixed(frame.set_index("task")["weight"])` trains with them.

    Raises: TransferError for no task; x that is not (m, d) with two rows or more, or not finite; labels of another
    length, that are no numbers, infinite, fewer than two, or all the same; a rank out of range; or no weight at all.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, Algorithm 2.
    Differs: the paper neither standardises labels nor scales α. With labels as they are α_i grows with their scale and
    their noise: of y₁ = Xθ and y₂ = Xθ + ε the noisy task would often come out as the heavier one.
    """
    inputs = _inputs(x)
    if not isinstance(labels, Mapping) or not labels:
        raise TransferError(f"labels must be {{task: labels (m,) or (m, c)}} with one task or more; got {labels!r}")
    columns = {str(task): _columns(str(task), value, len(inputs)) for task, value in labels.items()}
    rank = whole("rank", rank, 1)
    if rank > len(columns):
        raise TransferError(f"rank must be from 1 to the number of tasks, {len(columns)}; got {rank}")
    by_standard = _alphas({task: _asked(inputs, each.standardized(task)) for task, each in columns.items()}, rank)
    raw = _alphas({task: _asked(inputs, each) for task, each in columns.items()}, rank)
    chosen = by_standard if standardize else raw
    return pd.DataFrame(
        {
            "task": list(columns),
            "samples": [each.samples for each in columns.values()],
            "alpha": by_standard,
            "weight": _shared_out(chosen),
            "raw_alpha": raw,
            "raw_weight": _shared_out(raw),
        }
    )


@dataclass(frozen=True, eq=False)
class _Columns:
    """A task's labels as columns (m, c), and which of them are known (m, c); unknown ones are 0."""

    values: Floats
    known: NDArray[np.bool_]

    @property
    def samples(self) -> int:
        """How many rows have a label."""
        return int(self.known.any(axis=1).sum())

    def standardized(self, task: str) -> _Columns:
        """Each column less its mean and over its standard deviation, both of the known labels.

        Raises: TransferError where a column of several labels is constant.
        """
        counts = self.known.sum(axis=0)
        mean = self.values.sum(axis=0) / counts
        centred = np.where(self.known, self.values - mean, 0.0)
        deviation = np.sqrt((centred**2).sum(axis=0) / counts)
        constant = deviation <= 1e-12 * np.abs(mean)  # of rounding, where all labels are the same
        if constant.any():
            where = (
                f"its labels are all {mean[0]:g}"
                if len(mean) == 1
                else f"its column {int(np.argmax(constant))} is constant"
            )
            raise TransferError(f"task {task!r}: {where}, so there is nothing to learn; leave it out")
        return _Columns(centred / deviation, self.known)


def _inputs(x: Any) -> Floats:
    try:
        inputs = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise TransferError(f"x must be numbers (m, d) ({error})") from error
    if inputs.ndim != 2 or len(inputs) < 2 or inputs.shape[1] < 1:
        raise TransferError(f"x must be (m, d) with two samples or more, got {inputs.shape}")
    if not np.isfinite(inputs).all():
        rows = int((~np.isfinite(inputs)).any(axis=1).sum())
        raise TransferError(f"x has values that are not finite in {rows} of {len(inputs)} samples; leave those out")
    return inputs


def _columns(task: str, labels: Any, samples: int) -> _Columns:
    """The labels of a task as columns."""
    given = np.asarray(labels)
    if given.ndim not in (1, 2) or len(given) != samples or 0 in given.shape:
        raise TransferError(
            f"task {task!r} needs labels ({samples},) or ({samples}, c), one for each sample; got {given.shape}"
        )
    if given.dtype.kind not in "biuf":
        raise TransferError(f"task {task!r} needs labels that are numbers, got {given.dtype}")
    known = ~np.isnan(given) if given.dtype.kind == "f" else given != MISSING
    if given.dtype.kind != "f" and given.ndim == 1:
        classes = np.unique(given[known])
        if len(classes) == 1:
            raise TransferError(
                f"task {task!r}: its labels are all {classes[0]}, so there is nothing to learn; leave it out"
            )
        given, known = given[:, None] == classes, np.repeat(known[:, None], max(len(classes), 1), axis=1)
    values = np.where(known, given, 0).astype(np.float64).reshape(samples, -1)
    if not np.isfinite(values).all():
        raise TransferError(f"task {task!r} has labels that are infinite; NaN says that there is none")
    known = known.reshape(values.shape) if values.shape[1] else np.zeros((samples, 1), np.bool_)
    if (fewest := int(known.sum(axis=0).min())) < 2:
        raise TransferError(f"task {task!r} needs two labels or more in each column, got {fewest}")
    return _Columns(values, known)


def _asked(inputs: Floats, columns: _Columns) -> Floats:
    """θ_i (d, c) over m and the root of c: the mean of x y over the known labels."""
    return inputs.T @ columns.values / columns.known.sum(axis=0) / math.sqrt(columns.values.shape[1])


def _alphas(thetas: Mapping[str, Floats], rank: int) -> Floats:
    """α_i (k,): the length of what the first r left singular vectors of all θ keep of each task's."""
    directions = np.linalg.svd(np.concatenate(list(thetas.values()), axis=1), full_matrices=False)[0][:, :rank]
    return np.array([np.linalg.norm(directions.T @ theta) for theta in thetas.values()])


def _shared_out(alphas: Floats) -> Floats:
    """Weights with the mean 1."""
    if not alphas.any():
        raise TransferError(
            "no task's labels go with any column of x, so no task gets a weight; are the rows in order?"
        )
    return alphas / alphas.mean()
