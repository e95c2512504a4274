"""How alike the inputs of tasks are: scores between their covariances, the spectra, and the leading directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import TransferError
from mtlviz.transfer import covariance as parts
from mtlviz.transfer.batches import Embedding
from mtlviz.transfer.covariance import MASS, checked_mass, covariances


def covariance_similarity(x_1: Any, x_2: Any, *, mass: float = MASS, embed: Embedding | None = None) -> float:
    """Return the covariance similarity score of two tasks' inputs, 0 to 1.

    Args:
        x_1, x_2: (m_1, d) and (m_2, d): arrays, DataFrames, iterables of array batches, or `TaskCovariance`s; see
            `mv.transfer.TaskCovariance.of`.
        mass: the share of each covariance's eigenvalues that is kept, in (0, 1].
        embed: a function that is given each batch and returns its features (n, d).

    Returns:
        ‖M₁ᵀM₂‖_F / (‖M₁‖_F ‖M₂‖_F) with M_i = U_r D_r^½ of XᵢᵀXᵢ. Of a task with itself it is not 1 but
        ‖D_r‖_F / tr D_r; `covariance_cosine` is the variant that is 1 there.

    Raises:
        TransferError: inputs that have no covariance, or not of the same features; see `TaskCovariance.of`.

    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, equation 5; see `mv.transfer.covariance_score`.
    """
    checked_mass(mass)
    return parts.covariance_score(*_pair(x_1, x_2, embed), mass=mass)


def covariance_cosine(x_1: Any, x_2: Any, *, embed: Embedding | None = None) -> float:
    """Return the cosine between the covariances of two tasks' inputs, 0 to 1; 1 for a task with itself.

    An extension of ours to the score of equation 5; see `mv.transfer.covariance_cosine`. Arguments and errors are those
    of `covariance_similarity`.
    """
    return parts.covariance_cosine(*_pair(x_1, x_2, embed))


def covariance_scores(inputs: Mapping[str, Any], *, mass: float = MASS, embed: Embedding | None = None) -> pd.DataFrame:
    """Return how alike the inputs of all pairs of tasks are.

    Args:
        inputs: {task: (m, d)}: arrays, DataFrames, iterables of array batches, or `TaskCovariance`s, of the same d
            features; such as `mv.data.task_inputs(problem)`.
        mass: the share of each covariance's eigenvalues that the score keeps, in (0, 1].
        embed: a function that is given each batch and returns its features (n, d).

    Returns:
        T×T rows: task_a, task_b, score (equation 5; its diagonal is ‖D_r‖_F / tr D_r, not 1) and cosine (our variant;
        its diagonal is 1).

    Raises:
        TransferError: naming the task, as `mv.transfer.TaskCovariance.of`; or tasks of different features.
    """
    checked_mass(mass)
    found = list(covariances(inputs, embed=embed).values())
    T = len(found)
    score, cosine = np.zeros((T, T)), np.zeros((T, T))
    for a, b in zip(*np.triu_indices(T), strict=True):
        score[a, b] = score[b, a] = parts.covariance_score(found[a], found[b], mass=mass)
        cosine[a, b] = cosine[b, a] = parts.covariance_cosine(found[a], found[b]) if a != b else 1.0
    row, column = np.divmod(np.arange(T * T), T)
    named = {"task_a": _tasks(row, inputs), "task_b": _tasks(column, inputs)}
    return pd.DataFrame(named | {"score": score.ravel(), "cosine": cosine.ravel()})


def covariance_spectra(
    inputs: Mapping[str, Any], *, mass: float = MASS, embed: Embedding | None = None
) -> pd.DataFrame:
    """Return the eigenvalues of each task's covariance XᵀX, largest first.

    Args: as `covariance_scores`.

    Returns:
        A row per task and direction: task, index (from 1), value (the eigenvalue: a sum of squares over all samples),
        share (of the sum of all), cumulative (share of the directions so far) and kept (whether the score keeps it).
        X is not centred: the first direction is often that of the mean.

    Raises:
        TransferError: as `covariance_scores`.
    """
    checked_mass(mass)
    found = covariances(inputs, embed=embed)
    each = next(iter(found.values())).dimension
    index = np.tile(np.arange(1, each + 1), len(found))
    ranks = np.repeat([covariance.rank(mass) for covariance in found.values()], each)
    return pd.DataFrame(
        {
            "task": _tasks(np.repeat(np.arange(len(found)), each), inputs),
            "index": index,
            "value": np.concatenate([covariance.spectrum for covariance in found.values()]),
            "share": np.concatenate([covariance.shares for covariance in found.values()]),
            "cumulative": np.concatenate([covariance.shares.cumsum() for covariance in found.values()]),
            "kept": index <= ranks,
        }
    )


def covariance_alignment(
    inputs: Mapping[str, Any], *, directions: int = 5, embed: Embedding | None = None
) -> pd.DataFrame:
    """Return how the leading directions of the tasks' covariances lie to each other.

    Args:
        inputs, embed: as `covariance_scores`, of two tasks or more.
        directions: how many of each task, from 1; fewer where a covariance has fewer.

    Returns:
        Rows task_a, task_b (each pair once, in the tasks' order), direction_a, direction_b (from 1, the largest
        eigenvalue first) and cosine, the size |uᵀv| of the cosine between the two, 0 to 1: a direction has no sign.
        Where a task has equal eigenvalues, its directions are any rotation of each other, and so are their cosines.

    Raises:
        TransferError: as `covariance_scores`; fewer than two tasks, or directions below 1.
    """
    if isinstance(directions, bool) or not isinstance(directions, (int, np.integer)) or directions < 1:
        raise TransferError(f"directions must be a whole number from 1, got {directions!r}")
    found = covariances(inputs, embed=embed, least=2)
    leading = [each.directions[:, : min(directions, each.rank(1.0))] for each in found.values()]  # (d, k) each
    rows: list[NDArray[np.float64]] = []
    for a, b in combinations(range(len(leading)), 2):
        cosine = np.minimum(np.abs(leading[a].T @ leading[b]), 1.0)  # (k_a, k_b)
        i, j = np.indices(cosine.shape).reshape(2, -1)
        rows.append(np.column_stack([np.full(i.shape, a), np.full(i.shape, b), i + 1, j + 1, cosine.ravel()]))
    a, b, i, j, cosine = np.concatenate(rows).T
    named = {"task_a": _tasks(a, inputs), "task_b": _tasks(b, inputs)}
    numbered = {"direction_a": i.astype(np.int64), "direction_b": j.astype(np.int64)}
    return pd.DataFrame(named | numbered | {"cosine": cosine})


def _pair(x_1: Any, x_2: Any, embed: Embedding | None) -> list[parts.TaskCovariance]:
    return list(covariances({"x_1": x_1, "x_2": x_2}, embed=embed).values())


def _tasks(codes: NDArray[Any], inputs: Iterable[str]) -> pd.Categorical:
    """Return indices into the tasks as an ordered categorical: the order carries each task's colour."""
    return pd.Categorical.from_codes(
        codes.astype(np.int16), categories=pd.Index(list(inputs), dtype="str"), ordered=True
    )
