"""Prints what per-task gradients and Gramians cost: a recorded step ÷ a plain step, and ÷ TorchJD's, in one run.

A plain step is forward and backward of the summed losses; a recorded one gives the T×T Gramian (whole and per layer)
and sets `.grad` as well. Neither includes the optimizer. On the CPU one thread works, and its own time is taken, so
that other work on the machine disturbs little. Peak memory is what a step needs above what stands before it, with what
our engine holds between steps to write into. Run as
`python -m tests.benchmarks.recorded_step [--device cuda] [--only wide] [--tasks 5 20]`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from itertools import accumulate, pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torchjd.aggregation import Sum
from torchjd.autojac import jac_to_grad, mtl_backward

import mtlviz as mv
from mtlviz.data import Batch
from mtlviz.gradients import SharedGradients
from mtlviz.models import SharedTrunk

REPEATS = 9


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


Act = Callable[[], None]


def acts_of(
    make: Callable[[], nn.Module], shape: tuple[int, ...], features: int, count: int, device: str
) -> tuple[list[Act], SharedGradients]:
    """A plain, a recorded and a TorchJD step of the same model, and the engine of the second."""
    torch.manual_seed(0)
    tasks = [mv.Task(f"task {t}", loss=F.mse_loss, metric="rmse", outputs=1) for t in range(count)]
    model = SharedTrunk(make(), {task.name: nn.Linear(features, 1) for task in tasks}).to(device)
    y = {task.name: torch.randn(shape[0]) for task in tasks}
    batch = Batch(torch.randn(*shape), {task.name: slice(0, shape[0]) for task in tasks}, y).to(torch.device(device))
    engine = SharedGradients(model, tasks)
    others = [make_act(copy.deepcopy(model), tasks, batch) for make_act in (_plain, _torchjd)]
    return [others[0], _recorded(engine, model, batch), others[1]], engine


def medians(acts: list[Act], loops: int, device: str) -> list[float]:
    """Median seconds of each act, interleaved."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    taken: list[list[float]] = [[] for _ in acts]
    for repeat in range(REPEATS + 1):
        for act, times in zip(acts, taken, strict=True):
            begin = clock()
            for _ in range(loops):
                act()
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat:  # the first is for warming up
                times.append((clock() - begin) / loops)
    return [statistics.median(times) for times in taken]


def peak(act: Act, device: str) -> float:
    """Megabytes that an act needs at once, above what is there before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        act()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        act()
    assert profile.profiler is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = (e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(accumulate(sizes), default=0) / 2**20


def _losses(model: SharedTrunk, tasks: list[mv.Task], batch: Batch, z: torch.Tensor) -> list[torch.Tensor]:
    return [task.value(model.output(task.name, z), batch.targets[task.name]) for task in tasks]


def _plain(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> Act:
    def act() -> None:
        model.zero_grad()
        torch.stack(_losses(model, tasks, batch, model.represent(batch.inputs))).sum().backward()

    return act


def _recorded(engine: SharedGradients, model: SharedTrunk, batch: Batch) -> Act:
    weights = torch.ones(len(engine.tasks), dtype=torch.float64, device=batch.inputs.device)

    def act() -> None:
        gradients = engine.of(batch)
        engine.layer_gramians(gradients).sum(0)
        engine.set_grad(gradients, weights, heads="sum")

    return act


def _torchjd(model: SharedTrunk, tasks: list[mv.Task], batch: Batch) -> Act:
    shared = list(model.trunk.parameters())

    def act() -> None:
        model.zero_grad()
        z = model.represent(batch.inputs)
        mtl_backward(_losses(model, tasks, batch, z), features=z)
        jac_to_grad(shared, Sum())

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="models whose name begins so")
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 5, 20])
    parser.add_argument("--quick", action="store_true", help="fewer steps at a time")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'model':<29}{'T':>3}{'plain ms':>10}{'÷ plain':>9}{'÷ TorchJD':>11}"
        f"{'peak MB':>9}{'plain':>7}{'TorchJD':>9}  how"
    )
    for name, (make, shape, features, loops) in MODELS.items():
        for count in asked.tasks if name.startswith(asked.only) else ():
            acts, engine = acts_of(make, shape, features, count, asked.device)
            times = medians(acts, max(1, loops // 4) if asked.quick else loops, asked.device)
            plain, recorded, torchjd = times
            peaks = [peak(act, asked.device) for act in acts]
            peaks[1] += engine.held / 2**20
            print(
                f"{name:<29}{count:>3}{1e3 * plain:>10.2f}{recorded / plain:>9.2f}{recorded / torchjd:>11.2f}"
                f"{peaks[1]:>9.0f}{peaks[0]:>7.0f}{peaks[2]:>9.0f}  {engine.name}",
                flush=True,
            )


if __name__ == "__main__":
    main()
