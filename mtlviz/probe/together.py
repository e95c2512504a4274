"""Probes of several ranks: what they agree on before a step is measured, and what each adds to the whole batch."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mtlviz.errors import ProbeError
from mtlviz.gradients.ranks import Ranks, ranks_of
from mtlviz.probe.untouched import explained
from mtlviz.runlog.records import Floats


@dataclass(frozen=True)
class Shares:
    """What a rank is of the whole batch.

    of: (T,) by which its losses and gradients count, 0 where a task is absent here; they add up to 1 over the ranks.
    present: (T,) whether a task is anywhere. samples: (T,) of all ranks. halves: samples of all ranks in halves A, B.
    """

    of: Floats
    present: Any
    samples: Any
    halves: list[int]

    def scaled(self, losses: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """What this rank adds to each loss, (T,) or (2T,)."""
        of = np.resize(self.of, len(losses)).tolist()
        return [None if loss is None else loss * share for loss, share in zip(losses, of, strict=True)]

    def on(self, device: torch.device, rows: int) -> torch.Tensor:
        """(rows,) the shares as float64, T of them again and again."""
        return torch.from_numpy(np.resize(self.of, rows)).to(device, non_blocking=True)


class Together:
    """What the probe of this rank does with those of the others.

    tasks: how many there are. module: what is shared, where it is a module.
    """

    def __init__(self, ranks: Ranks, tasks: int, module: nn.Module | None) -> None:
        self.ranks, self._tasks, self._step, self._met = ranks, tasks, 0, True
        parts = list(module.modules()) if module is not None else []
        self._in_step = any(isinstance(part, nn.SyncBatchNorm) for part in parts)
        if any("FullySharded" in type(part).__name__ or type(part).__name__.startswith("FSDP") for part in parts):
            raise ProbeError(
                "the shared parameters are sharded (FSDP), so that no rank has a gradient to itself; a probe needs "
                "DistributedDataParallel"
            )

    def begin(self, step: int) -> None:
        """A step is to be recorded."""
        self._step, self._met = step, False

    def meet(self, present: Any, samples: Any, halves: list[int]) -> Shares:
        """Compares the step with the other ranks', and tells what each is of the whole batch.

        A rank counts by its samples of a task, where all that have the task tell them, else as much as the others that
        have it: the loss is then the mean over all samples, as one process would find it on the whole batch.

        Raises: ProbeError where the ranks are not in step, and for SyncBatchNorm with a task that is absent on some.
        """
        self._met, T = True, self._tasks
        with explained():
            every = self.ranks.meet(self._where, [*present, *samples, *halves])
        there, counts = every[:, :T] > 0, every[:, T : 2 * T]
        if self._in_step and (there != there[0]).any():
            raise ProbeError(
                "what is shared has a SyncBatchNorm, through which a task's gradient is taken on all ranks at once, "
                "but some task is absent on some of them; hand over a loss of it on every rank, if need be 0 · output"
            )
        told = ((counts > 0) | ~there).all(axis=0)
        by = np.where(told, counts, 1) * there
        of = by[self.ranks.rank] / np.maximum(by.sum(axis=0), 1)
        return Shares(of, there.any(axis=0), counts.sum(axis=0), every[:, 2 * T :].sum(axis=0).tolist())

    def failed(self, error: BaseException) -> None:
        """Tells the others, who wait, what keeps this rank from measuring the step; raises the error."""
        if not self._met and isinstance(error, Exception):
            self._met = True
            self.ranks.meet(self._where, [0] * (2 * self._tasks + 2), error=error)

    @property
    def _where(self) -> str:
        return f"the probe's step {self._step}"


def joined(group: Any) -> Ranks | None:
    """The ranks that a probe measures together, None where it is alone. Raises: ProbeError for what is no group."""
    with explained():
        return ranks_of(group)


@contextmanager
def alike(ranks: Ranks | None) -> Iterator[dict[str, Any]]:
    """What all ranks do at the beginning: it fails everywhere where it fails somewhere, or where settings differ.

    Yields: the settings, to be filled in. Raises: ProbeError.
    """
    settings: dict[str, Any] = {}
    try:
        yield settings
    except Exception as error:
        if ranks is not None:
            with explained():
                ranks.meet("the making of the probe", [0], error=error)
        raise
    if ranks is None:
        return
    with explained():
        every = ranks.meet("the making of the probe", [zlib.crc32(repr(settings).encode())])
        if (every != every[0]).any():
            first = ranks.told("the settings of the probe", lambda: settings)
            others = ", ".join(map(str, np.flatnonzero((every != every[0]).any(axis=1))))
            differs = [
                f"{what} is {here!r} here, {first.get(what)!r} on rank 0"
                for what, here in settings.items()
                if here != first.get(what)
            ]
            raise ProbeError(
                "the ranks make different probes; give all of them the same settings. "
                + ("; ".join(differs) or f"Not as rank 0: rank {others}, which tells what differs")
            )
