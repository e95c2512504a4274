"""What a page that watches a run is told at each of its questions: where the run is, and what is new in its figures."""

from __future__ import annotations

import json
import struct
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import plotly.graph_objects as go

from mtlviz.analysis.affinity import measures_affinity
from mtlviz.analysis.validation import scheduled
from mtlviz.errors import RunLogError
from mtlviz.runlog.log import RunLog
from mtlviz.watch.following import Followed
from mtlviz.widgets import draws, standing, wire
from mtlviz.widgets.progress import ENDED, Speedometer

TABS = ("Curves", "Balance", "Conflict")
REMEMBERED = 32  # figures that pages may have, against which changes are told


@dataclass(frozen=True)
class Question:
    """What a page shows, and so what it needs to hear.

    tab: one of TABS. window: one of `draws.WINDOWS`, and row: the recorded step where it ends, None for the newest, of
    the matrix of conflict. have: the number of each figure that the page holds.
    """

    tab: str = TABS[0]
    window: str = next(iter(draws.WINDOWS))
    row: int | None = None
    have: Mapping[str, int] = field(default_factory=dict)


class News:
    """Answers pages, one question at a time; figures are drawn once for all pages that ask for the same."""

    def __init__(self, run: Followed) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._speedometer = Speedometer()
        self._count = 0
        self._newest: dict[str, tuple[tuple[object, ...], int]] = {}  # what each figure was made from, and its number
        self._trees: OrderedDict[int, wire.Tree] = OrderedDict()  # figures by number, the newest last

    def answer(self, question: Question) -> bytes:
        """The answer as bytes: the length of a JSON text (uint32, little endian), that text, and its arrays.

        The arrays begin at a multiple of 8; `mtlviz.widgets.wire` says how the text refers to them.
        """
        with self._lock:
            try:
                said, buffers = self._said(question)
            except RunLogError as error:
                said, buffers = {"live": True, "trouble": str(error)}, b""
        text = json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-(4 + len(text)) % wire.ALIGNMENT)
        return struct.pack("<I", len(text)) + text + buffers

    def _said(self, question: Question) -> tuple[dict[str, Any], bytes]:
        log = self._run.log()
        progress = standing.progress(log, self._speedometer)
        said: dict[str, Any] = {
            "title": standing.title(log),
            "state": progress.state,
            "status": progress.text(),
            "share": progress.share,
            "live": progress.state not in ENDED,
            "failure": (standing.failure(log) or standing.nonfinite(log)) if progress.state == "failed" else None,
            "recorded": len(log),
        }
        try:
            figures, buffers = self._figures(log, question)
        except RunLogError:
            raise
        except Exception:  # noqa: BLE001 - as in the dashboard: a view that cannot be drawn says so in its place
            return said | {"figures": [], "trouble": traceback.format_exc()}, b""
        end = draws.window_end(log, draws.WINDOWS[question.window], question.row)
        return said | {"figures": figures, "matrix": draws.window_label(log, end)}, buffers

    def _figures(self, log: RunLog, question: Question) -> tuple[list[dict[str, Any]], bytes]:
        matrix = partial(_matrix, question=question)
        drawn = {
            "Curves": lambda: draws.curves(schedule=scheduled(log)),
            "Balance": draws.balance,
            "Conflict": lambda: draws.conflict(matrix, affinity=measures_affinity(log)),
        }[question.tab]()
        told, buffers = [], b""
        for name, draw in drawn.items():
            number = self._number(name, draw, log, question)
            entry, buffer = self._entry(question.have.get(name), number)
            entry |= {"name": name, "number": number, "wide": name in draws.WIDE}
            told.append(entry | {"buffer": [len(buffers), len(buffer)]})
            buffers += buffer
        return told, buffers

    def _number(self, name: str, draw: draws.Draw, log: RunLog, question: Question) -> int:
        """The number of the figure as it looks now; drawn anew only where it looks otherwise than before."""
        asked = (question.window, question.row) if name == "conflict_matrix" else ()
        made_from = (self._run.count, *draws.made_from(name, log), *asked)
        known = self._newest.get(name)
        if known is not None and known[0] == made_from and known[1] in self._trees:
            self._trees.move_to_end(known[1])
            return known[1]
        tree = wire.tree(draw(log))
        self._count += 1
        self._trees[self._count] = tree
        if len(self._trees) > REMEMBERED:
            self._trees.popitem(last=False)
        self._newest[name] = (made_from, self._count)
        return self._count

    def _entry(self, held: int | None, number: int) -> tuple[dict[str, Any], bytes]:
        """Nothing for a page that holds the figure; else what is new in it, or all of it; and the arrays."""
        if held == number:
            return {}, b""
        old, new = self._trees.get(held) if held is not None else None, self._trees[number]
        changes = wire.changes(old, new) if old is not None else None
        if changes is None:
            packed, buffer = wire.pack(new)
            return {"figure": packed}, buffer
        items, buffer = wire.pack_changes(changes)
        return {"changes": items}, buffer


def _matrix(log: RunLog, *, question: Question) -> go.Figure:
    window = draws.WINDOWS[question.window]
    return draws.matrix(log, window, draws.window_end(log, window, question.row))
