"""The dashboard's Conflict tab shows inter-task affinity for runs that measure it, live, and for no others."""

from __future__ import annotations

import mtlviz as mv
from mtlviz.runlog import Measure
from mtlviz.widgets.tabs import ConflictTab
from tests.analysis.runs import hand
from tests.problems import crossing
from tests.widgets.test_dashboard_alone import _seen


def test_a_run_that_measures_it_shows_it_from_the_first_on() -> None:
    run = mv.start(crossing(), steps=1_000_000, validate_every=10_000, affinity_every=10)
    dashboard = mv.dashboard(run)
    try:
        assert list(dashboard.conflict.views)[-1] == "affinity"
        dashboard.tab.selected_index = 2
        _seen(dashboard, lambda: run.step > 50 and dashboard.conflict._drawn.get("affinity", (0,))[0] > 2)
    finally:
        run.stop()
        run.wait(20)
        dashboard.close()


def test_a_log_that_holds_some_shows_it_and_one_without_does_not() -> None:
    plain, log = hand(), hand()
    log.append(Measure(2, "affinity", 0.5, "a", "b"))
    for some, there in ((plain, False), (log, True)):
        dashboard = mv.dashboard(some)
        try:
            assert ("affinity" in dashboard.conflict.views) is there
        finally:
            dashboard.close()


def test_it_is_drawn_again_only_where_there_is_a_new_one() -> None:
    log = hand()
    log.append(Measure(2, "affinity", 0.5, "a", "b"))
    tab = ConflictTab(lambda: None, lambda: True, affinity=True)
    try:
        first = tab._made_from("affinity", log)
        assert tab._made_from("affinity", log) == first
        log.append(Measure(3, "affinity", 0.5, "a", "b"))
        assert tab._made_from("affinity", log) != first
    finally:
        tab.close()
