"""A run log as one HTML file that needs nothing else: every figure, the tasks, the events and the configuration."""

from __future__ import annotations

import contextlib
import html
import json
import os
import string
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, overload

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mtlviz import __version__, analysis, figures
from mtlviz.analysis.buckets import log_only
from mtlviz.analysis.validation import scheduled
from mtlviz.errors import RunLogError
from mtlviz.figures import theme
from mtlviz.runlog import RunLog

MOST_EVENTS = 200
HEADING = 40  # pixels that a heading takes inside a figure
NOTE = 96  # pixels for a note in place of a figure


FIGURES: dict[str, Callable[[RunLog], go.Figure]] = {
    "losses": lambda log: figures.losses(analysis.losses(log)),
    "validations": lambda log: figures.validations(analysis.validations(log)),
    "shares": lambda log: figures.shares(analysis.shares(log)),
    "weights": lambda log: figures.weights(analysis.weights(log)),
    "gradient_norms": lambda log: figures.gradient_norms(analysis.gradient_norms(log)),
    "relative_rates": lambda log: figures.relative_rates(analysis.relative_rates(log)),
    "rate_variance": lambda log: figures.rate_variance(analysis.rate_variance(log)),
    "conflict_matrix": lambda log: figures.conflict_matrix(analysis.conflict_matrix(log)),
    "conflict_rate": lambda log: figures.conflict_rate(analysis.conflict_rate(log)),
    "layer_conflict": lambda log: figures.layer_conflict(analysis.layer_conflict(log)),
}


HINTS = {
    "timeline": "A thick bar learns from true labels, a thin one from soft labels: what a checkpoint of its own, or a "
    "teacher, predicts. A diamond marks the validation at which a task was found to have converged; from there the "
    "whole run went back to the arrow's end, and what is faint was thrown away. Much that is faint means that the "
    "patience is dear.",
    "affinity": "By how many percent the column's loss fell, on the batch of a step, after a step along the row's "
    "gradient alone; averaged over the steps that were measured. Blue in a column are the tasks whose gradients serve "
    "it, red those that undo it. It tells of single steps of training, not of where training ends.",
}
"""What to look for in figures that only some logs have."""


@overload
def report(log: RunLog, path: None = None) -> str: ...
@overload
def report(log: RunLog, path: str | os.PathLike[str]) -> Path: ...
def report(log: RunLog, path: str | os.PathLike[str] | None = None) -> str | Path:
    """Write what a run log says as one HTML file that opens offline, in light or dark, on any width.

    Args:
        log: a finished run, or one that goes on (the report then tells of this moment).
        path: where to write the file; None returns the HTML itself.

    Returns:
        The HTML, or the path that was written.

    Raises:
        FrameError: `log` is no RunLog.
        RunLogError: the file cannot be written, or its folder does not exist. A report that was there stays whole.
    """
    page = _page(log)
    if path is None:
        return page
    target = Path(path)
    # A draft takes the place of a regular file; a link, a pipe or a device is written through.
    through = os.path.islink(target) or (os.path.exists(target) and not os.path.isfile(target))
    draft = target if through else target.parent / f".{target.name}.{os.getpid()}.new"
    try:
        draft.write_text(page, encoding="utf-8")
        if not through:
            draft.replace(target)
    except OSError as error:
        if not through:
            with contextlib.suppress(OSError):
                draft.unlink()
        raise RunLogError(
            f"Could not write the report to {target}: {error.strerror or error}. "
            "Choose a file that you may write, in a folder that exists."
        ) from error
    return target


def _page(log: RunLog) -> str:
    now = log_only(log, needs="report", because="it shows every table").snapshot()
    summary = analysis.run_summary(now).iloc[0]
    drawn = {name: figure(now) for name, figure in FIGURES.items()}
    more = {"timeline": figures.timeline(analysis.timeline(now))} if scheduled(now) else {}
    affinity = analysis.affinity(now)
    more |= {} if affinity.empty else {"affinity": figures.affinity(affinity)}
    template = string.Template(resources.files("mtlviz").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"Run of {summary['problem']}"),
        lead=_lead(summary),
        facts=_facts(summary),
        tasks=_task_table(analysis.task_table(now), schedule=scheduled(now)),
        **{name: _article(name, figure) for name, figure in drawn.items()},
        **{name: _further(name, more.get(name)) for name in HINTS},
        events=_events(now.events),
        configuration=_configuration(dict(now.info.config)),
        footer=f"Written by mtlviz {html.escape(__version__)}.",
        figures=_script_json({name: _bare(figure) for name, figure in (drawn | more).items()}),
        plotly=get_plotlyjs().replace("</script", "<\\/script"),
    )


def _lead(summary: pd.Series) -> str:
    tasks = "1 task" if summary["tasks"] == 1 else f"{summary['tasks']} tasks"
    weighting = f", weighted by <b>{html.escape(summary['weighting'])}</b>" if summary["weighting"] else ""
    return f"{tasks} on one shared trunk{weighting}."


