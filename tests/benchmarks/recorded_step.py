"""Prints what per-task gradients and Gramians cost: a recorded step ÷ a plain step, and ÷ TorchJD's, in one run.

A plain step is forward and backward of the summed losses; a recorded one gives the T×T Gramian (whole and per layer)
and sets `.grad` as well. Neither includes the optimizer. Run as `python -m tests.benchmarks.recorded_step`.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torchjd.aggregation import Sum
from torchjd.autojac import jac_to_grad, mtl_backward

import mtlviz as mv
from mtlviz.data import Batch
from mtlviz.gradients import SharedGradients
from mtlviz.models import SharedTrunk

REPEATS = 15


def mlp(*sizes: int) -> nn.Sequential:
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers)


def cnn() -> nn.Sequential:
    convolutions = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    deeper = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*convolutions, *deeper, nn.Linear(32 * 7 * 7, 64), nn.ReLU())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "small MLP 16-64-64-32, B=32": (lambda: mlp(16, 64, 64, 32), (32, 16), 32, 64),
    "MLP 64-256-256-128, B=256": (lambda: mlp(64, 256, 256, 128), (256, 64), 128, 32),
    "CNN 105k, B=128": (cnn, (128, 1, 28, 28), 64, 8),
    "wide MLP 3 × 1024, B=16": (lambda: mlp(1024, 1024, 1024, 1024), (16, 1024), 1024, 8),
}


def compared(
    make: Callable[[], nn.Module], shape: tuple[int, ...], features: int, loops: int, count: int
) -> list[float]:
    """Median seconds of a plain, a recorded and a TorchJD step, interleaved."""
    torch.manual_seed(0)
    tasks = [mv.Task(f"task {t}", loss=F.mse_loss, metric="rmse", outputs=1) for t in range(count)]
    model = SharedTrunk(make(), {task.name: nn.Linear(features, 1) for task in tasks})
    x = torch.randn(*shape)
    y = {task.name: torch.randn(shape[0]) for task in tasks}
    batch = Batch(x, {task.name: slice(0, shape[0]) for task in tasks}, y)
    acts = [_plain(copy.deepcopy(model), tasks, batch), _recorded(model, tasks, batch)]
    acts.append(_torchjd(copy.deepcopy(model), tasks, batch))
    taken: list[list[float]] = [[] for _ in acts]
    for repeat in range(REPEATS + 1):
        for act, times in zip(acts, taken, strict=True):
            begin = time.perf_counter()
            for _ in range(loops):
                act()
            if repeat:  # the first is for warming up
                times.append((time.perf_counter() - begin) / loops)
    return [statistics.median(times) for times in taken]


def _losses(model: SharedTrunk, tasks: list[mv.Task], batch: Batch, z: torch.Tensor) -> list[torch.Tensor]:
    return [task.value(model.output(task.name, z), batch.targets[task.name]) for task in tasks]


def _plain(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> Callable[[], None]:
    def act() -> None:
        model.zero_grad()
        torch.stack(_losses(model, tasks, batch, model.represent(batch.inputs))).sum().backward()

    return act


def _recorded(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> Callable[[], None]:
    engine, weights = SharedGradients(model, tasks), torch.ones(len(tasks), dtype=torch.float64)

    def act() -> None:
        gradients = engine.of(batch)
        engine.layer_gramians(gradients).sum(0)
        engine.set_grad(gradients, weights, heads="sum")

    return act


def _torchjd(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> Callable[[], None]:
    shared = list(model.trunk.parameters())

    def act() -> None:
        model.zero_grad()
        z = model.represent(batch.inputs)
        mtl_backward(_losses(model, tasks, batch, z), features=z)
        jac_to_grad(shared, Sum())

    return act


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'model':<30}{'T':>4}{'plain ms':>10}{'recorded ÷ plain':>18}{'recorded ÷ TorchJD':>20}")
    for name, parts in MODELS.items():
        for count in (2, 5, 20):
            plain, recorded, torchjd = compared(*parts, count)
            print(
                f"{name:<30}{count:>4}{1e3 * plain:>10.2f}{recorded / plain:>18.2f}{recorded / torchjd:>20.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
