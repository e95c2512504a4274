"""Replay: numbers worked out by hand, the run's own weights again, rescaled losses, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mtlviz as mv
from mtlviz import analysis
from mtlviz.analysis.replay import ready
from mtlviz.analysis.replayable import UNLOGGED
from mtlviz.errors import FrameError, WeightingError
from mtlviz.runlog import RunInfo, RunLog, Step, TaskInfo
from mtlviz.runlog.records import Floats
from mtlviz.weighting import METHODS, Weighting
from tests.analysis.runs import filled, hand, long_run, rewound
from tests.problems import crossing
from tests.strategies import gramians, streams

TWO = RunInfo("two", (TaskInfo("a", "accuracy", "max"), TaskInfo("b", "rmse", "min")))
NAN = float("nan")


def logged(G: Floats, losses: Floats, weights: Floats, *, number: int = 1) -> Step:
    T = len(losses)
    return Step(number, number, 0.0, losses, weights, G, np.ones(T, int), 0.1, ("supervised",) * T)


def two(*gradients: list[list[float]]) -> RunLog:
    """Steps of two tasks with losses 1, 1 and weights 1, 1."""
    ones = np.ones(2)
    rows = [np.array(g) for g in gradients]
    return filled(TWO, [logged(J @ J.T, ones, ones, number=n + 1) for n, J in enumerate(rows)])


def of(frame: pd.DataFrame, method: str, column: str) -> Floats:
    return frame.loc[frame["method"] == method, column].to_numpy()


def weights_of(frame: pd.DataFrame, method: str) -> Floats:
    return of(frame, method, "weight").reshape(-1, frame["task"].cat.categories.size)


def test_gradients_at_right_angles_by_hand() -> None:
    frame = analysis.replay(two([[1.0, 0.0], [0.0, 2.0]]), ["equal", "mgda"])
    assert frame["method"].tolist() == ["taken"] * 2 + ["equal"] * 2 + ["mgda"] * 2
    # equal: d = (1, 2), J d = (1, 4), ‖d‖ = √5
    np.testing.assert_allclose(of(frame, "equal", "change"), [-1 / 5**0.5, -4 / 5**0.5])
    np.testing.assert_allclose(of(frame, "equal", "relative"), [-1 / 5**0.5, -2 / 5**0.5])
    # mgda: w = (4, 1) / 5, d = (4, 2) / 5, J d = (0.8, 0.8), ‖d‖ = √0.8; the cosine to (1, 2) is 1.6 / (√0.8 √5)
    np.testing.assert_allclose(of(frame, "mgda", "weight"), [0.8, 0.2])
    np.testing.assert_allclose(of(frame, "mgda", "change"), [-(0.8**0.5)] * 2)
    np.testing.assert_allclose(of(frame, "mgda", "cosine"), 0.8)
    np.testing.assert_allclose(of(frame, "taken", "cosine"), 1.0)
    assert frame["all_improve"].all()
    assert frame["none_worsens"].all()


def test_conflict_a_standstill_and_a_zero_update_by_hand() -> None:
    fight, opposite = [[1.0, 0.0], [-2.0, 1.0]], [[1.0, 0.0], [-1.0, 0.0]]
    frame = analysis.replay(two(fight, opposite, [[0.0, 0.0], [3.0, 4.0]]), "equal")
    # fight: d = (-1, 1), J d = (-1, 3); opposite: d = 0; at last a has no gradient and cannot improve
    np.testing.assert_allclose(of(frame, "equal", "change"), [0.5**0.5, -3 * 0.5**0.5, 0, 0, 0, -5])
    np.testing.assert_array_equal(of(frame, "equal", "all_improve"), [False] * 6)
    np.testing.assert_array_equal(of(frame, "equal", "none_worsens"), [False] * 2 + [True] * 4)
    np.testing.assert_allclose(of(frame, "equal", "cosine"), [1, 1, NAN, NAN, 1, 1])


def test_what_stands_at_zero_but_for_rounding_neither_improves_nor_gets_worse() -> None:
    """g_a = (1, 0), g_b = (-0.1, 1/3): weights (0.1, 1) leave a where it is, up to the rounding of 0.1 · 1 − 0.1."""
    log = two([[1.0, 0.0], [-0.1, 1 / 3]])
    G = log.gramians[0] * (1 + 1e-15 * np.array([[0, 7], [7, 0]]))
    for sign in (1, -1):
        frame = analysis.replay(filled(TWO, [logged(G, np.ones(2), np.array([0.1 + sign * 1e-14, 1.0]))]), [])
        assert frame["relative"].abs()[0] < 1e-12
        assert frame["none_worsens"].all()
        assert not frame["all_improve"].any()


def test_a_rescaled_loss_by_hand() -> None:
    """Equal weights on (a, 3 b) are the update (1, 3) on the losses' own gradients; what was taken stays."""
    log = two([[1.0, 0.0], [0.0, 2.0]])
    frame = analysis.replay(log, ["equal", "mgda"], rescale={"b": 3.0})
    np.testing.assert_allclose(of(frame, "equal", "weight"), [1, 1])
    np.testing.assert_allclose(of(frame, "equal", "change"), [-1 / 37**0.5, -12 / 37**0.5])  # d = (1, 6)
    np.testing.assert_allclose(of(frame, "mgda", "weight"), [36 / 37, 1 / 37])
    np.testing.assert_allclose(of(frame, "taken", "change"), [-1 / 5**0.5, -4 / 5**0.5])


