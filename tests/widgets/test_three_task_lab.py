"""The three-task lab without a browser: what its controls reach, what a drag moves, its questions, and when it ends."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import TransferError
from mtlviz.transfer import Cloud, ThreeTask
from mtlviz.widgets.three_task_lab import THREAD

SEEDS = 20


@pytest.fixture
def lab() -> Iterator[Callable[..., mv.ThreeTaskLab]]:
    """Makes labs, and closes them."""
    made: list[mv.ThreeTaskLab] = []

    def make(*given: Any, **settings: Any) -> mv.ThreeTaskLab:
        made.append(mv.ThreeTaskLab(*given, **({"seeds": SEEDS} | settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == THREAD}


def shown(one: mv.ThreeTaskLab) -> list[dict[str, Any]]:
    """What the browser is to show of the three figures, once the mouse rests."""
    one.wait()
    _until(lambda: one._completed is one._wish)
    return [view._newest for view in (one.plane, one.accuracy, one.turns) if view._newest is not None]


def test_every_control_reaches_the_picture_and_the_accuracies(lab: Callable[..., mv.ThreeTaskLab]) -> None:
    one = lab()
    assert one.picture == ThreeTask()
    controls = one.controls
    controls.boundary.value, controls.shared_boundary.value, controls.noise.value = 80.0, 10.0, 0.1
    controls.samples[0].value, controls.along[1].value, controls.across[2].value = 15, 1.3, 2.5
    controls.turn[2].value = -30.0
    first, second, third = ThreeTask().clouds
    wanted = ThreeTask(
        (first, replace(second, along=1.3), replace(third, across=2.5, turn=-30.0)),
        boundary=80.0,
        shared_boundary=10.0,
        samples=(15, 24, 24),
        noise=0.1,
    )
    pd.testing.assert_frame_equal(one.frame, wanted.accuracy(SEEDS))
    assert one.picture == wanted
    before = shown(one)[0]["data"][0]["x"]
    controls.sample.value = 3
    after = shown(one)[0]["data"][0]["x"]
    np.testing.assert_array_equal(after, wanted.sample(3)["task 1"][0][:, 0])
    assert not np.array_equal(before, after)
    controls.reset.click()
    pd.testing.assert_frame_equal(one.frame, ThreeTask().accuracy(SEEDS))
    assert (controls.sample.value, one.trouble.value) == (14, "")


def test_a_dragged_cloud_takes_its_points_along_and_every_figure_answers(lab: Callable[..., mv.ThreeTaskLab]) -> None:
    one = lab()
    before = shown(one)[0]["data"][1]
    one.plane._take(one.plane, {"kind": "moved", "handle": 1, "x": -2.0, "y": 3.5, "ticket": 77}, [])
    plane, *others = shown(one)
    assert one.picture.clouds[1].centre == (-2.0, 3.5)
    centre = np.array(ThreeTask().clouds[1].centre)
    np.testing.assert_allclose(plane["data"][1]["x"], before["x"] - centre[0] - 2.0)
    np.testing.assert_allclose(plane["data"][1]["y"], before["y"] - centre[1] + 3.5)
    assert plane["layout"]["meta"]["handles"]["points"][1] == [-2.0, 3.5]
    assert [tree["layout"]["meta"].get("answers") for tree in (plane, *others)] == [77] * 3
    pd.testing.assert_frame_equal(one.frame, one.picture.accuracy(SEEDS))
    ranges = plane["layout"]["xaxis"]["range"]
    one.controls.reset.click()
    assert shown(one)[0]["layout"]["xaxis"]["range"] == ranges  # the plane stands still
    assert [tree["layout"]["meta"].get("answers") for tree in shown(one)] == [None] * 3


@pytest.mark.parametrize(
    ("name", "with_2", "with_3"),
    [
        ("picture", "positive", "negative"),
        ("across", "positive", "positive"),
        ("swapped", "negative", "positive"),
        ("one_boundary", "positive", "positive"),
        ("more_of_2", "undecided", "negative"),
        ("enough", "undecided", "negative"),
    ],
)
def test_each_question_is_answered_as_its_text_says(name: str, with_2: str, with_3: str) -> None:
    one = mv.ThreeTaskLab.preset(name)
    try:
        frame = one.frame[one.frame["task"] == "task 1"].set_index("trained")
        assert frame.loc[["with 2", "with 3"], "verdict"].tolist() == [with_2, with_3]
        assert one.presets[name].look[:40] in html.unescape(one.controls.look.value)
    finally:
        one.close()


def test_a_question_can_be_chosen_and_an_unknown_one_is_refused(lab: Callable[..., mv.ThreeTaskLab]) -> None:
    one = lab()
    one.controls.preset.value = "enough"
    assert one.frame["seeds"].unique() == [SEEDS]
    assert one.picture.samples == (20, 24, 24)
    assert "hardly scatters" in one.controls.look.value
    with pytest.raises(TransferError, match="choose one of picture, across"):
        mv.ThreeTaskLab.preset("sideways")


def test_a_picture_beyond_the_sliders_stays_as_it_is(lab: Callable[..., mv.ThreeTaskLab]) -> None:
    far = Cloud((2.0, 1.0), along=9.25, across=0.05, turn=123.0)
    picture = ThreeTask((far, *ThreeTask().clouds[1:]), samples=(500, 3, 4), boundary=-120.0, ridge=0.7)
    one = lab(picture, sample=123)
    assert one.picture == picture
    assert one.controls.sample.value == 123


def test_samples_of_one_class_are_said(lab: Callable[..., mv.ThreeTaskLab]) -> None:
    one = lab(seeds=10)
    one.controls.move(0, (-9.0, 6.9), 1)
    one.wait()
    _until(lambda: "in 10 of 10 samples task 1 has one class only" in one.status.value)
    assert len(shown(one)[2]["data"]) == 0
    one.controls.reset.click()
    one.wait()
    _until(lambda: "one class only" not in one.status.value)


def test_an_error_is_shown_and_forgotten(lab: Callable[..., mv.ThreeTaskLab], monkeypatch: pytest.MonkeyPatch) -> None:
    one = lab()

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the <fit> broke")

    with monkeypatch.context() as patch:
        patch.setattr(ThreeTask, "fits", broken)
        one.controls.boundary.value = 60.0
        with pytest.raises(RuntimeError, match="the <fit> broke"):
            one.wait()
        assert "the &lt;fit&gt; broke" in one.trouble.value
    one.controls.boundary.value = 61.0
    one.wait()
    assert (one.trouble.value, one.trouble.layout.display) == ("", "none")


def test_it_lives_in_another_box_and_nothing_is_left_of_a_closed_one() -> None:
    before = set(ipywidgets.widgets.widget._instances)
    one = mv.ThreeTaskLab(seeds=5)
    box = ipywidgets.Tab([one])
    one.controls.noise.value = 0.2
    one.wait()
    one.settle()
    assert one.pictures == []
    one.close()
    one.wait()  # nobody waits for ever
    _until(lambda: not _threads())
    box.layout.close()
    box.close()
    assert set(ipywidgets.widgets.widget._instances) == before


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"picture": "usual"}, "picture must be an mtlviz.transfer.ThreeTask, got 'usual'"),
        ({"seeds": 1}, "seeds must be a whole number from 2, got 1"),
        ({"sample": -1}, "sample must be a whole number from 0, got -1"),
    ],
)
def test_bad_input_is_refused_at_once(given: dict[str, Any], match: str) -> None:
    before = _threads()
    with pytest.raises(TransferError, match=match):
        mv.ThreeTaskLab(**given)
    assert _threads() <= before
