"""Numbers that Lu et al., NAACL 2022 industry track, print: changes over Uni. Weight (Final), in points."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

BASELINE = "Uni. Weight (Final)"
RELATED = ("Dedup", "PD-I", "PD-II", "Var", "UoMI")
DIVERSE = ("RAI", "SIMS", "TC", "PTC", "Dedup")
_METRIC = {"UoMI": "accuracy", "RAI": "accuracy", "TC": "accuracy", "PTC": "accuracy", "SIMS": "(1 − RMSE) × 100"}


class Row(NamedTuple):
    """A row as printed; `steps` is None where the cell is empty, `second` what is underlined, by column."""

    steps: int | None
    changes: tuple[float, ...]
    average: float
    second: tuple[str, ...] = ()


TABLE_3 = {
    "Uni. Weight (Final)": Row(8200, (0, 0, 0, 0, 0), 0.00),
    "Uni. Weight (Best)": Row(None, (0.30, 1.00, 1.50, 1.00, 0.10), 0.78, ("PD-II", "UoMI", "Avg")),
    "Muppet": Row(8200, (0.10, -0.10, 0.10, -0.20, -0.20), -0.06),
    "DWA": Row(8200, (0.10, -0.30, 0.10, -0.10, 0.00), -0.04),
    "GradNorm": Row(8200, (-15.50, -15.50, -12.70, -4.80, -2.30), -10.16),
    "Joint": Row(8200, (0.60, 1.10, 1.60, 0.90, -0.30), 0.78, ("PD-I", "Var", "Avg")),
    "Sequential (Small)": Row(9000, (0.00, -1.20, 1.30, 0.60, 0.10), 0.16, ("UoMI",)),
    "Sequential (Large)": Row(12000, (0.50, 1.30, 1.50, 0.90, 0.30), 0.90, ("Dedup", "PD-II", "Var")),
    "Sequential (Easy)": Row(11000, (0.30, 0.90, 1.50, 0.90, 0.10), 0.74, ("PD-II", "Var", "UoMI", "Avg")),
}
TABLE_4 = {
    "Uni. Weight (Final)": Row(10600, (0, 0, 0, 0, 0), 0.00, ("SIMS",)),
    "Uni. Weight (Best)": Row(None, (1.10, 0.10, 1.10, 1.00, 0.10), 0.68, ("Dedup",)),
    "Muppet": Row(10600, (-1.00, -0.10, 0.50, 0.70, 0.10), 0.04, ("Dedup",)),
    "DWA": Row(10600, (0.80, 0.00, 0.30, 0.10, 0.00), 0.24, ("SIMS",)),
    "GradNorm": Row(10600, (-10.40, -2.10, -1.20, -1.00, -14.30), -5.80),
    "Joint": Row(10600, (5.70, 0.00, 0.60, 1.10, -0.40), 1.40, ("RAI", "SIMS", "PTC", "Avg")),
    "Sequential (Small)": Row(16800, (5.70, 0.10, 0.90, 1.40, 0.50), 1.72, ("RAI", "TC")),
    "Sequential (Large)": Row(37200, (7.20, -0.20, 0.30, 0.80, -2.10), 1.20),
    "Sequential (Easy)": Row(45800, (4.00, -0.20, 0.50, 1.10, -1.10), 0.86, ("PTC",)),
}
TABLE_5 = {
    "Uni. Weight (Final)": TABLE_3["Uni. Weight (Final)"],  # not printed again, but what the changes are over
    "Joint": Row(8200, (0.60, 1.10, 1.60, 0.90, -0.30), 0.78),
    "BAM (M→M)": Row(16400, (0.40, 1.80, 1.70, 1.00, 0.00), 0.98),
    "Sequential (Small)": Row(9000, (0.00, -1.20, 1.30, 0.60, 0.10), 0.16),
    "Continual MTL": Row(10200, (0.00, -0.70, -0.20, 0.50, -0.60), -0.20),
}
TABLES = {3: (RELATED, TABLE_3), 4: (DIVERSE, TABLE_4), 5: (RELATED, TABLE_5)}


def lu2022(number: int) -> pd.DataFrame:
    """Table 3, 4 or 5 as the study returns a frame: a row per method and task."""
    tasks, table = TABLES[number]
    return pd.DataFrame(
        [
            {
                "method": method,
                "seed": 0,
                "task": task,
                "metric": _METRIC.get(task, "PRAUC"),
                "direction": "max",
                "value": change,
                "train_steps": pd.NA if row.steps is None else row.steps,
            }
            for method, row in table.items()
            for task, change in zip(tasks, row.changes, strict=True)
        ]
    )
