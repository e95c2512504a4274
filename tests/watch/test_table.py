"""A run as text: what its rows say, and that any names and any terminal are fine."""

from __future__ import annotations

import io
import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mtlviz.runlog import RunLog
from mtlviz.watch import table
from mtlviz.watch.following import Followed
from mtlviz.watch.terminal import Watch
from mtlviz.widgets.progress import Progress
from tests.analysis.runs import INFO, filled, hand, long_run, rewound

HOSTILE = [
    "\x1b[31mred\x1b[0m", "[bold]markup[/bold]", "a\nb\r\tc", "\u202ereversed", "面板深度估计任务名称很长很长很长", " ",
    "x" * 200, "x" * 199 + "y", "emoji 👩‍🔬 task", "\x00\x07\x08", ":smile:", "\x9b2J",
]  # fmt: skip
PROGRESS = Progress("running", 1234, 3000, 350.0, 5.0)


@pytest.fixture(scope="module")
def forty() -> RunLog:
    """A run of 40 tasks, twelve of them with names that nobody should give."""
    return long_run(120, names=HOSTILE + [f"task number {i} of a long list" for i in range(28)], layers=False)


def _printed(log: RunLog, width: int, title: str = "made", progress: Progress = PROGRESS) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    console.print(table.view(log, title, progress, width=width))
    return out.getvalue().splitlines()


def test_the_rows_say_what_the_run_by_hand_did() -> None:
    lines = _printed(hand(), 100, "hand · equal", Progress("finished", 3, 3, None, took=1.5))
    assert lines[0].strip() == "hand · equal · finished · step 3 of 3 · in 2 s"
    rows = {line[0]: line.strip("abc" + table._BARS + " ").split() for line in lines[3:6]}
    # a: loss (10 + 4 + 2) / 3; share (20/41 + 1/2) / 2; conflict 2 of 3 with b, 0 of 2 with c; norms 5, 2, √2
    assert rows["a"] == ["5.33", "49%", "40%", "0.900", "@2", "2.80", "1.80"]
    assert rows["b"] == ["3.00", "20%", "40%", "1.00", "@2", "1.00", "3.00"]
    assert rows["c"] == ["6.00", "61%", "0%", "–", "2.50", "1.00"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 220])
def test_any_names_in_any_terminal(forty: RunLog, width: int) -> None:
    lines = _printed(forty, width, "\x1b[2Jmade\n")
    assert max(cell_len(line) for line in lines) <= width
    assert not [sign for line in lines for sign in line if unicodedata.category(sign)[0] == "C"]
    (first,) = [index for index, line in enumerate(lines) if line.startswith("task ") and "loss so far" in line]
    rows = lines[first + 1 : first + 41]
    names = table.shortened(forty.names, max(table.NAME[0], cell_len(lines[first].split("loss so far")[0]) - 1))
    assert len(set(names)) == 40
    assert all(row.startswith(name.rstrip()[:4]) for row, name in zip(rows, names, strict=True))
    assert ("A wider terminal also shows" in " ".join(" ".join(lines).split())) == (width < 80)


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (100, 60), (60, 5)])
def test_a_page_fits_the_terminal_and_every_task_has_its_turn(
    forty: RunLog, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, highlight=False, markup=False
    )
    watch = Watch(Followed(Path("nowhere"), forty))
    seen = set()
    for turn in range(40 // max(height - table.AROUND, 1) + 1):
        monkeypatch.setattr("mtlviz.watch.terminal.time.monotonic", lambda turn=turn: 5.0 * turn + 0.1)
        page = watch._page(forty, PROGRESS, console)
        lines = ["".join(part.text for part in line).rstrip() for line in console.render_lines(page, pad=False)]
        assert len(lines) <= max(height, table.AROUND + 1)
        assert "Ctrl-C ends" in lines
        seen |= {
            name for name in table.shortened(forty.names, table.NAME[0]) if any(row.startswith(name) for row in lines)
        }
    if width == 60:  # where names have that length
        assert len(seen) == 40


def test_a_run_without_a_step_and_a_run_that_was_rewound() -> None:
    lines = _printed(filled(INFO, []), 80)
    assert [line.split()[0] for line in lines[3:6]] == ["a", "b", "c"]
    assert table.sparks(rewound(), 20) == ["▁▄█"] * 3  # losses 1, 2, 5; the 3 and 4 in between were thrown away
    assert not any(table.sparks(filled(INFO, []), 20))


def test_a_curve_as_bars() -> None:
    assert table.spark(np.array([1.0, 10.0, 100.0])) == "▁▅█"
    assert table.spark(np.array([-1.0, 0.0, 1.0])) == "▁▅█"
    assert table.spark(np.array([2.0, math.nan, 2.0])) == "▅ ▅"
    assert table.spark(np.array([math.nan, math.inf])) == ""


@given(st.floats())
def test_a_number_takes_no_more_than_seven_cells_and_is_right_to_two_digits(value: float) -> None:
    text = table.number(value)
    assert len(text.removeprefix("-")) <= 7
    if 1e-98 < abs(value) < 1e98:
        assert float(text) == pytest.approx(value, rel=0.06, abs=0)


@given(st.lists(st.text(min_size=1, max_size=30), unique=True, max_size=12), st.integers(8, 24))
def test_names_are_cut_to_the_width(names: list[str], width: int) -> None:
    cut = table.shortened(names, width)
    assert all(cell_len(name) <= width for name in cut)
    assert all(unicodedata.category(sign)[0] != "C" for name in cut for sign in name)
    assert len(set(cut)) == len(cut)


@pytest.mark.parametrize("share", [0.0, 0.254, -0.5, 99.9, -12345.678, 1e300, math.nan, math.inf])
def test_a_share_takes_six_cells(share: float) -> None:
    assert len(table.percent(share)) <= 6
