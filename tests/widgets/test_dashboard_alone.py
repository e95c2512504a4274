"""The dashboard without a browser, as under nbclient: it never waits, never fails, and shows what the run does."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtlviz as mv
from mtlviz.errors import MtlvizError, RunLogError
from mtlviz.runlog import Event
from mtlviz.widgets import standing, tabs
from mtlviz.widgets.picture import WIDTH, composed
from mtlviz.widgets.progress import Progress, Speedometer, duration, failure
from tests.analysis.runs import filled, hand, made
from tests.analysis.scheduled import scheduled_run
from tests.problems import crossing

SAMPLE = Path(__file__).parents[2] / "data_samples" / "run_digits"


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _seen(dashboard: mv.Dashboard, true: Callable[[], bool]) -> None:
    """Waits for what the dashboard should show, or for it to say why it cannot."""
    _until(lambda: bool(dashboard.trouble.value) or true())
    assert not dashboard.trouble.value


def _disabled(dashboard: mv.Dashboard) -> dict[str, bool]:
    return {label: button.disabled for label, button in dashboard.controls._buttons.items()}


def test_status_and_switches_follow_the_run() -> None:
    run = mv.start(crossing(), steps=1_000_000, validate_every=10_000)
    dashboard = mv.dashboard(run)
    try:
        _until(lambda: (dashboard.progress or Progress("", 0, None, None)).step > 10)
        assert _disabled(dashboard) == {"Pause": False, "Resume": True, "Stop": False}
        dashboard.controls._buttons["Pause"].click()
        _until(lambda: _disabled(dashboard) == {"Pause": True, "Resume": False, "Stop": False})
        assert run.state == "paused"
        assert "paused · step" in dashboard.controls._status.value
        dashboard.controls._buttons["Resume"].click()
        _until(lambda: dashboard.progress.state == "running")
        dashboard.tab.selected_index = 2
        _seen(dashboard, lambda: dashboard.conflict._slider.max > 0)
        dashboard.controls._buttons["Stop"].click()
        _until(lambda: _disabled(dashboard) == {"Pause": True, "Resume": True, "Stop": True})
        assert run.wait(20).state == "stopped"
        _until(lambda: dashboard.progress.step == run.step)
    finally:
        run.stop()
        dashboard.close()


@pytest.mark.parametrize(("kind", "step"), [("finish", 19), ("stop", 19), ("error", 10)])
def test_a_run_that_is_recorded_now_and_then_ends_at_its_last_step(kind: str, step: int) -> None:
    info, records = made(10, names=["a"])
    log = filled(info, records)
    assert standing.progress(log, Speedometer()).step == 10
    log.append(Event(19, 19, kind))
    assert standing.progress(log, Speedometer()).step == step


def test_a_failed_run_shows_its_error_escaped() -> None:
    def broken(losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        raise RuntimeError("<script>no</script>")

    run = mv.start(crossing(), weighting=broken, steps=5)
    dashboard = mv.dashboard(run)
    try:
        _until(lambda: "RuntimeError" in dashboard.controls._failure.value)
        assert "<script>" not in dashboard.controls._failure.value
        assert "in broken" in dashboard.controls._failure.value
    finally:
        dashboard.close()


def test_a_failed_run_logged_by_hand_shows_what_was_not_finite() -> None:
    log = mv.RunLog.create(None, crossing())
    log.append(Event(0, 0, "start"))
    log.append(Event(3, 3, "nonfinite", "size", {"message": "the loss of size is nan <at> update 4"}))
    log.close()
    dashboard = mv.dashboard(log)
    try:
        assert dashboard.progress.state == "failed"
        assert "the loss of size is nan &lt;at&gt; update 4" in dashboard.controls._failure.value
        assert "traceback" not in dashboard.controls._failure.value  # there is none
        assert dashboard.controls._failure.layout.display is None
    finally:
        dashboard.close()


def test_an_error_that_the_log_could_not_note_is_shown_from_the_run() -> None:
    ready = threading.Event()

    def closing(losses: np.ndarray, gramian: np.ndarray) -> np.ndarray:
        ready.wait(20)
        run.log.close()
        raise RuntimeError("the <last> words")

    run = mv.start(crossing(), weighting=closing, steps=5)
    ready.set()
    assert run.join(20)
    assert not (run.log.events.kind == "error").any()
    dashboard = mv.dashboard(run)
    try:
        _until(lambda: "RuntimeError</b>: the &lt;last&gt; words" in dashboard.controls._failure.value)
        assert "in closing" in dashboard.controls._failure.value
    finally:
        dashboard.close()


def test_a_log_has_no_switches_and_every_tab_draws() -> None:
    dashboard = mv.dashboard(mv.RunLog.open(SAMPLE))
    try:
        _until(lambda: dashboard.progress is not None)
        assert dashboard.progress.state == "finished"
        assert not dashboard.controls._buttons
        for index, tab in enumerate((dashboard.curves, dashboard.balance, dashboard.conflict, dashboard.what_if)):
            dashboard.tab.selected_index = index
            _seen(dashboard, lambda tab=tab: all(view._newest is not None for view in tab.views.values()))
    finally:
        dashboard.close()


def test_the_slider_stays_where_the_user_puts_it_and_else_follows() -> None:
    run = mv.start(crossing(), steps=1_000_000, validate_every=10_000)
    dashboard = mv.dashboard(run)
    slider = dashboard.conflict._slider
    try:
        dashboard.tab.selected_index = 2
        _seen(dashboard, lambda: slider.value > 20)
        slider.value = 5
        before = slider.max
        _seen(dashboard, lambda: slider.max > before + 10)
        assert slider.value == 5
        assert dashboard.conflict._label.value == "step 6"
        slider.value = slider.max
        before = slider.max
        _seen(dashboard, lambda: slider.value > before + 10)
    finally:
        run.stop()
        run.wait(20)
        dashboard.close()


def test_only_a_run_with_a_schedule_shows_a_timeline_and_says_who_has_converged() -> None:
    for log, names in ((scheduled_run(), ["losses", "validations", "timeline"]), (hand(), ["losses", "validations"])):
        dashboard = mv.dashboard(log)
        try:
            assert list(dashboard.curves.views) == names
            _seen(dashboard, lambda shown=dashboard: all(view._newest for view in shown.curves.views.values()))
            assert ("3 of 3 tasks converged" in dashboard.progress.text()) == ("timeline" in names)
        finally:
            dashboard.close()


@pytest.mark.parametrize("wrong", [7, None, crossing(), object()])
def test_what_cannot_be_shown_is_named(wrong: object) -> None:
    with pytest.raises(MtlvizError, match="a Run, a Probe, a RunLog or the folder of a run; got"):
        mv.dashboard(wrong)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="nowhere"):
        mv.dashboard(tmp_path / "nowhere")


def test_speed_leaves_pauses_out() -> None:
    meter = Speedometer()
    assert meter.reading("running", 0, 0.0, 100).speed is None
    time.sleep(0.3)
    moving = meter.reading("running", 30, 0.3, 100)
    assert moving.speed == pytest.approx(100, rel=0.2)
    assert moving.left == pytest.approx(70 / moving.speed)
    assert meter.reading("paused", 30, 0.3, 100) == Progress("paused", 30, 100, None)
    time.sleep(0.3)
    assert meter.reading("running", 30, 0.3, 100).speed is None  # starts anew after the pause
    ended = meter.reading("finished", 100, 65.0, 100)
    assert ended.text() == "finished · step 100 of 100 · in 1 min 05 s"


def test_status_text_by_hand() -> None:
    assert (
        Progress("running", 1234, 20000, 85.4, 8.2).text() == "running · step 1,234 of 20,000 · 85 steps/s · 8 s left"
    )
    assert Progress("running", 3, None, 0.25).text() == "running · step 3 · 0.25 steps/s"
    waits = Progress("running", 300, 25000, 20.0, converged=(2, 5))
    assert waits.text() == "running · step 300 of at most 25,000 · 2 of 5 tasks converged · 20 steps/s"
    assert [p.share for p in (waits, Progress("running", 5, 10, None), Progress("running", 5, None, None))] == [
        0.4,
        0.5,
        None,
    ]
    followed = Speedometer().reading("paused", 300, 1.0, 25000, (2, 5))
    assert (followed.converged, followed.left) == ((2, 5), None)
    assert [duration(s) for s in (0, 59.6, 125, 3725)] == ["0 s", "1 min 00 s", "2 min 05 s", "1 h 02 min"]
    assert "&lt;b&gt;" in failure("<b>", "", "")


def test_a_composed_picture_holds_every_figure() -> None:
    colours = ["red", "green", "blue"]
    pictures = []
    for colour, height in zip(colours, (300, 200, 260), strict=True):
        out = io.BytesIO()
        Image.new("RGB", (800, height), colour).save(out, format="PNG")
        pictures.append(out.getvalue())
    sheet = Image.open(io.BytesIO(composed("digits · equal · finished", pictures)))
    assert sheet.width == WIDTH
    found = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    assert {(255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)} <= found
    assert (0, 0, 0) in found  # the heading


def test_a_figure_is_drawn_again_only_when_what_it_is_made_from_has_changed() -> None:
    log = mv.RunLog.create(None, crossing())
    records = iter(mv.train(crossing(), steps=6, validate_every=3, layers_every=2))
    tab, drawn = tabs.curves(), {"losses": 0, "validations": 0}
    for name, draw in list(tab._draws.items()):

        def counted(log: mv.RunLog, name: str = name, draw: tabs.Draw = draw) -> object:
            drawn[name] += 1
            return draw(log)

        tab._draws[name] = counted
    seen = []
    for record in records:
        log.append(record)
        tab.refresh(log)
        tab.refresh(log)
        seen.append((type(record), dict(drawn)))
        before = seen[-2][1] if len(seen) > 1 else {"losses": 0, "validations": 0}
        if isinstance(record, mv.Step):
            assert drawn == {"losses": before["losses"] + 1, "validations": before["validations"]}
        elif isinstance(record, mv.Validation):
            assert drawn == {"losses": before["losses"], "validations": before["validations"] + 1}
    tab.close()
