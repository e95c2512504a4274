"""Records data_samples/study_related.csv and its curves: a study of asynchronous convergence (`make study`)."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

import mtlviz as mv

HERE = Path(__file__).parent
SETTINGS = {"scale": 0.3, "batch_size": 128, "validate_every": 20, "patience": 3, "seeds": 3}
NOT_KEPT = ["seconds", "folder"]  # of the machine, not of the study


def record(folder: str) -> None:
    """The related listings at three tenths of their size, every method, three seeds; the runs stay in `folder`."""
    frame = mv.experiments.convergence_study(
        partial(mv.data.listings, "related", scale=SETTINGS["scale"]),
        seeds=SETTINGS["seeds"],
        schedule=mv.training.Joint(patience=SETTINGS["patience"], validate_every=SETTINGS["validate_every"]),
        batch_size=SETTINGS["batch_size"],
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        folder=folder,
    )
    curves = mv.experiments.convergence_curves(frame)
    for name, table in (("study_related", frame.drop(columns=NOT_KEPT)), ("study_related_curves", curves)):
        path = HERE / f"{name}.csv"
        table.to_csv(path, index=False, lineterminator="\n", float_format="%.5g")
        print(f"{path}: {len(table)} rows, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    record(sys.argv[1] if len(sys.argv) > 1 else "runs/study_related")
