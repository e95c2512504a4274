"""Random numbers that depend on a seed and a place in the run, and leave the user's own stream as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

_GLOBAL = threading.RLock()  # torch's default generators belong to the whole process


def derived_seed(*numbers: int) -> int:
    """One 63-bit seed from a few whole numbers from 0, the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """torch's default generators start at `seed` inside, and go on outside as if nothing had happened.

    A step that is a function of (seed, position) needs no stored random state to be repeated after a rewind. Runs of
    one process take turns here, so that they do not disturb each other. Code of the user's own that draws from torch's
    default generators in another thread at the same moment still does: give it a `torch.Generator` of its own.
    """
    with _GLOBAL:
        generators = _generators(device)
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def random_state(device: torch.device | None = None) -> list[torch.Tensor]:
    """Where torch's default generators are, inside a `seeded`, so that `repeated` draws the same once more."""
    return [generator.get_state() for generator in _generators(device)]


@contextmanager
def repeated(state: Sequence[torch.Tensor], device: torch.device | None = None) -> Iterator[None]:
    """torch's default generators go on from a `random_state` inside, and outside as if nothing had happened."""
    with seeded(0, device):
        for generator, there in zip(_generators(device), state, strict=True):
            generator.set_state(there)
        yield


def _generators(device: torch.device | None) -> list[torch.Generator]:
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators
