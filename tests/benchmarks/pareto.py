"""Prints what the descent on the toy problem costs, warm and cold, beside torch's autograd and TorchJD's weightings.

The goals: six methods × five starts × 35 000 Adam steps in 0.3 s, and eight × five × 10 000 in 0.1 s, both warm. Torch
takes 200 steps of the same trajectories, all starts and methods of one formula at once, and is extrapolated to as
many steps. Run as `python -m tests.benchmarks.pareto`; medians and best of several, one process at a time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torchjd.aggregation import CAGradWeighting, IMTLGWeighting, MGDAWeighting, PCGradWeighting

from mtlviz.pareto import Toy, descend
from tests.pareto import peers

SIX = ("equal", "mgda", "pcgrad", "cagrad", "imtl_g", "nash_mtl")
EIGHT = (*SIX, "emtl", "bandit_mtl")
REPEATS, TORCH_STEPS = 7, 200
THEIRS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mgda": MGDAWeighting(),
    "pcgrad": PCGradWeighting(),
    "cagrad": CAGradWeighting(c=0.4),
    "imtl_g": IMTLGWeighting(),
}

COLD = """
import time
begin = time.perf_counter()
import mtlviz as mv
mv.pareto
imported = time.perf_counter()
for n in range(2):
    mv.pareto.descend({methods!r}, steps=35_000)
    print(time.perf_counter() - imported, imported - begin)
    imported, begin = time.perf_counter(), time.perf_counter()
"""


def seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def timed(act: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """The median and the least seconds of an act that was done once before."""
    act()
    taken = [seconds(act) for _ in range(repeats)]
    return statistics.median(taken), min(taken)


def busy(act: Callable[[], object], repeats: int = 3) -> float:
    """The least seconds that all threads together compute in an act, which other programs lengthen less."""
    least = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        act()
        least = min(least, time.process_time() - begin)
    return least


def cold(cache: str | None) -> tuple[float, float, float]:
    """Seconds of the import, of the first descent and of the second, in a process of its own."""
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
    code = COLD.format(methods=SIX)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    (first, imported), (second, _) = (map(float, line.split()) for line in done.stdout.split("\n")[:2])
    return imported, first, second


def torch_batch() -> None:
    """All trajectories in one tensor: autograd, our own formulas of the weights, torch's Adam."""
    peers.descent(list(SIX), np.array(Toy.usual_starts) + 0.25, peers.toy, (0.1, 1.0), TORCH_STEPS, "adam", 1e-3)


def torchjd_loop(name: str) -> None:
    """One trajectory with TorchJD's weighting of the Gramian, as a user of it would write the loop."""
    x = torch.tensor(Toy.usual_starts[0], dtype=torch.float64, requires_grad=True)
    adam, scale = torch.optim.Adam([x], lr=1e-3), torch.tensor([0.1, 1.0], dtype=torch.float64)
    for _ in range(TORCH_STEPS):
        losses = peers.toy(x) * scale
        g = torch.stack([torch.autograd.grad(losses[t], x, retain_graph=t == 0)[0] for t in range(2)])
        x.grad = THEIRS[name](g @ g.T) @ g
        adam.step()


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # the weightings' own
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; warm, seconds: median and best of {REPEATS}; of CPU")
    for names, steps, goal in ((SIX, 35_000, 0.3), (EIGHT, 10_000, 0.1), (EIGHT, 10, None)):
        act = partial(descend, names, steps=steps)
        middle, best = timed(act)
        wanted = f"goal {goal}" if goal else "all of it overhead"
        print(
            f"{len(names)} methods × 5 starts × {steps:6,} steps: {middle:7.4f} {best:7.4f} {busy(act):7.4f}   {wanted}"
        )
    whole = timed(lambda: descend(SIX, steps=35_000).verdicts)[0]
    print(f"6 methods × 5 starts × 35,000 steps with the verdicts: {whole:.4f}")

    print("\nns of CPU a step of one trajectory, best of 3, and of TorchJD's weighting in a loop of autograd")
    for name in dict.fromkeys((*EIGHT, "uncertainty", "famo", "dwa", "upgrad", "rlw", "gradnorm")):
        ours = busy(partial(descend, name, (-8.5, 7.5), offset=50.0, steps=35_000)) / 35_000
        theirs = ""
        if name in THEIRS:
            taken = busy(partial(torchjd_loop, name), 2) / TORCH_STEPS
            theirs = f"{1e9 * taken:12,.0f}   {taken / ours:8,.0f} ×"
        print(f"{name:<14}{1e9 * ours:8.0f}{theirs}")

    ours, theirs_whole = busy(partial(descend, SIX, steps=35_000)), busy(torch_batch, 2) / TORCH_STEPS * 35_000
    print(f"\ntorch, all 30 trajectories in one tensor, {TORCH_STEPS} steps taken and extrapolated to 35,000, of CPU:")
    print(f"{theirs_whole:.1f} s, {theirs_whole / ours:.0f} × the descent")

    print("\ncold, 6 methods × 5 starts × 35,000 steps: seconds of the import, the first and the second descent")
    print("kernels on the disk:      {:6.2f} {:6.2f} {:6.2f}".format(*cold(None)))
    with tempfile.TemporaryDirectory() as empty:
        print("nothing on the disk:      {:6.2f} {:6.2f} {:6.2f}".format(*cold(empty)))


if __name__ == "__main__":
    main()
