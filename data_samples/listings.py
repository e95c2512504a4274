"""Writes data_samples/listings_related.csv and _diverse.csv: the first made product listings (`make sample`)."""

from __future__ import annotations

from pathlib import Path

import mtlviz as mv

HERE = Path(__file__).parent
ROWS = {"train": 8, "validation": 2, "test": 2}  # of each task


def write() -> None:
    """The first rows of each task and split at the default scale and seed."""
    for setup in ("related", "diverse"):
        table = mv.data.listings_table(setup)
        counted = table.groupby(["task", "split"], sort=False).cumcount()
        sample = table[counted < table["split"].map(ROWS)]
        path = HERE / f"listings_{setup}.csv"
        sample.to_csv(path, index=False, lineterminator="\n")
        print(f"{path}: {len(sample)} rows, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    write()
