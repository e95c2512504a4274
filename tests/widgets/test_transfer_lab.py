"""The transfer lab: every result where it belongs, drawn as its analysis says, and what it does not know told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

import mtlviz as mv
from mtlviz.errors import FrameError
from mtlviz.runlog import RunLog
from mtlviz.widgets.transfer_lab import PICTURE, TransferLab
from mtlviz.widgets.transfer_views import KINDS, TABS, Results, kind_of, read

TASKS = ("a", "b", "c")


def runs(seeds: int = 4) -> pd.DataFrame:
    """Rows as `experiments.transfer_runs` returns them: b helps a, c hurts it; 0.1 is what a seed changes."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck = dict(zip(TASKS, rng.normal(0, 0.1, size=3), strict=True))
        for trained in (("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), TASKS):
            for task in trained:
                gain = 0.2 * ("b" in trained and task == "a") - 0.2 * ("c" in trained and task == "a")
                others = [other for other in trained if other != task]
                rows.append(
                    {
                        "seed": seed,
                        "trained": "all" if len(trained) == 3 else " + ".join(trained),
                        "source": "all" if len(others) == 2 else "".join(others),
                        "task": task,
                        "metric": "accuracy",
                        "direction": "max",
                        "select": "final",
                        "step": 10,
                        "value": 0.5 + luck[task] + gain + 0.01 * rng.normal(),
                        "test": 0.5 + luck[task] - gain + 0.01 * rng.normal(),
                        "status": "finished",
                        "error": "",
                        "folder": "",
                    }
                )
    return pd.DataFrame(rows)


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {task: rng.normal(size=(50, 4)) * (1 + place) for place, task in enumerate(TASKS)}


@pytest.fixture
def labs() -> Iterator[Callable[..., TransferLab]]:
    made: list[TransferLab] = []

    def lab(*results: object, **options: object) -> TransferLab:
        made.append(TransferLab(*results, **options))  # type: ignore[arg-type]
        return made[-1]

    yield lab
    for each in made:
        each.close()


def drawn(lab: TransferLab, name: str, figure: str, timeout: float = 20.0) -> object:
    """The tree that a view was last told, once it is there."""
    lab.tab.selected_index = list(lab.tab.titles).index(name)
    view = lab._tabs[name].views[figure]
    deadline = time.monotonic() + timeout
    while view._newest is None:
        assert time.monotonic() < deadline, f"{figure} was not drawn"
        time.sleep(0.02)
    return view._newest


def test_every_kind_of_result_is_told_from_the_others() -> None:
    x = inputs()
    gains = mv.analysis.transfer_gains(runs())
    scores = mv.analysis.covariance_scores(x)
    frames = {
        "runs": runs(),
        "gains": gains,
        "scores": scores,
        "spectra": mv.analysis.covariance_spectra(x),
        "alignment": mv.analysis.covariance_alignment(x),
        "prediction": mv.analysis.transfer_prediction(gains, covariance=scores),
    }
    assert {name: kind_of(frame) for name, frame in frames.items()} == {name: name for name in frames}
    for name, frame in frames.items():
        assert [kind for kind, known in KINDS.items() if known.fits(frame)] == [name], "no frame is of two kinds"


def test_results_stand_in_tabs_and_signals_beside_gains(labs: Callable[..., TransferLab]) -> None:
    lab = labs(runs())
    assert lab.tab.titles == ("Transfer",)
    lab.add(mv.analysis.covariance_scores(inputs()))
    assert lab.tab.titles == ("Transfer", "Signals", "Covariance")
    assert list(lab._tabs["Signals"].views) == ["transfer_prediction"], "a signal and gains make a prediction"
    assert drawn(lab, "Transfer", "transfer_gains")
    assert drawn(lab, "Signals", "transfer_prediction")
    assert drawn(lab, "Covariance", "covariance_scores")
    assert "trouble" not in lab.trouble.value


def test_confidence_and_split_judge_results_that_have_their_seeds(labs: Callable[..., TransferLab]) -> None:
    lab = labs(runs())
    assert lab.controls.layout.display is None
    before = drawn(lab, "Transfer", "transfer_gains")
    lab.split.value = "test"
    lab.confidence.value = 0.8
    expected = mv.analysis.transfer_gains(runs(), confidence=0.8, on="test")
    assert lab.results.gains is not None
    pd.testing.assert_frame_equal(lab.results.gains, expected)
    by = expected.set_index(["source", "target"])["verdict"]
    assert (by["b", "a"], by["c", "a"]) == ("negative", "positive"), "the test split was made to say the opposite"
    view = lab._tabs["Transfer"].views["transfer_gains"]
    deadline = time.monotonic() + 20
    while view._newest == before:
        assert time.monotonic() < deadline, "the figure was not drawn anew"
        time.sleep(0.02)


def test_gains_without_seeds_have_no_controls(labs: Callable[..., TransferLab]) -> None:
    lab = labs(mv.analysis.transfer_gains(runs()))
    assert lab.controls.layout.display == "none"


def test_a_log_gives_its_cosines_and_affinity_where_recorded(labs: Callable[..., TransferLab]) -> None:
    log = RunLog.open("data_samples/run_digits")
    assert set(read(log)) == {"cosines"}
    lab = labs(log)
    assert lab.tab.titles == ("Signals",)
    assert drawn(lab, "Signals", "conflict_matrix")


def test_without_results_the_picture_is_there(labs: Callable[..., TransferLab]) -> None:
    lab = labs()
    assert lab.tab.titles == (PICTURE,)
    assert lab.picture is not None
    lab.picture.wait()
    lab.add(runs())
    assert lab.tab.titles == (PICTURE, "Transfer")
    assert labs(runs(), picture=True).tab.titles == (PICTURE, "Transfer")


def test_of_two_of_a_kind_the_last_counts_and_its_figure_is_drawn_anew(labs: Callable[..., TransferLab]) -> None:
    x = inputs()
    lab = labs(mv.analysis.covariance_scores(x))
    before = drawn(lab, "Covariance", "covariance_scores")
    lab.add(mv.analysis.covariance_scores({**x, "a": x["a"] * [1, 50, 1, 1]}))
    view = lab._tabs["Covariance"].views["covariance_scores"]
    deadline = time.monotonic() + 20
    while view._newest == before:
        assert time.monotonic() < deadline, "the figure was not drawn anew"
        time.sleep(0.02)


def test_what_is_no_result_is_told_and_changes_nothing(labs: Callable[..., TransferLab]) -> None:
    lab = labs(runs())
    with pytest.raises(FrameError, match=r"it got a frame with x, y"):
        lab.add(pd.DataFrame({"x": [1], "y": [2]}))
    with pytest.raises(FrameError, match="needs frames or run logs, got dict"):
        lab.add({"a": 1})
    assert lab.tab.titles == ("Transfer",)


@pytest.mark.parametrize("kinds", [["alone"], ["together"], ["alone", "together"]])
def test_capacity_is_drawn_of_either_kind_and_the_rule_needs_both(
    labs: Callable[..., TransferLab], kinds: list[str]
) -> None:
    of = {"metric": "accuracy", "direction": "max", "task": "a"}
    rows = [
        of | {"width": w, "kind": k, "seed": s, "value": 0.1 * w + s} for w in (1, 2) for k in kinds for s in (0, 1)
    ]
    lab = labs(pd.DataFrame(rows))
    assert drawn(lab, "Capacity", "capacity_curves")
    assert (lab.results.capacity_rule is None) == (len(kinds) == 1)


def test_a_figure_that_cannot_be_drawn_says_so_in_its_place(labs: Callable[..., TransferLab]) -> None:
    broken = runs().assign(direction="up")
    lab = labs(broken)
    deadline = time.monotonic() + 20
    while lab.trouble.layout.display == "none":
        assert time.monotonic() < deadline, "the trouble was not shown"
        time.sleep(0.02)
    assert "up" in lab.trouble.value


def test_every_figure_of_the_tabs_says_what_it_needs() -> None:
    empty = Results()
    for figures in TABS.values():
        for figure, draw in figures.items():
            assert not empty.tells(figure)
            assert draw(empty) is None
