"""Records data_samples/source_sweep.csv: which source helps a target most, over 112 settings and ten seeds."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd

import mtlviz as mv

HERE = Path(__file__).parent
SEEDS = 10
KINDS = {  # teacher, kind, numbers of features, label noise, samples of the source
    "linear regression": ("linear", "regression", (20, 50, 100), (0.0, 0.5), (100, 1_000, 10_000)),
    "classification": ("linear", "classification", (20, 50, 100), (0.0, 0.2), (100, 1_000, 10_000)),
    "ReLU regression": ("relu", "regression", (20,), (0.0, 0.3), (100, 1_000, 3_000)),
}
CONDITIONS, COSINES = (10.0, 100.0), (0.8, 0.96)
TARGETS = {"half as many samples as features": 0.5, "twice as many samples as features": 2.0}


def sweeps() -> pd.DataFrame:
    """Every run of the study, with the group that it belongs to."""
    parts = []
    for name, (teacher, kind, features, noises, sizes) in KINDS.items():
        for noise, (target, times) in product(noises, TARGETS.items()):
            settings = {
                f"d={d}, condition={condition:g}, cosine={cosine:g}": mv.transfer.three_sources(
                    features=d,
                    condition=condition,
                    cosine=cosine,
                    noise=noise,
                    target_samples=int(times * d),
                    teacher=teacher,
                    kind=kind,
                )
                for d, condition, cosine in product(features, CONDITIONS, COSINES)
            }
            sweep = mv.transfer.source_sweep(settings, source_samples=sizes, seeds=SEEDS, jobs=-1)
            parts.append(sweep.assign(group=f"{name}, noise {noise:g}, {target}"))
            print(parts[-1]["group"].iloc[0], len(settings), "settings")
    return pd.concat(parts, ignore_index=True)


def record() -> None:
    """Per group, the share of runs in which each source is the best, and what it does on average."""
    rows = []
    for group, sweep in sweeps().groupby("group", sort=False):
        best = mv.transfer.best_sources(sweep)
        found = best[best["setting"] == "all settings"].drop(columns="setting")
        helped = sweep.assign(helps=sweep["difference"] < 0).groupby(["source_samples", "source"])["helps"].mean()
        keys = found[["source_samples", "source"]].itertuples(index=False, name=None)
        rows.append(found.assign(helps=[helped[key] for key in keys]).assign(group=group))
    table = pd.concat(rows, ignore_index=True)
    table = table[["group", "source_samples", "source", "runs", "share", "low", "high", "helps"]]
    path = HERE / "source_sweep.csv"
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.3g")
    print(f"{path}: {len(table)} rows, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    record()