def _facts(summary: pd.Series) -> str:
    facts = {
        "State": html.escape(summary["state"]),
        "Steps": f"{summary['steps']:,}",
        "Recorded": f"{summary['recorded']:,}",
        "Discarded": f"{summary['discarded']:,}" if summary["discarded"] else "",
        "Time": _duration(summary["seconds"]),
        "Steps per second": _number(summary["steps_per_second"]),
        "Validations": f"{summary['validations']:,}",
        "Schedule": html.escape(summary["schedule"]),
        "Converged": f"{summary['converged']} of {summary['tasks']} tasks" if summary["schedule"] else "",
        "Layers recorded": f"{summary['layers']:,}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items() if value)


def _task_table(table: pd.DataFrame, *, schedule: bool) -> str:
    heads: tuple[str, ...] = (
        "Task",
        "Metric",
        "Final",
        "Best",
        "at step",
        "Test",
        "Final loss",
        "Share",
        "Conflict",
        "Relative rate",
        "Samples / step",
        "Train samples",
    )
    heads += ("Converged at step",) if schedule else ()
    head = "".join(f"<th{' class=text' if i < 2 else ''}>{name}</th>" for i, name in enumerate(heads))
    rows = []
    row: Any  # a named tuple of the columns
    for index, row in enumerate(table.itertuples()):
        arrow = "↑" if row.direction == "max" else "↓"
        other = "" if row.monitored_on == "validation" else " †"
        cells: tuple[str, ...] = (
            _number(row.final),
            _number(row.best),
            _count(row.best_step),
            _number(row.test),
            _number(row.loss),
            _percent(row.share),
            _percent(row.conflict_rate),
            _number(row.relative_rate),
            _number(row.samples),
            _count(row.train_samples),
        )
        if schedule:
            cells += (_count(row.converged),)
        name = f'<td class="text task">{_swatch(index)}{html.escape(str(row.task))}</td>'
        metric = f'<td class="text wrap">{html.escape(str(row.metric))} {arrow}{other}</td>'
        rows.append(f"<tr>{name}{metric}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{_monitored(table)}"


def _monitored(table: pd.DataFrame) -> str:
    """Return a note on the tasks whose validations were measured on another split than "validation"."""
    others = table[table["monitored_on"] != "validation"]
    if others.empty:
        return ""
    said = ", ".join(
        f"{html.escape(str(row.task))} ({html.escape(str(row.monitored_on))})" for row in others.itertuples()
    )
    return (
        f'<p class="hint">† No validation split, so another was watched: {said}. Its best, and when it converged, were '
        "chosen on the data it is judged by, which flatters it.</p>"
    )


def _swatch(index: int) -> str:
    """Return a short stroke in the task's colour and dash, as its curves have them."""
    pattern = {"solid": "", "dash": "6 3", "dot": "2 3", "dashdot": "6 3 2 3", "longdash": "10 3"}[theme.dash(index)]
    stroke = f'stroke="{theme.colour(index)}" stroke-width="3" stroke-dasharray="{pattern}"'
    return f'<svg width="24" height="8" aria-hidden="true"><line x1="0" y1="4" x2="24" y2="4" {stroke}/></svg>'


def _article(name: str, figure: go.Figure) -> str:
    """Return a figure's heading and the place where the page draws it."""
    question, quantity = figure.layout.meta["question"], figure.layout.meta["quantity"]
    height = figure.layout.height - HEADING if figure.data else NOTE
    plot = f'<div id="figure-{name}" role="img" aria-label="{question}"></div>'
    return (
        f'<h3>{question}</h3>\n<p class="quantity">{quantity}</p>\n'
        f'<div class="plot" style="min-height:{height}px">{plot}</div>'
    )


def _further(name: str, figure: go.Figure | None) -> str:
    """Return the whole article of a figure that the log may not have."""
    if figure is None:
        return ""
    return f'<article class="figure">\n{_article(name, figure)}\n<p class="hint">{HINTS[name]}</p>\n</article>'


def _bare(figure: go.Figure) -> dict[str, Any]:
    """Return the figure without its heading, which stands above it as text."""
    bare = json.loads(figure.to_json())  # arrays as base64, what is not finite as null
    layout = dict(bare["layout"])
    layout.pop("template", None)
    layout.pop("title", None)
    if "legend" in layout:
        layout["legend"] = {key: value for key, value in layout["legend"].items() if key != "title"}
    layout["margin"] = layout["margin"] | {"t": 4}
    layout.pop("height")  # the page gives it
    return {"data": bare["data"], "layout": layout}


def _script_json(content: Any) -> str:
    """Return JSON that may stand inside a script element: no text in it can close the element."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _events(events: pd.DataFrame) -> str:
    if events.empty:
        return "<p>No event was recorded.</p>"
    rows = []
    row: Any  # a named tuple of the columns
    for row in events.head(MOST_EVENTS).itertuples():
        task = "" if pd.isna(row.task) else html.escape(str(row.task))
        kind, detail = html.escape(str(row.kind)), _detail(row.detail)
        what = (
            f'<td class="text wrap">{kind}</td><td class="text task">{task}</td><td class="text detail">{detail}</td>'
        )
        rows.append(f"<tr><td>{row.step:,}</td>{what}</tr>")
    head = "<th>Step</th><th class=text>Event</th><th class=text>Task</th><th class=text>Detail</th>"
    more = f"<p>… and {len(events) - MOST_EVENTS:,} more.</p>" if len(events) > MOST_EVENTS else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{more}'
    )


def _detail(detail: dict[str, Any]) -> str:
    short = {key: value for key, value in detail.items() if key != "traceback"}
    text = html.escape(", ".join(f"{key}: {_plain(value)}" for key, value in short.items()))
    if "traceback" in detail:
        text += f"<details><summary>Traceback</summary><pre>{html.escape(str(detail['traceback']))}</pre></details>"
    return text


def _configuration(config: dict[str, Any]) -> str:
    if not config:
        return "<p>No configuration was recorded.</p>"
    rows = []
    for key, value in config.items():
        name, content = html.escape(str(key)), html.escape(_plain(value))
        rows.append(f'<tr><td class="text wrap">{name}</td><td class="text detail">{content}</td></tr>')
    return f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _percent(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.0%}"


def _count(value: Any) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
