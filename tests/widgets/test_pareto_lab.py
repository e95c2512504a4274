"""The Pareto lab without a browser: what it computes anew, what its controls reach, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
import numpy as np
import pytest

import mtlviz as mv
from mtlviz import pareto
from mtlviz.errors import ParetoError, WeightingError
from mtlviz.pareto import Descent
from mtlviz.widgets.descents import Settings
from mtlviz.widgets.figure_view import FigureView
from mtlviz.widgets.pareto_lab import THREAD
from tests.widgets.same_descent import assert_same, whole

FEW: dict[str, Any] = {"methods": ("equal", "mgda", "nash_mtl"), "steps": 300}


@pytest.fixture
def lab() -> Iterator[Callable[..., mv.ParetoLab]]:
    """Makes labs, and closes them."""
    made: list[mv.ParetoLab] = []

    def make(**settings: Any) -> mv.ParetoLab:
        made.append(mv.ParetoLab(**(FEW | settings)))
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


def planes(of: mv.ParetoLab) -> list[dict[str, Any]]:
    """What the browser is to show of both planes."""
    return [view._newest for view in (of.parameters, of.losses) if view._newest is not None]


def test_every_control_reaches_the_descent_and_the_planes(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab()
    controls = one.controls

    def assert_shown(**wanted: Any) -> None:
        descent = one.descent
        assert {name: getattr(descent, name, getattr(descent.problem, name, None)) for name in wanted} == wanted
        assert_same(descent, whole(Settings.of(descent)))
        assert one.trouble.value == ""

    assert_shown(methods=FEW["methods"], steps=300, lr=5e-3, optimizer="adam", scale=(0.1, 1.0), offset=0.0)
    controls.methods["famo"].value = True
    controls.methods["equal"].value = False
    assert_shown(methods=("famo", "mgda", "nash_mtl"))
    controls.scale[0].value = 12.5
    controls.scale[1].value = 0.01
    controls.offset.value = 20.5
    assert_shown(scale=(12.5, 0.01), offset=20.5)
    controls.lr.value, controls.steps.value, controls.optimizer.value = 0.02, 1_000, "sgd"
    assert_shown(lr=0.02, steps=1_000, optimizer="sgd")
    for name in ("angle", "conditioning"):
        assert getattr(controls, name).layout.display == "none"
    controls.problem.value = "quadratics"
    assert_shown(name="quadratics", scale=(1.0, 1.0), offset=0.0, angle=90.0, conditioning=10.0)
    np.testing.assert_array_equal(one.descent.starts, pareto.PROBLEMS["quadratics"].starts)
    assert controls.angle.layout.display is None
    controls.angle.value, controls.conditioning.value = 30.0, 100.0
    assert_shown(angle=30.0, conditioning=100.0)
    before = planes(one)[0]["data"]
    controls.contours.value = "loss 2"
    one.wait()
    assert not np.array_equal(before[0]["z"], planes(one)[0]["data"][0]["z"])


def test_a_start_that_is_moved_moves_and_goes_back(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab()
    first = one.descent
    one.parameters._take(one.parameters, {"kind": "moved", "handle": 3, "x": 2.5, "y": 6.0, "ticket": 77}, [])
    np.testing.assert_array_equal(one.descent.starts[3], (2.5, 6.0))
    assert_same(one.descent, whole(Settings.of(one.descent)))
    assert [tree["layout"]["meta"].get("answers") for tree in planes(one)] == [77, 77]
    assert planes(one)[0]["layout"]["meta"]["handles"]["points"][3] == [2.5, 6.0]
    one.controls.reset.click()
    assert_same(one.descent, first)
    assert [tree["layout"]["meta"].get("answers") for tree in planes(one)] == [None, None]


def test_arrows_and_table_follow_a_move_when_the_mouse_rests(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab()
    _until(lambda: not _threads())
    before = one.directions._newest
    for ticket, x1 in enumerate((2.0, 3.0, 4.0), start=1):
        one.controls.move(0, (x1, 5.0), ticket)
        one.wait()
    _until(lambda: one.directions._newest is not before and not _threads())
    assert one._completed is one._drawn
    at = one.descent.last[one.descent.methods.index("equal"), 0]
    tip = f"({at[0]:.3g}, {at[1]:.3g}), step 300 of equal from start 1"
    assert tip in one.directions._newest["layout"]["legend"]["title"]["text"]
    assert "3 methods × 1 start × 300 steps: " in one.status.value


def test_the_scrubber_shows_an_earlier_step_and_the_followed_trajectory(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab()
    one.controls.time.value = 120
    one.controls.method.value, one.controls.start.value = "mgda", 4
    _until(lambda: one._completed is one._wish and not _threads())
    assert "at step 120" in planes(one)[1]["layout"]["title"]["text"]
    full = pareto.descend("mgda", [one.descent.starts[4]], one.descent.problem, steps=300, lr=5e-3, points=None)
    x1, x2 = full.x[0, 0, 120]
    wanted = f"({x1:.3g}, {x2:.3g}), step 120 of mgda from start 5"
    assert wanted in one.directions._newest["layout"]["legend"]["title"]["text"]
    one.controls.methods["mgda"].value = False
    one.wait()
    assert one.controls.method.value in one.descent.methods


def test_a_methods_colour_stays_when_others_come_and_go(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab(methods=("equal", "mgda", "cagrad"))
    before = dict(one._colours)
    one.controls.methods["equal"].value = False
    one.wait()
    one.controls.methods["famo"].value = True
    one.wait()
    assert {name: before[name] for name in ("mgda", "cagrad")} | {"famo": before["equal"]} == one._colours


def test_without_a_method_it_says_so_and_goes_on(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab(methods="equal")
    one.controls.methods["equal"].value = False
    one.wait()
    _until(lambda: one.status.value == "Choose a method.")
    one.controls.methods["mgda"].value = True
    assert one.descent.methods == ("mgda",)
    assert one.trouble.value == ""


def test_methods_that_are_no_weighted_sum_cannot_be_chosen(lab: Callable[..., mv.ParetoLab]) -> None:
    buttons = lab().controls.methods
    assert list(buttons) == list(mv.weighting.METHODS)
    disabled = {name: button.tooltip for name, button in buttons.items() if button.disabled}
    assert disabled.keys() == {"graddrop", "adatask"}
    assert all("no weighted sum" in tip for tip in disabled.values())


def test_a_method_and_a_problem_of_ones_own_can_be_shown(lab: Callable[..., mv.ParetoLab]) -> None:
    bowls = pareto.Quadratics(angle=22.5, conditioning=3.3, scale=(0.3, 7.0), offset=0.25)
    one = lab(methods={"<b>kind</b>": mv.weighting.CAGrad(c=0.1), "equal": "equal"}, problem=bowls, steps=123, lr=4e-3)
    assert set(one.descent.methods) == {"<b>kind</b>", "equal"}
    assert one.descent.problem == bowls
    _until(lambda: one._completed is not None)
    assert "&lt;b&gt;kind&lt;/b&gt;" in one.table.value
    assert "<b>kind</b>" not in one.table.value
    one.controls.optimizer.value = "sgd"  # what no slider had stays as it was given
    assert (one.descent.problem, one.descent.steps, one.descent.lr) == (bowls, 123, 4e-3)


def test_the_table_says_why_a_start_is_undefined(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab(methods=("si", "bandit_mtl"), steps=3_000)
    assert one.descent.verdicts.query("method == 'si'").verdict.tolist() == ["undefined"] * 5
    assert one.table.value.count("si: 5 of 5 undefined: needs losses above 0, and at step ") == 1
    assert "bandit_mtl: rho=1.2 does not constrain 2 tasks" in one.table.value


def test_an_error_in_the_thread_is_shown_and_forgotten(
    lab: Callable[..., mv.ParetoLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = lab()

    def broken(*_: Any, **__: Any) -> Descent:
        raise RuntimeError("the <kernel> broke")

    with monkeypatch.context() as patch:
        patch.setattr(pareto, "descend", broken)
        one.controls.lr.value = 0.01
        with pytest.raises(RuntimeError, match="the <kernel> broke"):
            one.wait()
        assert "RuntimeError" in one.trouble.value
        assert "the &lt;kernel&gt; broke" in one.trouble.value
        assert one.trouble.layout.display is None
    one.controls.lr.value = 0.02
    assert one.descent.lr == 0.02
    assert (one.trouble.value, one.trouble.layout.display) == ("", "none")


def test_closing_ends_the_thread_also_amid_long_work(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab(methods=tuple(name for name in mv.weighting.METHODS if name not in ("graddrop", "adatask")))
    one.controls.steps.value = 100_000
    assert _threads()
    one.close()
    _until(lambda: not _threads(), seconds=60)
    one.wait()  # nobody waits for ever
    assert one.comm is None
    assert all(view.comm is None for view in (one.parameters, one.losses, one.directions))


@pytest.mark.parametrize(
    ("error", "match", "settings"),
    [
        (ParetoError, "choose one of toy, quadratics, fonseca_fleming", {"problem": "toys"}),
        (WeightingError, "choose one of equal, si", {"methods": ("equal", "mgad")}),
        (WeightingError, "no weighted sum", {"methods": ("graddrop",)}),
        (ParetoError, "start 2 is not finite", {"starts": [(0, 1), (np.nan, 2)]}),
        (ParetoError, "two coordinates", {"starts": [(0, 1, 2)]}),
        (ParetoError, "positive", {"scale": (0.0, 1.0)}),
        (ParetoError, "positive", {"scale": (-1.0, 1.0)}),
        (ParetoError, "two objectives", {"scale": (1.0, 1.0, 1.0)}),
        (ParetoError, "finite", {"offset": np.nan}),
        (ParetoError, "steps", {"steps": 0}),
        (ParetoError, "lr", {"lr": -1.0}),
        (ParetoError, "adam, sgd", {"optimizer": "lion"}),
        (ParetoError, "loss 1, loss 2, average", {"contours": "loss 3"}),
    ],
)
def test_bad_input_is_refused_at_once(error: type[Exception], match: str, settings: dict[str, Any]) -> None:
    before = _threads()
    with pytest.raises(error, match=match):
        mv.ParetoLab(**(FEW | settings))
    assert _threads() <= before  # of other labs, at most


def test_an_unknown_preset_is_refused_with_the_choices() -> None:
    with pytest.raises(ParetoError, match="conflict, hundredfold, concave"):
        mv.ParetoLab.preset("conflicts")


def test_a_preset_is_a_lab_of_its_settings_and_can_be_chosen_in_another() -> None:
    asked, other = mv.ParetoLab.preset("where_mgda_stops"), mv.ParetoLab(**FEW)
    try:
        other.controls.preset.value = "where_mgda_stops"
        assert_same(other.descent, asked.descent)
        assert len(asked.descent.starts) == 8
        for one in (asked, other):
            assert "All eight starts" in one.controls.look.value
        other.controls.problem.value = "toy"  # further changes start from the preset
        assert set(other.descent.methods) == {"mgda", "equal"}
    finally:
        asked.close()
        other.close()


@pytest.mark.parametrize("view", ["parameters", "losses", "directions"])
def test_the_pictures_of_all_views_are_kept(lab: Callable[..., mv.ParetoLab], view: str) -> None:
    one = lab()
    shown: FigureView = getattr(one, view)
    shown._take(shown, {"kind": "picture"}, [_png()])
    _until(lambda: one._kept._picture is not None)


def _png() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(out, format="PNG")
    return out.getvalue()


def test_nothing_is_left_of_a_closed_lab() -> None:
    before = set(ipywidgets.widgets.widget._instances)
    one = mv.ParetoLab(**FEW)
    one.wait()
    assert set(ipywidgets.widgets.widget._instances) > before
    one.close()
    assert set(ipywidgets.widgets.widget._instances) == before


def test_without_any_method_starts_are_dragged_on_and_an_old_error_is_gone(lab: Callable[..., mv.ParetoLab]) -> None:
    one = lab()
    one.wait()
    for button in one.controls.methods.values():
        button.value = False
    one.controls.move(1, (3.0, -4.0), 77)
    one.wait()
    handles = planes(one)[0]["layout"]["meta"]
    assert handles["handles"]["points"][1] == [3.0, -4.0]
    assert handles["answers"] == 77
    one.controls.methods["mgda"].value = True
    np.testing.assert_array_equal(one.descent.starts[1], (3.0, -4.0))
