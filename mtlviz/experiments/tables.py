"""A comparison as the papers print it: each metric, Δm and mean rank, the best in bold and the second underlined."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from mtlviz.analysis import delta_m, mean_rank, method_table
from mtlviz.analysis.comparison import DELTA, Convention, not_ranked
from mtlviz.errors import FrameError

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

PLAIN, BEST, SECOND = 0, 1, 2
NOTHING = "–"
DELTAS = {"nash-mtl": ("Δm % ↓", -1.0), "libmtl": ("Δp % ↑", 1.0)}
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Theta": "Θ",
    "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$", "−": r"$-$", "±": r"$\pm$",
    "Δ": r"$\Delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "<": r"$<$", ">": r"$>$", "|": r"$|$",
    "\n": " ", "[": "{[}", "]": "{]}",  # after the \\ of a row a [ would begin its optional argument
    **{letter: rf"$\{name}$" for name, letter in _GREEK.items()},
}  # fmt: skip
_SELECTED = {
    "final": "Validation at the end of each run.",
    "best_mean": "Validation at the step of each run that is best for the mean of its tasks.",
    "best_per_task": "Validation at each task's own best step: optimistic, and several models.",
}
_MARKDOWN = {"|": r"\|", "*": r"\*", "_": r"\_", "`": r"\`", "$": r"\$", "<": "&lt;", "\n": " "}


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Cells as texts, a row per method, and which of them are best and second; shown as HTML, Markdown or LaTeX.

    cells: texts, columns (task, metric with the arrow of its better direction); the task is "" for Δm and mean rank.
    marks: of the same shape, `BEST`, `SECOND` or `PLAIN`. caption: what the numbers are.
    """

    cells: pd.DataFrame
    marks: pd.DataFrame
    caption: str

    @property
    def style(self) -> Styler:
        """The table as a pandas Styler."""
        looks = {BEST: "font-weight: bold", SECOND: "text-decoration: underline", PLAIN: ""}
        css = self.marks.map(lambda mark: looks[mark])
        styler = self.cells.style.apply(lambda _: css, axis=None).format(escape="html")
        for axis in (0, 1):
            styler = styler.format_index(escape="html", axis=axis)
        styler = styler.set_caption(html.escape(self.caption))
        return styler.set_table_styles([{"selector": "td", "props": "text-align: right; white-space: nowrap"}])

    def markdown(self) -> str:
        """The table in GitHub's Markdown, padded so that it can be read as plain text too."""
        heads = [_escaped(" ".join(filter(None, column)), _MARKDOWN) for column in self.cells.columns]
        marked = self._marked({BEST: "**{}**", SECOND: "<u>{}</u>", PLAIN: "{}"}, _MARKDOWN)
        rows = [["method", *heads], *marked]
        first, *others = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            f"| {row[0]:<{first}} | "
            + " | ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], others, strict=True))
            + " |"
            for row in rows
        ]
        rule = f"|:{'-' * (first + 1)}|" + "".join(f"{'-' * (w + 1)}:|" for w in others)
        return "\n".join([lines[0], rule, *lines[1:], "", self.caption])

    def latex(self) -> str:
        r"""The table as a LaTeX tabular; it needs `\usepackage{booktabs}`."""
        marked = self._marked({BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}", PLAIN: "{}"}, _LATEX)
        spans, rules, column = [], [], 2
        for task, group in groupby(self.cells.columns.get_level_values(0)):
            width = len(list(group))
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_escaped(task, _LATEX)}}}")
            rules += [rf"\cmidrule(lr){{{column}-{column + width - 1}}}"] if task else []
            column += width
        heads = [_escaped(metric, _LATEX) for metric in self.cells.columns.get_level_values(1)]
        return "\n".join(
            [
                f"% {' '.join(self.caption.split())}",
                rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
                r"\toprule",
                " & ".join(["", *spans]) + r" \\",
                " ".join(rules),
                " & ".join(["method", *heads]) + r" \\",
                r"\midrule",
                *(" & ".join(row) + r" \\" for row in marked),
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )

    def _repr_html_(self) -> str:
        return self.style.to_html()

    def __repr__(self) -> str:
        return self.markdown()

    def _marked(self, forms: dict[int, str], escapes: dict[str, str]) -> list[list[str]]:
        """The rows, a method's name first, escaped and marked."""
        rows = zip(self.cells.index, self.cells.to_numpy(), self.marks.to_numpy(), strict=True)
        return [
            [_escaped(name, escapes)]
            + [forms[mark].format(_escaped(cell, escapes)) for cell, mark in zip(cells, marks, strict=True)]
            for name, cells, marks in rows
        ]


def table(
    frame: pd.DataFrame,
    baseline: str | None = None,
    *,
    show: Literal["values", "changes"] = "values",
    convention: Convention = "nash-mtl",
    unranked: str | Sequence[str] = ("stl",),
    digits: int = 4,
) -> Table:
    """The table of a comparison: a row per method, each task's metrics as mean ± std over seeds, Δm and mean rank.

    The best of a column is bold and the second underlined, as the numbers are shown: equal ones share the mark.

    Args:
        frame: as `mv.experiments.compare` returns it; a table from a paper with its columns will do.
        baseline: what Δm and changes are measured against: "stl" where the frame has it, else "equal", else the
            first method, unless given.
        show: "values", or "changes": the difference to the baseline's mean in the metric's own unit. The baseline keeps
            its values.
        convention: which Δm; see `mv.analysis.delta_m`.
        unranked: methods that are neither ranked nor marked; see `mv.analysis.mean_rank`.
        digits: significant digits of the largest number of a column.

    Returns:
        A `Table`: in a notebook it shows itself; `.style` is a pandas Styler, `.markdown()` and `.latex()` are texts.
        Runs that failed are named in its caption, and the others of the method still count; a column without any value
        shows –.

    Raises:
        FrameError: what the frame lacks, a baseline that is not in it, or an unknown `show` or `convention`.
    """
    if show not in ("values", "changes"):
        raise FrameError(f"table shows 'values' or 'changes', not {show!r}.")
    if isinstance(digits, bool) or not isinstance(digits, int) or digits < 1:
        raise FrameError(f"table needs digits, a whole number from 1; got {digits!r}.")
    reached = method_table(frame)
    methods = list(reached["method"].unique())
    if baseline is None:
        baseline = next((name for name in ("stl", "equal") if name in methods), methods[0])
    deltas = delta_m(frame, baseline, convention=convention).set_index("method")
    ranks = mean_rank(frame, unranked=unranked).set_index("method")["mean_rank"]
    apart = not_ranked(unranked, methods)
    ranked = np.array([name not in apart for name in methods])
    cells, marks = {}, {}
    for (task, metric, direction), column in reached.groupby(["task", "metric", "direction"], sort=False):
        column = column.set_index("method").reindex(methods)
        key = (str(task), f"{metric} {'↑' if direction == 'max' else '↓'}")
        cells[key], marks[key] = _metric(
            column, baseline, str(direction), ranked, digits=digits, changes=show == "changes"
        )
    head, sign = DELTAS[convention]
    cells["", head] = [
        number(row[DELTA[convention]], row["std"] if name != baseline else np.nan, 2, signed=name != baseline)
        for name, row in deltas.iterrows()
    ]
    marks["", head] = best_and_second(sign * deltas[DELTA[convention]].to_numpy(np.float64), 2, ranked)
    cells["", "mean rank ↓"] = [number(rank, np.nan, 2) for rank in ranks]
    marks["", "mean rank ↓"] = best_and_second(-ranks.to_numpy(np.float64), 2, ranked)
    index = pd.Index(methods, name="method")
    caption = " ".join([_caption(frame, baseline, show), *_undefined(reached, deltas, baseline)])
    return Table(pd.DataFrame(cells, index=index), pd.DataFrame(marks, index=index), caption)


def _metric(
    column: pd.DataFrame, baseline: str, direction: str, ranked: np.ndarray, *, digits: int, changes: bool
) -> tuple[list[str], list[int]]:
    """The cells of a metric, and their marks."""
    mean = column["mean"].to_numpy(np.float64)
    peak = np.abs(mean[np.isfinite(mean)]).max(initial=0.0)
    decimals = digits if peak == 0 else max(0, digits - 1 - math.floor(math.log10(peak)))
    base = float(column["mean"][baseline])
    cells = [
        number(row["mean"] - base, row["std"], decimals, signed=True)
        if changes and name != baseline
        else number(row["mean"], row["std"], decimals)
        for name, row in column.iterrows()
    ]
    return cells, best_and_second(mean if direction == "max" else -mean, decimals, ranked)


def best_and_second(scores: np.ndarray, decimals: int, ranked: np.ndarray) -> list[int]:
    """Which scores are best and second, more being better, among those that are ranked; none where all are equal."""
    shown = np.where(ranked, np.round(scores, decimals), np.nan)
    places = np.unique(shown[np.isfinite(shown)])[::-1]
    if len(places) < 2:
        return [PLAIN] * len(scores)
    return [BEST if score == places[0] else SECOND if score == places[1] else PLAIN for score in shown]


def number(value: float, std: float, decimals: int, *, signed: bool = False) -> str:
    """A cell: a value, and ± its standard deviation where it has one."""
    if not np.isfinite(value):
        return NOTHING
    value = round(value, decimals) + 0.0  # no -0.00
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text.replace("-", "−") + (f" ± {std:.{decimals}f}" if np.isfinite(std) else "")


def _caption(frame: pd.DataFrame, baseline: str, show: str) -> str:
    """What the numbers are, and which runs failed."""
    seeds = frame["seed"].nunique() if "seed" in frame.columns else 1
    parts = [f"Mean ± standard deviation over {seeds} seeds."] if seeds > 1 else []
    if "select" in frame.columns:
        parts += [_SELECTED[select] for select in frame["select"].unique() if select in _SELECTED]
    parts.append(f"{'Changes and Δ' if show == 'changes' else 'Δ'} are against {baseline}.")
    if "status" in frame.columns:
        failed = frame[frame["status"] == "failed"].groupby("method", sort=False)["seed"].nunique()
        parts += [f"{method}: failed for {count} of {seeds} seeds." for method, count in failed.items()]
    return " ".join(parts)


def _undefined(reached: pd.DataFrame, deltas: pd.DataFrame, baseline: str) -> list[str]:
    """Why a Δ is not there for all methods, or counts fewer seeds than the means that are shown."""
    known = reached[reached.groupby(["task", "metric"])["seeds"].transform("max") > 0]
    base = known[known["method"] == baseline]
    for why, rows in (("has no value", base[base["mean"].isna()]), ("is 0", base[base["mean"] == 0])):
        if len(rows):
            names = ", ".join(f"{row.metric} of {row.task}" for row in rows.itertuples())
            return [f"Δ is {NOTHING} since {baseline} {why} in {names}."]
    most = reached.groupby("method")["seeds"].max()
    fewer = [name for name in deltas.index if name != baseline and deltas["seeds"][name] < most[name]]
    return [f"Δ of {', '.join(map(str, fewer))}: over the seeds with every metric only."] if fewer else []


def _escaped(text: object, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in str(text))
