"""The label-noise experiment: do weights by Algorithm 2 make up for a task part of whose labels are random?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.experiments.checkpoints import Select
from mtlviz.experiments.plan import Options
from mtlviz.experiments.recipe import MakeProblem
from mtlviz.experiments.remedies import Variant, trained
from mtlviz.experiments.svd_weighting import svd_weighted
from mtlviz.training.parts import MakeOptimizer, MakeScheduler

EQUAL_TRUE, SVD_TRUE = "equal, true labels", "SVD, true labels"
EQUAL_NOISY, SVD_NOISY = "equal, noisy labels", "SVD, noisy labels"
VERSUS = {EQUAL_TRUE: "", SVD_TRUE: EQUAL_TRUE, EQUAL_NOISY: EQUAL_TRUE, SVD_NOISY: EQUAL_NOISY}


def label_noise(
    problem: Problem | MakeProblem,
    shares: Mapping[str, float],
    seeds: int | Iterable[int] = 5,
    *,
    rank: int = 1,
    embed: Callable[[torch.Tensor], Any] | None = None,
    standardize: bool = True,
    steps: int = 2000,
    select: Select = "final",
    folder: str | os.PathLike[str] | None = None,
    jobs: int = -1,
    progress: bool = True,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    validate_every: int = 100,
    fresh: bool = False,
) -> pd.DataFrame:
    """Trains with true and with partly random labels, with equal weights and with those of Algorithm 2.

    Every seed draws its own noise, in training labels only; both kinds of weights learn from the same draw. Runs are
    kept, reused and told apart in `folder` as `compare` does it.

    Args:
        problem: whose tasks share their training rows: a Problem, or a function that makes one from a seed.
        shares: {task: share of its labels that is made random}; see `Problem.with_label_noise`. The paper has 0.2 of
            one task.
        seeds: how many (0, 1, ...), or which.
        rank, embed, standardize: see `svd_weights`. Labels of the noisy problem are read as they are.
        steps, select, folder, jobs, progress, optimizer, scheduler, batch_size, device, validate_every, fresh: see
            `compare`.

    Returns:
        The frame of `compare` with four methods, "equal, true labels", "SVD, true labels", "equal, noisy labels" and
        "SVD, noisy labels", and a column more: versus, what each is measured against: noise against true labels, and
        SVD weights against equal ones on the same labels. `mv.analysis.remedy_changes` takes it.

    Raises:
        ProblemError: for tasks with rows of their own, and shares of no task or that `with_label_noise` cannot take;
        else as `compare`.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, who do it for 20 pairs of tasks of ChestX-ray14.
    """
    if not isinstance(shares, Mapping) or not shares:
        raise ProblemError(f"label_noise needs {{task: share of its labels}}, of one task at least; got {shares!r}")
    weights = {"rank": rank, "embed": embed, "standardize": standardize}
    variants = {
        EQUAL_TRUE: Variant(problem, "equal"),
        SVD_TRUE: Variant(_Made(problem, {}, weights), "equal"),
        EQUAL_NOISY: Variant(_Made(problem, shares, None), "equal"),
        SVD_NOISY: Variant(_Made(problem, shares, weights), "equal"),
    }
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every)
    settings: dict[str, Any] = {"select": select, "jobs": jobs, "progress": progress, "fresh": fresh, "folder": folder}
    frame = trained(variants, seeds, options, needs="label_noise", **settings)
    return frame.assign(versus=frame["method"].map(VERSUS))


@dataclass(frozen=True)
class _Made:
    """Makes the problem of a seed: labels as noisy as this seed draws it, losses weighted where `weights` say so."""

    problem: Problem | MakeProblem
    shares: Mapping[str, float]
    weights: Mapping[str, Any] | None = field(default=None)

    def __call__(self, *, seed: int) -> Problem:
        """The problem of a seed."""
        made = self.problem if isinstance(self.problem, Problem) else self.problem(seed=seed)
        noisy = made.with_label_noise(self.shares, seed=seed) if self.shares else made
        return noisy if self.weights is None else svd_weighted(noisy, **self.weights)
