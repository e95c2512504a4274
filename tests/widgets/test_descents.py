"""What the Pareto lab computes anew and what it knows, against descents at one go."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import mtlviz as mv
from mtlviz import pareto
from mtlviz.pareto import Descent
from mtlviz.widgets import descents as known
from mtlviz.widgets.descents import Descents, Settings
from tests.widgets.same_descent import assert_same, whole


def counting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], int, int | None]]:
    """Notes the methods, the number of starts and the points of each descent that is computed."""
    noted: list[tuple[tuple[str, ...], int, int | None]] = []
    original = pareto.descend

    def descend(methods: Any, starts: Any, *rest: Any, **options: Any) -> Descent:
        noted.append((tuple(methods), len(starts), options["points"]))
        return original(methods, starts, *rest, **options)

    monkeypatch.setattr(pareto, "descend", descend)
    return noted


@pytest.mark.filterwarnings("ignore:bandit_mtl")
def test_what_is_known_is_not_computed_again_and_the_whole_is_one_descent(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pareto.descend(("equal", "famo", "bandit_mtl"), steps=200, points=known.POINTS)
    settings, noted = Settings.of(first), counting(monkeypatch)
    descents = Descents({name: name for name in mv.weighting.METHODS})

    def changed(**changes: Any) -> Settings:
        nonlocal settings
        settings = Settings(**(vars(settings) | changes))
        noted.clear()
        assert_same(descents.descent(settings), whole(settings))
        noted.pop()  # that of `whole`
        return settings

    changed()
    assert noted == [(first.methods, 5, known.POINTS)]
    changed(starts=((1.0, 2.0), *settings.starts[1:]))
    assert noted == [(first.methods, 1, known.POINTS)]
    changed(methods=(*settings.methods, "rlw"))
    assert noted == [(("rlw",), 5, known.POINTS)]
    changed(methods=settings.methods[::-1])
    assert noted == []
    changed(starts=(*settings.starts, (3.0, 3.0), (3.0, 3.0)))  # two handles at one place
    assert noted == [(settings.methods, 1, known.POINTS)]
    changed(methods=("equal", "mgda"), starts=((0.5, 0.5), *settings.starts[1:]))
    assert sorted(noted) == [(("equal", "mgda"), 1, known.POINTS), (("mgda",), 5, known.POINTS)]
    for change in ({"problem": settings.problem.scaled((3.0, 1.0))}, {"lr": 0.01}, {"optimizer": "sgd"}, {"steps": 90}):
        changed(**change)
        assert noted == [(("equal", "mgda"), 6, known.POINTS)]


def test_long_work_is_given_up_for_a_newer_wish_and_short_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pareto.descend(("equal", "mgda", "cagrad"), steps=100, points=known.POINTS)
    descents = Descents({name: name for name in mv.weighting.METHODS})
    assert descents.descent(Settings.of(first), lambda: True) is not None
    monkeypatch.setattr(known, "AT_ONCE", 500)
    longer = Settings(**(vars(Settings.of(first)) | {"steps": 101}))
    noted = counting(monkeypatch)
    assert descents.descent(longer, lambda: True) is None
    assert noted == [(("equal",), 5, known.POINTS)]
    assert_same(descents.descent(longer), whole(longer))
    assert [methods for methods, _, _ in noted[1:3]] == [("mgda",), ("cagrad",)]  # what it had done was kept


def test_the_arrows_are_those_of_every_step_of_the_trajectory_that_is_followed() -> None:
    settings = Settings.of(pareto.descend(("equal", "uncertainty", "nash_mtl"), steps=5_000, points=50))
    descents = Descents({name: name for name in mv.weighting.METHODS})
    full = pareto.descend("nash_mtl", [settings.starts[2]], settings.problem, steps=5_000, points=None)
    wanted = pareto.probe(settings.methods, full.x[0, 0, :1235], settings.problem)
    found = descents.moment(settings, "nash_mtl", 2, 1234)
    np.testing.assert_array_equal(found.x, wanted.x)
    np.testing.assert_array_equal(found.weights, wanted.weights)


def test_the_arrows_stay_at_the_last_point_of_a_trajectory_that_ended() -> None:
    settings = Settings.of(pareto.descend(("si", "equal"), steps=200, points=50))  # the toy's losses fall below 0
    moment = Descents({"si": "si", "equal": "equal"}).moment(settings, "si", 1, 150)
    np.testing.assert_array_equal(moment.x, settings.starts[1])
    assert np.isnan(moment.weights[0]).all()
    assert np.isfinite(moment.weights[1]).all()


def test_notes_are_kept_by_label_and_nothing_is_warned_of() -> None:
    weightings = {"wide": mv.weighting.BanditMTL(), "narrow": mv.weighting.BanditMTL(rho=0.1), "equal": "equal"}
    descents = Descents(weightings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = descents.first({"wide": weightings["wide"]}, [(1.0, 2.0)], "toy", steps=50)  # type: ignore[dict-item]
        assert list(descents.notes) == ["wide"]
        settings = Settings(**(vars(Settings.of(first)) | {"methods": ("wide", "narrow", "equal")}))
        descents.descent(settings)
        descents.moment(settings, "wide", 0, 10)
    assert descents.notes == {"wide": mv.weighting.BanditMTL().notes(2), "narrow": (), "equal": ()}
    assert descents.notes["wide"][0].startswith("bandit_mtl: rho=1.2 does not constrain 2 tasks")


def test_threads_that_descend_leave_the_warnings_of_the_process_alone() -> None:
    """What warns of a method is told to no thread but the caller's: `catch_warnings` is of the whole process."""
    settings = Settings.of(pareto.descend("equal", steps=40, points=known.POINTS))
    settings = Settings(**(vars(settings) | {"methods": ("equal", "bandit_mtl")}))
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            descents = Descents({"equal": "equal", "bandit_mtl": "bandit_mtl"})
            descents.descent(settings)
            descents.moment(settings, "bandit_mtl", 0, 3)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = warnings.showwarning, warnings._showwarnmsg_impl, warnings.filters, list(warnings.filters)  # type: ignore[attr-defined]
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(300):
                warnings.warn(f"word {number}", stacklevel=1)
                done.wait(0.002)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        after = warnings.showwarning, warnings._showwarnmsg_impl, warnings.filters, list(warnings.filters)  # type: ignore[attr-defined]
    assert before == after
    assert [str(each.message) for each in seen] == [f"word {number}" for number in range(300)]
