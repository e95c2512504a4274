"""Records data_samples/run_digits: a short run of the digits problem (`make sample`)."""

from __future__ import annotations

from pathlib import Path

import torch

import mtlviz as mv

RUN = Path(__file__).parent / "run_digits"


def record() -> None:
    """Trains 1500 updates with equal weights and writes the run; the README beside it stays."""
    torch.set_num_threads(1)
    run = mv.start(mv.data.digits(seed=0), weighting="equal", steps=1500, layers_every=20, log=RUN, overwrite=True)
    run.wait()
    (RUN / "run.lock").unlink(missing_ok=True)
    size = sum(file.stat().st_size for file in RUN.iterdir())
    print(f"{RUN}: {len(run.log)} steps, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    record()
