"""The page of `mtlviz watch` in real Chromium: a run of another process grows, is rewound, ends, and is told of."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from notebook_page import SHOTS
from playwright.sync_api import Browser, Page

from tests.watch.writer import command, writing

pytestmark = pytest.mark.browser

SAMPLE = Path(__file__).parents[2] / "data_samples" / "run_digits"
PLOT = ".mtlviz-figure .js-plotly-plot"
TABS = {"Curves": 2, "Balance": 5, "Conflict": 3}
Open = Callable[[str], Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a page that may reach this machine alone, and must log no error."""
    pages: list[Page] = []
    wrong: list[str] = []

    def opened(url: str) -> Page:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        pages.append(page)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if _strange(request.url) else None)
        page.goto(url)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not [text for text in wrong if "net::ERR_CONNECTION" not in text]  # of a command that was ended


def _strange(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1"


def _until(page: Page, true: Callable[[], Any], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        page.wait_for_timeout(100)


def _plots(page: Page, script: str) -> list[Any]:
    """A JavaScript expression of each `plot` that can be seen."""
    return page.evaluate(
        f"""() => [...document.querySelectorAll("{PLOT}")].filter(plot => plot.offsetWidth > 0 && plot.layout?.meta)
            .map(plot => {script})"""
    )


def _last_step(page: Page) -> float:
    """The middle of the last bucket on the first figure that can be seen."""
    last = _plots(page, "Math.max(0, ...plot.data.flatMap(trace => Array.from(trace.x ?? []).slice(-1)))")
    return last[0] if last else 0.0


def _show(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    _until(page, lambda: len(_plots(page, "1")) == TABS[tab], f"the figures of {tab}")


def _status_step(page: Page) -> int:
    found = re.search(r"step ([\d,]+)", page.locator("#status").inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def _address(watch: subprocess.Popen[str]) -> str:
    assert watch.stdout is not None
    line = watch.stdout.readline()
    assert "http://127.0.0.1:" in line
    return line.split(": ", 1)[1].strip()


def _shot(page: Page, name: str) -> None:
    SHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"watch_{name}.png", full_page=True)


def test_a_run_of_another_process_grows_in_the_page_until_it_ends(open_page: Open, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with writing(run, steps=3000, pause=0.01) as writer, command("watch", run, "--no-browser", cwd=tmp_path) as watch:
        page = open_page(_address(watch))
        page.get_by_text(re.compile(r"running · step")).wait_for()
        _until(page, lambda: _last_step(page) > 0, "a first curve")
        first, plot = _last_step(page), page.query_selector(PLOT)
        _until(page, lambda: _last_step(page) > first + 20, "the curve to grow")
        assert plot is not None
        assert plot.evaluate("plot => plot.isConnected")  # it grew, no other took its place: the user's zoom stays
        _shot(page, "live")

        _show(page, "Conflict")
        label, slider = page.locator("output"), page.get_by_role("slider")
        slider.fill("0")
        _until(page, lambda: label.inner_text() == "step 1", "the first step's matrix")
        at = _status_step(page)
        _until(page, lambda: _status_step(page) > at + 30, "the run to go on")
        assert label.inner_text() == "step 1"  # it stays where the user put it
        slider.fill(slider.evaluate("slider => slider.max"))
        _until(page, lambda: label.inner_text() != "step 1", "the newest step's matrix")
        page.get_by_label("whole run").check()
        _until(page, lambda: label.inner_text().startswith("all "), "the whole run's matrix")

        writer.kill()
        page.get_by_text(re.compile(r"interrupted · step")).wait_for()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0
        page.get_by_text("the command that watches has ended").wait_for()
        _shot(page, "lost")


def test_a_failed_run_is_told_with_its_traceback_and_nothing_of_it_is_html(open_page: Open, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with writing(run, steps=60, pause=0, fail=True) as writer:
        writer.wait(30)
        with command("watch", run, "--no-browser", cwd=tmp_path) as watch:
            page = open_page(_address(watch))
            page.get_by_text(re.compile(r"failed · step 60")).wait_for()
            said = page.locator("#failure")
            assert said.inner_text().startswith("ValueError: <i>planted</i>")
            said.get_by_text("traceback", exact=True).click()
            assert "Traceback: planted" in said.inner_text()
            _show(page, "Balance")
            _until(page, lambda: "<b>s</b>" in page.locator(".legendtext").all_text_contents(), "the task's name")
            _shot(page, "failed")


def test_every_tab_of_a_finished_run_light_and_dark_wide_and_narrow(open_page: Open, tmp_path: Path) -> None:
    paper = "plot._fullLayout.paper_bgcolor"
    with command("watch", SAMPLE, "--no-browser", cwd=tmp_path) as watch:
        page = open_page(_address(watch))
        page.get_by_text(re.compile(r"finished · step 1,500 of 1,500")).wait_for()
        for theme, width, colour in (("light", 1300, "#ffffff"), ("dark", 480, "#111315")):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 1000})
            for tab in TABS:
                _show(page, tab)
                _until(page, lambda: set(_plots(page, paper)) == {colour}, f"the {theme} theme")  # noqa: B023
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                _shot(page, f"{tab.lower()}_{theme}_{width}")
        page.reload()
        _until(page, lambda: len(_plots(page, "1")) == TABS["Conflict"], "the tab that was open")
