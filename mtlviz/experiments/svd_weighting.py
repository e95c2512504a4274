"""Algorithm 2 on a problem: task weights from its own training data, and the problem with its losses so weighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mtlviz.data.problem import Problem
from mtlviz.data.splits import Batch
from mtlviz.data.task_inputs import TaskInputs
from mtlviz.errors import ProblemError
from mtlviz.soft_labels import MISSING
from mtlviz.transfer.reweighting import svd_task_weights


def svd_weights(
    problem: Problem,
    *,
    rank: int = 1,
    embed: Callable[[torch.Tensor], Any] | None = None,
    standardize: bool = True,
) -> pd.DataFrame:
    """Returns how much each task asks for what the tasks have in common, from the training data of a problem.

    To train with them, `weighting=mv.weighting.Fixed(frame.set_index("task")["weight"])` keeps the losses of the log as
    they are; `mv.train(svd_weighted(problem))` does the same updates by losses that are scaled.

    Args:
        problem: one whose tasks share their training rows. All are held in memory at once, as an (m, d) array.
        rank: how many directions count as common.
        embed: what the weights are read from in place of the inputs: a module, such as `problem.model.trunk`, or a
            function of tensors (n, ...); see `mv.data.task_inputs`.
        standardize: whether `weight` is that of standardised labels; `raw_weight` is that of the labels as they are.

    Returns:
        The frame of `mv.transfer.svd_task_weights`: task, samples, alpha, weight, raw_alpha and raw_weight.

    Raises:
        ProblemError: for tasks that have rows of their own, or an embed that cannot be called. TransferError: for
        inputs, labels or a rank that `svd_task_weights` cannot take.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"svd_weights needs an mtlviz.Problem, got {type(problem).__name__}")
    if embed is not None and not callable(embed):
        raise ProblemError(f"embed must be a module or a function of tensors, got {type(embed).__name__}")
    if problem.train.shared is None:
        raise ProblemError(
            "svd_weights compares what tasks ask of the same rows, and here each task has training rows of its own; "
            "compare their inputs, mv.analysis.covariance_scores, or weight them by duplicated({task: times})"
        )
    names = [task.name for task in problem.tasks]
    inputs = TaskInputs(names[0], problem.train, embed)
    batches = list(problem.train.chunks())
    x = np.concatenate([inputs.features(batch.inputs) for batch in batches])
    return svd_task_weights(x, {name: _labels(batches, name) for name in names}, rank=rank, standardize=standardize)


def svd_weighted(
    problem: Problem,
    *,
    rank: int = 1,
    embed: Callable[[torch.Tensor], Any] | None = None,
    standardize: bool = True,
) -> Problem:
    """Returns the problem with each task's loss times its weight of `svd_weights`; shares model and data.

    With equal weights it trains as Algorithm 2 does, by Σ α_i L_i; the losses of the log are the scaled ones.

    Raises: as `svd_weights`, and ProblemError for a task without any weight.
    """
    frame = svd_weights(problem, rank=rank, embed=embed, standardize=standardize)
    return problem.scaled(dict(zip(frame["task"], frame["weight"].astype(float), strict=True)))


def _labels(batches: list[Batch], task: str) -> NDArray[Any]:
    """The labels (m, ...) of all rows, NaN or `MISSING` where a row has none."""
    some = next((batch.targets[task] for batch in batches if task in batch.targets), torch.empty(0))
    parts = []
    for batch in batches:
        empty = torch.nan if some.is_floating_point() else MISSING
        whole = torch.full((len(batch.inputs), *some.shape[1:]), empty, dtype=_roomy(some.dtype))
        if task in batch.rows:
            whole[batch.rows[task]] = batch.targets[task].to(whole.dtype)
        parts.append(whole)
    return torch.cat(parts).flatten(1).squeeze(1).numpy() if some.dim() > 1 else torch.cat(parts).numpy()


def _roomy(dtype: torch.dtype) -> torch.dtype:
    """A type for labels that can say that there is none, and that numpy knows."""
    return torch.float64 if dtype.is_floating_point else torch.int64
