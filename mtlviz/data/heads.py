"""The heads of a problem, given or made, on what its trunk makes of the first inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtlviz.data.splits import Split, paired
from mtlviz.errors import ProblemError
from mtlviz.models.shared_trunk import linear_heads
from mtlviz.randomness import seeded
from mtlviz.task import Task


def heads_of(
    tasks: tuple[Task, ...], trunk: nn.Module, train: Split, given: Mapping[str, nn.Module] | None, seed: int
) -> dict[str, nn.Module]:
    """A head for every task: the given one, or a fresh `nn.Linear`.

    Raises: ProblemError for heads that are none, or of unknown tasks, and as `linear_heads`.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ProblemError(f"heads must be {{task: module}}, got {type(given).__name__}")
    given = dict(given or {})
    names = [task.name for task in tasks]
    if strangers := [name for name in given if name not in names]:
        raise ProblemError(f"heads for unknown tasks {strangers}; the tasks are {names}")
    for name, head in given.items():
        if not isinstance(head, nn.Module):
            raise ProblemError(f"the head of {name!r} must be an nn.Module, got {type(head).__name__}")
    if len(given) < len(tasks):
        given = linear_heads(trunk, tasks, first_inputs(train), seed=seed) | given
    return {name: given[name] for name in names}


def first_inputs(train: Split) -> torch.Tensor:
    """The first inputs (1, ...) of a split, more of a DataLoader. Raises: ProblemError where it gives none."""
    source = train.shared if train.shared is not None else next(iter(train.by_task.values()))
    if isinstance(source, DataLoader):
        with seeded(0):  # a shuffling loader must not move the user's random numbers
            for item in source:
                inputs, _ = paired(item, "train: a DataLoader")
                return inputs[:1]
            raise ProblemError(
                "train: a DataLoader gave no batch; is it empty, or smaller than one batch with drop_last?"
            )
    return next(train.chunks(1)).inputs