@given(
    G=gramians(tasks=3),
    factors=st.lists(st.sampled_from([0.01, 0.5, 1.0, 8.0, 100.0]), min_size=3, max_size=3),
    method=st.sampled_from(["equal", "mgda", "uncertainty", "dwa"]),
)
def test_a_rescaled_replay_is_the_replay_of_a_rescaled_log(G: Floats, factors: list[float], method: str) -> None:
    info = RunInfo("three", tuple(TaskInfo(name, "accuracy", "max", outputs=3) for name in "abc"))
    losses, weights, c = np.array([1.0, 0.3, 7.0]), np.array([1.0, 2.0, 0.5]), np.array(factors)
    own = filled(info, [logged(G, losses, weights, number=n) for n in (1, 2)])
    scaled = filled(info, [logged(G * np.outer(c, c), losses * c, weights / c, number=n) for n in (1, 2)])
    one = analysis.replay(own, method, rescale=dict(zip("abc", factors, strict=True)))
    other = analysis.replay(scaled, method)
    np.testing.assert_array_equal(of(one, method, "weight"), of(other, method, "weight"))
    for name in ("all_improve", "none_worsens"):
        np.testing.assert_array_equal(of(one, method, name), of(other, method, name))
    change, scale = of(other, method, "change") / np.tile(c, 2), np.sqrt(np.tile(np.diag(G), 2))
    np.testing.assert_allclose(of(one, method, "change"), change, atol=1e-6 * scale.max(), rtol=1e-6)


@pytest.mark.parametrize("method", ["equal", "mgda", "dwa", "uncertainty", "rlw"])
def test_the_runs_own_method_gives_the_logged_weights_again(method: str) -> None:
    problem = crossing(missing=0.9)
    training = mv.train(problem, weighting=method, steps=80, batch_size=8, seed=3)
    log = filled(training.run_info(), list(training))
    assert np.isnan(log.losses).any()
    frame = analysis.replay(log, method)
    np.testing.assert_array_equal(weights_of(frame, method), log.weights)
    cosine = of(frame, method, "cosine")
    np.testing.assert_allclose(cosine[np.isfinite(cosine)], 1.0)
    np.testing.assert_array_equal(of(frame, method, "change"), of(frame, "taken", "change"))


@given(stream=streams(tasks=(1, 4)))
def test_every_run_can_be_replayed_and_the_frame_is_whole(stream: tuple) -> None:
    log = filled(*stream)
    frame = analysis.replay(log, ["equal", "mgda", "dwa"])
    kept = ~log.discarded
    T = len(log.names)
    assert len(frame) == 4 * kept.sum() * T
    assert list(frame.columns) == [
        *("step", "method", "task", "weight", "change", "relative", "cosine", "all_improve", "none_worsens")
    ]
    np.testing.assert_array_equal(of(frame, "mgda", "step"), np.repeat(log.recorded_steps[kept], T))
    absent = np.isnan(log.losses[kept]).ravel()
    for method in frame["method"].cat.categories:
        np.testing.assert_array_equal(np.isnan(of(frame, method, "change")), absent)
        np.testing.assert_array_equal(of(frame, method, "weight")[absent], 0.0)
    bound = np.sqrt(np.diagonal(log.gramians[kept], axis1=1, axis2=2)).ravel()[~absent]
    for method in ("taken", "equal", "mgda"):
        assert (np.abs(of(frame, method, "change")[~absent]) <= bound * (1 + 1e-9) + 1e-300).all()
    assert (frame["none_worsens"] | ~frame["all_improve"]).all()
    present, held = ~np.isnan(log.losses[kept]), log.held[kept]
    mixed = ((present & held).any(axis=1) & (present & ~held).any(axis=1)).repeat(T)
    # It descends on every task that it balances, whatever the step; where some are held by soft labels, it balances
    # the others.
    assert of(frame, "mgda", "none_worsens")[~mixed].all()


