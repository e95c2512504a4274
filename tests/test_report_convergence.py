"""The report of a run with a schedule: its timeline, when its tasks converged, and what was chosen on which data."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from mtlviz import analysis
from mtlviz.report import FIGURES, report
from tests.analysis.runs import hand
from tests.analysis.scheduled import scheduled_run
from tests.test_report import HOSTILE, Outline, figures_of, opened

NOTE = "chosen on the data it is judged by"


def test_only_a_run_with_a_schedule_has_a_timeline() -> None:
    outline, plain = Outline(report(scheduled_run())), Outline(report(hand()))
    assert list(figures_of(outline)) == [*FIGURES, "timeline"]
    assert list(figures_of(plain)) == list(FIGURES)
    for text in ("When did each task converge, at what cost?", "Converged at step", "3 of 3 tasks"):
        assert text in outline.text
        assert text not in plain.text
    for page in (outline, plain):
        assert not page.open
        assert NOTE not in page.text
    assert "550" in outline.text  # where the second task converged


def test_it_says_which_tasks_were_judged_by_what_they_were_chosen_on() -> None:
    log = scheduled_run(HOSTILE)
    log.info.config["monitored_on"] = {HOSTILE[1]: "test"}  # type: ignore[index]
    outline = Outline(report(log))
    assert not outline.open
    assert len(outline.scripts) == 3
    assert f"{HOSTILE[1]} (test)" in outline.text
    assert NOTE in outline.text
    assert outline.text.count("†") == 2  # beside its metric, and at the note


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (600, "dark")])
def test_a_browser_draws_the_timeline(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    log = scheduled_run(HOSTILE)
    page, wrong = opened(browser, report(log, tmp_path / "report.html"), width=width, scheme=scheme)
    stretches = int((analysis.timeline(log)["kind"] == "stretch").sum())
    assert page.locator("#figure-timeline .barlayer .point path").count() == stretches
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ticks = page.locator("#figure-timeline .yaxislayer-above .ytick text").all_text_contents()
    assert ticks[1].startswith("</script>")
    assert wrong == []
    page.close()
