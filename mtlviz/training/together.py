"""A training on several processes: what cannot be shared out exactly is refused, and all begin alike."""

from __future__ import annotations

import zlib

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtlviz.data.parts import part_of
from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch
from mtlviz.errors import ProblemError
from mtlviz.gradients.ranks import Ranks
from mtlviz.models.shared_trunk import SharedTrunk, evaluating
from mtlviz.training.buffers import unsaved_buffers
from mtlviz.training.packing import digest

_TOLERANCE = 1e-3


def check_shareable(problem: Problem, model: SharedTrunk, sampler: BatchSampler, device: torch.device) -> None:
    """Looks whether a batch can be shared out among processes so that they compute what one would.

    Raises: ProblemError for a DataLoader, a BatchNorm in training mode, or a loss that is no mean over samples.
    """
    split = problem.train
    sources = [split.shared] if split.shared is not None else list(split.by_task.values())
    if any(isinstance(source, DataLoader) for source in sources):
        raise ProblemError(
            "on several ranks each takes its part of the same batches, which nobody can tell of a DataLoader; give "
            "tensors or a Dataset as training data"
        )
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise ProblemError(
                f"{name} is a {type(part).__name__} in training mode, whose statistics would be those of one rank's "
                "part of a batch: on several ranks use GroupNorm or LayerNorm, or put it in eval() mode"
            )
    _check_means(problem, model, sampler.batch(1).to(device))


def _check_means(problem: Problem, model: SharedTrunk, batch: Batch) -> None:
    parts = [part_of(batch, rank, 2) for rank in (0, 1)]
    whole = _losses(problem, model, batch)
    halves = [_losses(problem, model, part) for part in parts]
    for task in problem.tasks:
        if task.name not in whole:
            continue
        mean = sum(part.share(task.name) * half.get(task.name, 0.0) for part, half in zip(parts, halves, strict=True))
        if abs(mean - whole[task.name]) > _TOLERANCE * abs(whole[task.name]):  # NaN is told elsewhere
            raise ProblemError(
                f"task {task.name!r}: its loss {task.loss_name} is {whole[task.name]:g} on a batch, but the mean over "
                f"the samples of its halves is {mean:g}; on several ranks a loss must be the mean over the samples"
            )


def _losses(problem: Problem, model: SharedTrunk, batch: Batch) -> dict[str, float]:
    with evaluating(model):
        z, rows = model.routed(batch.inputs, batch.rows)
        return {
            task.name: float(task.value(model.output(task.name, z[rows[task.name]]), batch.targets[task.name]))
            for task in problem.tasks
            if task.name in rows
        }


def check_alike(ranks: Ranks, settings: object, model: SharedTrunk, sampler: BatchSampler) -> None:
    """Compares what the processes were given. Raises: ProblemError naming what differs."""
    batch = sampler.batch(1)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    own = {"settings": repr(settings), "model": repr(shapes), "training data": digest([batch.inputs, batch.targets])}
    every = ranks.meet("the beginning of training", [zlib.crc32(text.encode()) for text in own.values()])
    for what, told in zip(own, every.T, strict=True):
        if (told != told[0]).any():
            raise ProblemError(
                f"the ranks were given different {what}; each needs the same problem and settings, and takes its part "
                "of the same batches"
            )


def begin_alike(ranks: Ranks, model: SharedTrunk) -> None:
    """Gives all processes the parameters and buffers of rank 0."""
    with torch.no_grad():
        for tensor in [*model.state_dict().values(), *unsaved_buffers(model).values()]:
            ranks.tell_(tensor)