def test_discarded_steps_are_left_out_and_leave_no_trace_in_the_state() -> None:
    log = rewound()  # steps 3 and 4 were thrown away
    frame = analysis.replay(log, ["uncertainty"])
    assert frame["step"].unique().tolist() == [1, 2, 5]
    kept = [0, 1, 4]
    alone = METHODS["uncertainty"]().sweep(log.losses[kept], log.gramians[kept])
    np.testing.assert_array_equal(weights_of(frame, "uncertainty"), alone)


def test_some_steps_are_rows_of_all() -> None:
    log = long_run(200)
    everything = analysis.replay(log, ["equal", "mgda", "dwa"])
    known = everything["step"].unique()
    some = analysis.replay(log, ["equal", "mgda", "dwa"], steps=known[[3, 50, 7]].tolist())
    wanted = everything[everything["step"].isin(known[[3, 7, 50]])]
    pd.testing.assert_frame_equal(some, wanted.reset_index(drop=True))
    few = analysis.replay(log, "mgda", steps=9)
    assert few["step"].unique().tolist() == known[np.linspace(0, len(known) - 1, 9).round().astype(int)].tolist()
    assert analysis.replay(log, "mgda", steps=10_000)["step"].nunique() == len(known)
    gone = int(log.recorded_steps[log.discarded][0])
    with pytest.raises(FrameError, match=rf"no rewind discarded; these are not: \[{gone}, 9999\]"):
        analysis.replay(log, "mgda", steps=[gone, 9999, 1])
    with pytest.raises(FrameError, match="at least 1 step"):
        analysis.replay(log, "mgda", steps=0)


def test_an_empty_log_gives_an_empty_frame_of_the_same_columns() -> None:
    empty, whole = (analysis.replay(log, ["mgda"]) for log in (filled(hand().info, []), hand()))
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == whole.dtypes.to_dict()
    assert analysis.improvement_share(empty)["steps"].tolist() == [0, 0]
    assert len(analysis.predicted_changes(empty)) == len(analysis.replayed_weights(empty)) == 0


def test_labels() -> None:
    log, dwa = hand(), mv.weighting.DWA(window=1)
    labels = lambda methods: list(analysis.replay(log, methods)["method"].cat.categories)[1:]  # noqa: E731
    assert labels(["mgda", dwa]) == ["mgda", "dwa"]
    assert labels(["dwa", dwa]) == ["DWA(temperature=2.0, window=25)", "DWA(temperature=2.0, window=1)"]
    assert labels({"fast": dwa, "slow": "dwa"}) == ["fast", "slow"]
    assert labels("mgda") == ["mgda"]
    with pytest.raises(WeightingError, match=r"DWA\(.*\) more than once. Name them apart with a mapping"):
        analysis.replay(log, [dwa, dwa])
    with pytest.raises(WeightingError, match="'taken': give that method another label"):
        analysis.replay(log, {"taken": "mgda"})


def test_a_given_instance_is_copied_and_begins_anew() -> None:
    log, own = hand(), mv.weighting.UncertaintyWeighting(lr=0.5)
    own(np.array([9.0, 9.0, 9.0]), np.eye(3))
    before = own.state_dict()["state"]
    fresh = analysis.replay(log, mv.weighting.UncertaintyWeighting(lr=0.5))
    pd.testing.assert_frame_equal(analysis.replay(log, own), fresh)
    np.testing.assert_array_equal(own.state_dict()["state"], before)


