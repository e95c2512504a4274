"""What the Pareto lab says in words: a row per method, and what a descent cost."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mtlviz.figures import theme
from mtlviz.figures.pareto_planes import BEST
from mtlviz.pareto import VERDICTS, Descent
from mtlviz.widgets.descents import Work
from mtlviz.widgets.lab import follows, milliseconds

_SIGNS = dict(zip(VERDICTS, "●▲✕◊□", strict=True))  # as figures.pareto_lines marks them

_HEADINGS = (
    ("method", "left", ""),
    ("on the front", "left", "how many of its starts reach the Pareto front, and what becomes of the others"),
    ("to the best", "right", "mean distance, in the plane of parameters, to the nearest point of the best average"),
    ("gap", "right", "how far the mean of the own losses ends above the best, on average over the starts"),
    (
        "conflict",
        "right",
        "share of the steps at which the two gradients point against each other; on the front they always do",
    ),
)


def table(descent: Descent, colours: Mapping[str, int], notes: Mapping[str, Sequence[str]]) -> str:
    """A row per method as HTML: its starts on the front, its means, why starts are undefined or diverged, and notes."""
    head = "".join(
        f'<th style="text-align:{side}" title="{html.escape(tip)}">{name}</th>' for name, side, tip in _HEADINGS
    )
    rows = []
    means = descent.summary[["distance_to_best", "gap", "conflict_rate"]].to_numpy(dtype=np.float64)
    for method, (distance, gap, conflict) in zip(descent.methods, means, strict=True):
        verdicts = descent.verdicts[descent.verdicts["method"] == method]
        shown = (_number(distance), _number(gap), f"{conflict:.0%}" if np.isfinite(conflict) else "–")
        ends = verdicts["verdict"].astype(str).tolist()
        cells = [_named(method, colours), _reached(ends)]
        left = "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells)
        right = "".join(f'<td style="text-align:right">{cell}</td>' for cell in shown)
        rows.append(f"<tr>{left}{right}</tr>")
        said = [*_why(method, ends, verdicts["detail"])]
        said += notes.get(method, ())
        rows += [
            f'<tr><td colspan="5" style="text-align:left"><small>{html.escape(what)}</small></td></tr>' for what in said
        ]
    style = "border-collapse:collapse;line-height:1.5;font-size:13px;width:100%"
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<table class="mtlviz-table" style="{style}">{body}</table>'


def legend(methods: Sequence[str], colours: Mapping[str, int]) -> str:
    """What the lines and marks of both planes are, as HTML; plotly's own legend is slow to redraw."""
    lines = [(theme.colour(colours[method]), "━", html.escape(method)) for method in methods]
    grey = theme.NEUTRAL
    marks = [(BEST, "━", "Pareto set and front"), (BEST, "★", "best average")]
    marks += [(grey, "◇", "minimum of the weighted sum"), (grey, "╌", "least s₁L₁ + s₂L₂")]
    marks += [(grey, sign, verdict) for verdict, sign in _SIGNS.items()]
    entries = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><b style="color:{colour}">{sign}</b> {name}</span>'
        for colour, sign, name in (*lines, *marks)
    )
    return f'<div class="mtlviz-legend" style="line-height:1.5;font-size:13px">{entries}</div>'


def status(work: Work | None, waits: Sequence[float]) -> str:
    """What was measured, as HTML: the last computation, and how long the picture took to follow the mouse."""
    said = []
    if work is not None:
        amount = f"{_count(work.methods, 'method')} × {_count(work.starts, 'start')} × {work.steps:,} steps"
        said.append(f"{amount}: {milliseconds(1000 * work.seconds)}")
    if waits:
        said.append(follows(waits))
    return html.escape("; ".join(said))


def _named(method: str, colours: Mapping[str, int]) -> str:
    colour = theme.colour(colours.get(method, 0))
    return f'<span style="color:{colour}">●</span> {html.escape(method)}'


def _reached(verdicts: Sequence[str]) -> str:
    """How many reach the front, and what becomes of the others."""
    counts = [(verdict, verdicts.count(verdict)) for verdict in VERDICTS[1:]]
    others = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    return f"<b>{verdicts.count(VERDICTS[0])}</b> of {len(verdicts)}" + (f" · {others}" if others else "")


def _why(method: str, verdicts: Sequence[str], details: Iterable[str]) -> Iterator[str]:
    """How many starts are undefined or diverged, and why the first of them is."""
    first = {verdict: detail for verdict, detail in reversed([*zip(verdicts, details, strict=True)]) if detail}
    for verdict, detail in first.items():
        counted = f"{verdicts.count(verdict)} of {len(verdicts)} {verdict}"
        yield f"{method}: {counted}: {detail.removeprefix(f'{method} ')}"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return "0" if abs(value) < 5e-4 else f"{value:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
