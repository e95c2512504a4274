"""A run as text: its status line, and a table with a row per task that fits the terminal."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlviz import analysis
from mtlviz.analysis.recent import WINDOW
from mtlviz.figures import theme
from mtlviz.runlog.log import RunLog
from mtlviz.widgets.progress import Progress

NAME = (8, 24)  # cells of a task's name: no fewer, no more
SPARK = (8, 40)  # cells of a curve: no fewer, no more
ROOMY = 96  # cells from which columns stand further apart
AROUND = 8  # lines of a view beside the rows of its table
_BARS = "▁▂▃▄▅▆▇█"
_STATES = {"running": "blue", "paused": "yellow", "finished": "green", "failed": "red", "interrupted": "red"}


@dataclass(frozen=True)
class Column:
    """A column of numbers: its heading, its width in cells, and how a row of the frame is put there."""

    heading: str
    width: int
    text: Callable[[Any], str]


def _best(row: Any) -> str:
    at = "" if pd.isna(row.best_step) else f" @{_count(int(row.best_step))}"
    return number(row.best) + at + ("" if pd.isna(row.converged) else " ✓")


_COLUMNS = (  # the most telling first: a narrow terminal leaves out the last ones
    Column("loss", 7, lambda row: number(row.loss)),
    Column("share", 6, lambda row: percent(row.share)),
    Column("conflict", 8, lambda row: percent(row.conflict_rate)),
    Column("best", 14, _best),
    Column("‖g‖", 8, lambda row: number(row.grad_norm)),
    Column("L/‖g‖", 8, lambda row: number(row.relative_rate)),
)


def frame(log: RunLog) -> pd.DataFrame:
    """What the table shows of each task: the means of `analysis.recent`, its best validation, and when it converged."""
    judged = analysis.task_table(log)
    return analysis.recent(log).assign(
        best=judged["best"], best_step=judged["best_step"], converged=judged["converged"]
    )


def view(log: RunLog, title: str, progress: Progress, *, width: int, rows: slice = slice(None)) -> RenderableType:
    """The run as it stands, no wider than `width` cells; `rows` says which tasks, where they are too many to show."""
    gap = 1 if width < ROOMY else 2
    taken, shown = _fitting(width, gap)
    left = width - sum(column.width + gap for column in shown)
    name_width = min(max(left // 3, NAME[0]), NAME[1])
    spark_width = min(max(left - name_width - gap, SPARK[0]), SPARK[1])
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", expand=False)
    table.add_column("task", width=name_width, no_wrap=True)
    table.add_column("loss so far", width=spark_width, no_wrap=True)
    for column in shown:
        table.add_column(column.heading, width=column.width, justify="right", no_wrap=True)
    curves = sparks(log, spark_width)
    tasks = frame(log)
    names = shortened(log.names, name_width)
    row: Any  # a named tuple of the columns
    for index, row in list(enumerate(tasks.itertuples()))[rows]:
        name = Text(names[index], style=theme.colour(index))
        table.add_row(name, Text(curves[index]), *(Text(column.text(row)) for column in shown))
    return Group(*_head(title, progress, width), table, Text(_note(len(tasks), rows, taken), style="dim"))


def _fitting(width: int, gap: int) -> tuple[list[str], tuple[Column, ...]]:
    """The headings that a table of this width leaves out, and the columns that it has."""
    free = width - NAME[0] - SPARK[0] - gap
    shown: list[Column] = []
    for column in _COLUMNS:
        if column.width + gap > free:
            break
        free -= column.width + gap
        shown.append(column)
    return [column.heading for column in _COLUMNS[len(shown) :]], tuple(shown)


def _head(title: str, progress: Progress, width: int) -> list[RenderableType]:
    status = Text.assemble((plain(title), "bold"), " · ", (progress.state, _STATES.get(progress.state, "")))
    status.append(progress.text().removeprefix(progress.state))
    share = progress.share
    bar = [] if share is None else [ProgressBar(total=1.0, completed=share, width=width)]
    return [status, *bar, Text("")]


def _note(count: int, rows: slice, left_out: Sequence[str]) -> str:
    first, last, _ = rows.indices(count)
    some = f"Tasks {first + 1} to {last} of {count}. " if last - first < count else ""
    narrow = f" A wider terminal also shows {', '.join(left_out)}." if left_out else ""
    return f"{some}Means of the last {WINDOW} recorded steps; curves: the whole run, logarithmic.{narrow}"


def sparks(log: RunLog, width: int) -> list[str]:
    """Each task's loss over the whole run in at most `width` cells, what a rewind discarded left out."""
    curves = analysis.losses(log, n=width)
    curves = curves[~curves["discarded"].to_numpy(bool)]
    code = curves["task"].cat.codes.to_numpy()
    losses = curves["loss"].to_numpy(np.float64)
    return [spark(losses[code == index][-width:]) for index in range(len(log.names))]


def spark(values: np.ndarray) -> str:
    """Values as bars of eight heights, logarithmic where all are above 0; a space where there is none."""
    known = np.isfinite(values)
    if not known.any():
        return ""
    scaled = np.log(np.where(known, values, 1.0)) if (values[known] > 0).all() else np.where(known, values, 0.0)
    low, high = scaled[known].min(), scaled[known].max()
    height = (scaled - low) / (high - low) if high > low else np.full(len(values), 0.5)
    places = np.clip(np.nan_to_num(height * len(_BARS)), 0, len(_BARS) - 1).astype(int)
    return "".join(_BARS[place] if there else " " for place, there in zip(places, known, strict=True))


def line(log: RunLog, title: str, progress: Progress, *, most: int = 8) -> str:
    """The run in one line: its status, and the recent loss of its first tasks."""
    losses = analysis.recent(log)["loss"]
    told = [f"{name} {number(loss)}" for name, loss in zip(shortened(log.names, NAME[1]), losses, strict=True)]
    more = f", and {len(told) - most} more" if len(told) > most else ""
    return f"{plain(title)} · {progress.text()} · loss: {', '.join(told[:most])}{more}"


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names of at most `width` cells, cut in the middle, since they often differ only at the end; no two are alike."""
    cut = [_cut(plain(name), width) for name in names]
    for index, name in enumerate(cut):
        count = cut[:index].count(name)
        if count or cut.count(name) > 1:
            mark = f" {index + 1}"
            cut[index] = _cut(plain(names[index]), width - len(mark)) + mark
    return cut


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    tail = text[-((width - 1) // 3) :]
    while cell_len(tail) > (width - 1) // 3:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)).rstrip() + "…" + tail


def plain(text: object) -> str:
    """Text that moves no cursor and reverses no line: what is no visible sign becomes one."""
    return "".join("�" if unicodedata.category(sign)[0] == "C" else sign for sign in " ".join(str(text).split()))


def number(value: float) -> str:
    """A number in at most 7 cells."""
    if math.isnan(value):
        return "–"
    size = abs(value)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if size != 0 and not 1e-3 <= size < 1e5:
        digits, power = f"{value:.0e}".split("e") if not 1e-99 < size < 9e98 else f"{value:.1e}".split("e")
        return f"{digits}e{int(power)}"
    return f"{value:.0f}" if size >= 100 else f"{value:#.3g}"


def percent(value: float) -> str:
    """A share as a whole percentage; it may lie far outside 0 to 100 where gradients nearly cancel."""
    return "–" if math.isnan(value) else f"{value:.0%}" if abs(value) < 100 else f"{value:.0e}"


def _count(steps: int) -> str:
    return f"{steps:,}" if steps < 100_000 else f"{steps / 1000:.0f}k"