def test_methods_are_told_the_classes_of_the_tasks() -> None:
    told = []

    class Asking(Weighting):
        name, needs, heads = "asking", frozenset({"losses"}), "sum"
        kernel = staticmethod(lambda losses, *rest: losses * 0 + 1)

        def prepare(self, classes: list[int]) -> None:
            told.extend(classes)

    kinds = [("accuracy (%)", 10), ("PR-AUC × 100", 1), ("(1 − RMSE) × 100", 1), ("MAE", 4), ("my own", 1)]
    kinds += [("my own", 3), ("accuracy (%)", None)]
    tasks = tuple(TaskInfo(str(i), metric, "max", outputs=n) for i, (metric, n) in enumerate(kinds))
    ready(RunLog.create(None, RunInfo("kinds", tasks)), Asking())
    assert told == [10, 2, 1, 1, 1, 3, 1]


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("mgda_ub", "the Gramian of the shared representation"),
        ("famo", "the losses of the same batch after the update"),
        ("graddrop", "the task gradients themselves"),
        ("adatask", "the task gradients themselves"),
    ],
)
def test_a_method_whose_inputs_no_log_holds_is_refused_by_name(method: str, missing: str) -> None:
    with pytest.raises(WeightingError, match=f"cannot answer for {method}: it needs {missing}, which no log holds"):
        analysis.replay(hand(), ["equal", method])
    with pytest.raises(WeightingError, match=rf"Train with it instead: mv.start\(problem, weighting='{method}'\)"):
        analysis.replay(hand(), METHODS[method]())


def test_the_list_of_refused_methods_is_what_the_methods_say_they_need() -> None:
    beyond = {name: METHODS[name].needs - {"losses", "gramian"} for name in METHODS}
    assert {name: {need} for name, need in UNLOGGED.items()} == {name: need for name, need in beyond.items() if need}


def test_what_cannot_be_replayed_is_named() -> None:
    log = hand()
    with pytest.raises(
        WeightingError, match=r"unknown weighting 'mdga'; did you mean 'mgda'. choose one of all, "
    ) as caught:
        analysis.replay(log, "mdga")
    assert not [name for name in UNLOGGED if name in str(caught.value).split(", ")]
    with pytest.raises(WeightingError, match="Wrap the function as the kernel of a class of your own"):
        analysis.replay(log, lambda losses, gramian: losses)
    with pytest.raises(WeightingError, match=r"make one of the class: MGDA\(\)"):
        analysis.replay(log, mv.weighting.MGDA)
    with pytest.raises(WeightingError, match="names or Weighting instances; came 7"):
        analysis.replay(log, ["equal", 7])
    with pytest.raises(FrameError, match="cannot rescale 'z'; the tasks of this log are a, b, c"):
        analysis.replay(log, "equal", rescale={"z": 2.0})
    for factor in (0.0, -1.0, NAN, float("inf"), "2", True, 1e300, 1e-101, 10**400):
        with pytest.raises(FrameError, match=r"a factor from 1e-100 to 1e\+100 for b; came"):
            analysis.replay(log, "equal", rescale={"b": factor})
    for factor in (1e-100, 1e100):
        assert np.isfinite(
            of(analysis.replay(two([[1.0, 0.0], [0.0, 2.0]]), "mgda", rescale={"b": factor}), "mgda", "change")
        ).all()
    with pytest.raises(FrameError, match="replay needs a RunLog"):
        analysis.replay(log.steps, "equal")


class Picky(Weighting):
    name, needs, heads, positive = "picky", frozenset({"losses"}), "sum", True
    kernel = staticmethod(lambda losses, *rest: np.sqrt(losses - 1))


def test_a_method_that_fails_at_a_step_names_it() -> None:
    steps = [logged(np.eye(2), np.array([2.0, loss]), np.ones(2), number=n) for n, loss in enumerate([5.0, 2.0, -3.0])]
    with pytest.raises(
        WeightingError,
        match=r"replay of picky fails at step 12: picky needs losses above 0; task 'b' has the loss -3\. Leave",
    ):
        analysis.replay(
            filled(TWO, [logged(s.gramian, s.losses, s.weights, number=10 + s.step) for s in steps]), Picky()
        )
    low = logged(np.eye(2), np.array([2.0, 0.5]), np.ones(2), number=7)
    with pytest.warns(RuntimeWarning), pytest.raises(WeightingError, match="its weights at step 7 are not finite"):
        analysis.replay(filled(TWO, [low]), Picky())
