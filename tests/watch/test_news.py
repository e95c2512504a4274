"""What a page is told: all of a figure, what is new in it, or nothing; and of every run that stands in the folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from mtlviz.runlog import Event, RunLog
from mtlviz.watch.following import Followed, opened
from mtlviz.watch.news import REMEMBERED, TABS, News, Question
from mtlviz.widgets import draws, wire
from tests.analysis.runs import filled, long_run, made
from tests.widgets.decoder import applied, same, unpacked

WINDOWS = list(draws.WINDOWS)


class Page:
    """What a browser makes of the answers, from their description."""

    def __init__(self, news: News) -> None:
        self.news = news
        self.figures: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}

    def ask(self, tab: str = "Curves", **options: Any) -> dict[str, Any]:
        """The answer; what is new is put into the figures."""
        body = self.news.answer(Question(tab=tab, have=dict(self.numbers), **options))
        (length,) = struct.unpack_from("<I", body)
        assert (4 + length) % 8 == 0
        said = json.loads(body[4 : 4 + length])
        for entry in said.get("figures", ()):
            offset, size = entry["buffer"]
            buffer = body[4 + length + offset : 4 + length + offset + size]
            name = entry["name"]
            if "figure" in entry:
                self.figures[name] = unpacked(entry["figure"], buffer)
            elif "changes" in entry:
                self.figures[name] = applied(self.figures[name], entry["changes"], buffer)
            self.numbers[name] = entry["number"]
        return said


def _kinds(said: dict[str, Any]) -> set[str]:
    return {kind for entry in said["figures"] for kind in ("figure", "changes") if kind in entry}


@pytest.fixture
def growing() -> tuple[RunLog, list[Any]]:
    """A log with half of a made run in it, and the records that are still to come."""
    info, records = made(400, names=["a", "b", "c"])
    log = filled(info, records[:200])
    return log, records[200:]


def _news(log: RunLog) -> News:
    return News(Followed(Path("nowhere"), log))


def test_a_figure_travels_whole_once_then_as_changes_and_not_at_all_where_nothing_is_new(
    growing: tuple[RunLog, list[Any]],
) -> None:
    log, rest = growing
    page = Page(_news(log))
    assert _kinds(page.ask()) == {"figure"}
    assert _kinds(page.ask()) == set()
    for record in rest[:40]:
        log.append(record)
    assert "changes" in _kinds(page.ask())
    for name, draw in draws.curves(schedule=False).items():
        assert same(page.figures[name], unpacked(*wire.pack(wire.tree(draw(log)))))
    page.numbers["losses"] += 1000  # a figure that nobody knows any more
    assert next(entry for entry in page.ask()["figures"] if entry["name"] == "losses")["figure"]


def test_each_tab_has_the_figures_of_the_dashboard() -> None:
    log = long_run(30)
    page = Page(_news(log))
    for tab, names in zip(
        TABS,
        (draws.curves(schedule=False), draws.balance(), draws.conflict(draws.balance, affinity=False)),  # type: ignore[arg-type]
        strict=True,
    ):
        assert [entry["name"] for entry in page.ask(tab)["figures"]] == list(names)


def test_two_pages_ask_for_different_steps_at_once() -> None:
    log = long_run(50)
    news = _news(log)
    one, two = Page(news), Page(news)
    for _ in range(2):
        assert one.ask("Conflict", window=WINDOWS[1], row=4)["matrix"] == "step 5"
        assert two.ask("Conflict", window=WINDOWS[0])["matrix"] == "step 50"
    for page, end, window in ((one, 5, 1), (two, 50, 100)):
        drawn = wire.tree(draws.matrix(log, window, end))
        assert same(page.figures["conflict_matrix"], unpacked(*wire.pack(drawn)))
    assert two.ask("Conflict", window=WINDOWS[2])["matrix"] == "all 50 recorded steps"
    assert one.ask("Conflict", window=WINDOWS[1], row=10**9)["matrix"] == "step 50"  # a run that was overwritten


def test_no_more_figures_are_kept_than_pages_may_ask_for(growing: tuple[RunLog, list[Any]]) -> None:
    log, rest = growing
    news = _news(log)
    for record in rest[:12]:
        log.append(record)
        news.answer(Question("Balance"))
    assert news._count > REMEMBERED
    assert len(news._trees) <= REMEMBERED
    assert {number for _, number in news._newest.values()} <= set(news._trees)


def test_the_status_tells_how_the_run_ended() -> None:
    info, records = made(10, names=["a"])
    log = filled(info, records)
    page = Page(_news(log))
    said = page.ask()
    assert (said["title"], said["state"], said["live"], said["failure"]) == ("made · equal", "running", True, None)
    log.append(Event(10, log.last_step, "error", None, {"type": "E", "message": "m", "traceback": "t"}))
    said = page.ask()
    assert (said["state"], said["live"]) == ("failed", False)
    assert said["failure"] == {"type": "E", "message": "m", "traceback": "t"}
    assert said["share"] == 1.0


def test_a_new_run_that_overwrites_the_old_is_followed(tmp_path: Path) -> None:
    def write(names: list[str]) -> None:
        info, records = made(20, names=names)
        with RunLog.create(tmp_path / "run", info, overwrite=True) as log:
            for record in records:
                log.append(record)

    write(["a", "b"])
    page = Page(News(Followed(tmp_path / "run", opened(tmp_path / "run"))))
    page.ask()
    write(["new", "other", "third"])
    page.ask()
    names = {trace.get("name") for trace in page.figures["losses"]["data"]}
    assert {"new", "other", "third"} <= names
    assert "a" not in names


def test_a_run_that_can_no_longer_be_read_says_so_until_it_can(tmp_path: Path) -> None:
    info, records = made(20, names=["a", "b"])
    with RunLog.create(tmp_path / "run", info) as log:
        for record in records:
            log.append(record)
    page = Page(News(Followed(tmp_path / "run", opened(tmp_path / "run"))))
    page.ask()
    told = (tmp_path / "run/run.json").read_text()
    (tmp_path / "run/run.json").write_text("{}")
    said = page.ask()
    assert "run.json" in said["trouble"]
    assert said["live"]
    (tmp_path / "run/run.json").write_text(told)
    assert "trouble" not in page.ask()


def test_what_cannot_be_drawn_is_told_beside_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(_news(long_run(10)))
    page.ask()

    def broken() -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(draws, "balance", broken)
    said = page.ask("Balance")
    assert "ZeroDivisionError: on purpose" in said["trouble"]
    assert said["status"].startswith("running · step 10")
    assert "trouble" not in page.ask("Curves")
