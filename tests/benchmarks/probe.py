"""Prints what a probe costs a loop: its time with the probe at every=1, 10 and 100 ÷ without, interleaved in one run.

A loop's step is forward, backward of the summed losses and Adam. Beside the ratios stands 1 + the overhead
that the probe measures itself at every=1. Run as `python -m tests.benchmarks.probe [--device cuda] [--repeats 7]`: one
or two minutes on a core at the 3 repeats that it does unless told.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

import mtlviz as mv

EVERY = (1, 10, 100)


def mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())))


def cnn() -> nn.Sequential:
    convolutions = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    deeper = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*convolutions, *deeper, nn.Linear(32 * 7 * 7, 64), nn.ReLU())


# how to make the trunk, the shape of a batch, the width of z, steps in a timing
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "small MLP 16-64-64-32, B=32": (lambda: mlp(16, 64, 64, 32), (32, 16), 32, 200),
    "MLP 64-256-256-128, B=256": (lambda: mlp(64, 256, 256, 128), (256, 64), 128, 100),
    "CNN 105k, B=128": (cnn, (128, 1, 28, 28), 64, 20),
    "wide MLP 3 × 1024, B=16": (lambda: mlp(1024, 1024, 1024, 1024), (16, 1024), 1024, 20),
}


class Loop:
    """A training loop of its own, with or without a probe."""

    def __init__(
        self, trunk: nn.Module, shape: tuple[int, ...], features: int, tasks: int, every: int | None, device: str
    ) -> None:
        self.trunk = copy.deepcopy(trunk).to(device)
        self.heads = nn.ModuleList(nn.Linear(features, 1) for _ in range(tasks)).to(device)
        self.optimizer = torch.optim.Adam([*self.trunk.parameters(), *self.heads.parameters()])
        self.x, self.y = torch.randn(*shape, device=device), torch.randn(tasks, shape[0], 1, device=device)
        names = [f"task {t}" for t in range(tasks)]
        self.probe = None if every is None else mv.Probe(names, self.trunk, every=every)
        self.device = device

    def seconds(self, steps: int) -> float:
        """Of a step, the mean over so many."""
        begin = time.perf_counter()
        for _ in range(steps):
            z = self.trunk(self.x)
            losses = [(head(z) - y).square().mean() for head, y in zip(self.heads, self.y, strict=True)]
            if self.probe is not None:
                self.probe.step(losses)
            self.optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each loop, of which the median counts")
    device, repeats = parser.parse_args().device, parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = "".join(f"{f'every={every}':>12}" for every in EVERY)
    print(f"{'model':<30}{'T':>4}{'plain ms':>10}{heads}{'own figure':>12}  engine")
    for name, (make, shape, features, steps) in MODELS.items():
        for tasks in (2, 5):
            trunk = make()
            loops = [Loop(trunk, shape, features, tasks, every, device) for every in (None, *EVERY)]
            # A timing of every=100 must hold as many recorded steps as it should: at least one in a hundred.
            taken = [
                [loop.seconds(max(steps, loop.probe.every if loop.probe else 1)) for loop in loops]
                for _ in range(repeats + 1)
            ]
            plain, *probed = (statistics.median(times) for times in zip(*taken[1:], strict=True))
            ratios = "".join(f"{time / plain:>12.2f}" for time in probed)
            alone = Loop(
                trunk, shape, features, tasks, 1, device
            )  # what runs in between would count as the loop's time
            alone.seconds(steps)
            assert alone.probe is not None
            own, engine = 1 + alone.probe.measured_overhead, alone.probe.engine
            print(f"{name:<30}{tasks:>4}{1e3 * plain:>10.2f}{ratios}{own:>12.2f}  {engine}", flush=True)


if __name__ == "__main__":
    main()
