"""The rule of convergence: hand-worked schedules, and what holds for any sequence of metrics."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.convergence import Convergence, Rule, Signal

EVERY = 10


def tasks(*names: str, direction: str = "max") -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name, direction=direction) for name in names]


def kinds(signals: list[Signal]) -> list[tuple[str, str | None]]:
    return [(signal.kind, signal.task) for signal in signals]


def test_a_hand_worked_joint_schedule() -> None:
    """A converges at 50 and throws away B's best of 40; B converges at 80 and goes back behind A's convergence."""
    rule = Convergence(Rule.of(tasks("a", "b"), patience=3))
    quiet = [(0, 0, 5.0, 5.0), (10, 10, 6.0, 7.0), (20, 20, 9.0, 6.0), (30, 30, 8.0, 6.0), (40, 40, 8.0, 8.0)]
    for step, position, a, b in quiet:
        assert rule.validation(step, position, {"a": a, "b": b}) == []
    assert rule.needed() == {20, 40, 10}  # a's best, b's best, and b's best at 20, which a convergence of a brings back
    first = rule.validation(50, 50, {"a": 9.0, "b": 7.0})  # 9 is no improvement on 9
    assert first == [
        Signal(50, 50, "convergence", "a", {"best": 9.0, "best_step": 20, "best_position": 20, "patience": 3}),
        Signal(50, 20, "rewind", None, {"to": 20, "step": 20, "tasks": ["a"]}),
        Signal(50, 20, "distillation", "a"),
    ]
    assert rule.phases == {"a": "distilled", "b": "supervised"}
    assert rule.needed() == {20, 10}  # a's and b's, not 40, which was thrown away
    assert rule.validation(60, 30, {"a": 1.0, "b": 6.0}) == []  # b had waited 1 at position 20, now 2
    second = rule.validation(70, 40, {"a": 1.0, "b": 7.0})
    assert second == [
        Signal(70, 40, "convergence", "b", {"best": 7.0, "best_step": 10, "best_position": 10, "patience": 3}),
        Signal(70, 10, "rewind", None, {"to": 10, "step": 10, "tasks": ["b"]}),
    ]
    assert rule.done
    assert list(rule.converged) == ["a", "b"]
    assert rule.end(70, 10) == []


def test_a_hand_worked_sequence() -> None:
    rule = Convergence(Rule.of(tasks("a", "b"), patience=2, order=["b", "a"]))
    assert rule.begin() == [Signal(0, 0, "task_added", "b")]
    assert rule.phases == {"a": "waiting", "b": "supervised"}
    assert rule.validation(0, 0, {"a": 1.0, "b": 1.0}) == []
    assert rule.validation(10, 10, {"a": 3.0, "b": 2.0}) == []
    assert rule.validation(20, 20, {"a": 9.0, "b": 2.0}) == []
    signals = rule.validation(30, 30, {"a": 9.0, "b": 1.0})
    expected = [("convergence", "b"), ("rewind", None), ("distillation", "b"), ("task_added", "a")]
    assert kinds(signals) == expected
    assert rule.needed() == {10}  # a starts from the 3.0 of position 10, not from the 9.0 that was thrown away
    assert rule.validation(40, 20, {"a": 3.0, "b": 2.0}) == []
    signals = rule.validation(50, 30, {"a": 2.0, "b": 2.0})
    assert kinds(signals) == [("convergence", "a"), ("rewind", None)]
    assert signals[-1].detail["to"] == 10


def test_without_distillation_converged_tasks_stay_supervised() -> None:
    rule = Convergence(Rule.of(tasks("a", "b"), patience=1, order=["a", "b"], distils=False))
    rule.begin()
    rule.validation(0, 0, {"a": 1.0, "b": 1.0})
    signals = rule.validation(10, 10, {"a": 1.0, "b": 1.0})
    assert kinds(signals) == [("convergence", "a"), ("rewind", None), ("task_added", "b")]
    assert rule.phases == {"a": "supervised", "b": "supervised"}


def test_ties_go_by_the_earliest_best_and_equal_bests_go_together() -> None:
    rule = Convergence(Rule.of(tasks("a", "b", "c"), patience={"a": 1, "b": 2, "c": 2}))
    rule.validation(0, 0, {"a": 1.0, "b": 5.0, "c": 5.0})
    assert rule.validation(10, 10, {"a": 2.0, "b": 4.0, "c": 4.0}) == []
    signals = rule.validation(20, 20, {"a": 1.0, "b": 4.0, "c": 4.0})  # all three are out of patience
    assert kinds(signals)[:3] == [("convergence", "b"), ("convergence", "c"), ("rewind", None)]
    assert signals[2].detail == {"to": 0, "step": 0, "tasks": ["b", "c"]}
    assert rule.phases["a"] == "supervised"
    assert rule.needed() == {0}  # what a had at position 0


def test_a_best_at_the_very_first_validation_goes_back_to_the_start() -> None:
    rule = Convergence(Rule.of(tasks("a"), patience=3))
    for k in range(3):
        assert rule.validation(k * EVERY, k * EVERY, {"a": 1.0}) == []
    signals = rule.validation(30, 30, {"a": 0.5})
    assert signals[1] == Signal(30, 0, "rewind", None, {"to": 0, "step": 0, "tasks": ["a"]})
    assert rule.done


def test_gains_must_exceed_min_delta_and_the_direction_counts() -> None:
    falling = Convergence(Rule.of(tasks("a", direction="min"), patience=1, min_delta=0.5))
    falling.validation(0, 0, {"a": 2.0})
    assert falling.validation(10, 10, {"a": 1.0}) == []  # better by 1
    assert kinds(falling.validation(20, 20, {"a": 0.5}))[0] == ("convergence", "a")  # better by 0.5, not by more


def test_nan_never_improves_and_a_task_without_a_value_never_converges() -> None:
    rule = Convergence(Rule.of(tasks("a", "b"), patience=2))
    for k in range(10):
        signals = rule.validation(k * EVERY, k * EVERY, {"a": math.nan, "b": float(k)})
        assert signals == []
    detail = {"unconverged": ["a", "b"], "never_finite": ["a"]}
    assert rule.end(90, 90) == [Signal(90, 90, "step_cap", None, detail)]
    assert rule.validation(100, 100, {"a": 3.0, "b": math.nan}) == []
    assert rule.needed() == {100, 90}
    assert rule.end(100, 100) == [Signal(100, 100, "step_cap", None, {"unconverged": ["a", "b"]})]


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"patience": 0}, "patience .* from 1; for 'a' it is 0"),
        ({"patience": {"a": 1}}, "patience needs a number for every task; missing: \\['b'\\]"),
        ({"patience": {"a": 1, "b": 1, "c": 1}}, "unknown tasks \\['c'\\]"),
        ({"min_delta": -1.0}, "min_delta must be a finite number from 0"),
        ({"min_delta": math.nan}, "min_delta must be a finite number from 0"),
        ({"order": ["a"]}, "order must name each task once"),
        ({"order": ["a", "a"]}, "order must name each task once"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings_: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule.of(tasks("a", "b"), **settings_)


def test_a_rule_comes_back_from_its_config() -> None:
    rule = Rule.of(tasks("a", "b"), patience={"a": 1, "b": 4}, min_delta=0.25, order=["b", "a"], distils=False)
    assert Rule.from_config(rule.config(), tasks("a", "b")) == rule


Values = dict[str, float]


@st.composite
def runs(draw: st.DrawFn) -> tuple[Rule, list[Values]]:
    names = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    drawn = [SimpleNamespace(name=name, direction=draw(st.sampled_from(["max", "min"]))) for name in names]
    rule = Rule.of(
        drawn,
        patience={name: draw(st.integers(1, 4)) for name in names},
        min_delta={name: draw(st.sampled_from([0.0, 0.5, 1.0, 2.5])) for name in names},
        order=draw(st.none() | st.permutations(names)),
        distils=draw(st.booleans()),
    )
    value = st.integers(0, 6).map(float) | st.just(math.nan)
    return rule, draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, value)), max_size=60))


def worsening(rule: Rule, rounds: int) -> list[Values]:
    """Values that get worse round by round, so that every task ends converged."""
    sign = {task: -1.0 if rule.directions[task] == "max" else 1.0 for task in rule.tasks}
    return [{task: sign[task] * (10.0 + k) for task in rule.tasks} for k in range(rounds)]


def best_position(rule: Rule, task: str, curve: dict[int, Values], added: int) -> int | None:
    """Where a curve last improved on its best by more than min_delta, from the position where the task was added."""
    best, where = math.nan, None
    for position in sorted(at for at in curve if at >= added):
        value = curve[position][task]
        better = (
            value > best + rule.min_delta[task]
            if rule.directions[task] == "max"
            else value < best - rule.min_delta[task]
        )
        if better or (math.isnan(best) and not math.isnan(value)):
            best, where = value, position
    return where


class Followed:
    """A rule, and what can be told of it without it: the clocks, the surviving curve, the checkpoints there are."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.follow = rule, Convergence(rule)
        self.follow.begin()
        self.step = self.position = self.rewinds = 0
        self.added = dict.fromkeys(rule.tasks, 0)  # the position where each task began to learn
        self.kept: dict[int, int] = {}  # step -> position
        self.curve: dict[int, Values] = {}  # surviving position -> values

    def interrupt(self) -> None:
        """A resumed run knows what an uninterrupted one knows."""
        again = Convergence(self.rule)
        again.load_state_dict(self.follow.state_dict())
        assert again.state_dict() == self.follow.state_dict()
        self.follow = again

    def validate(self, values: Values) -> None:
        before = set(self.follow.converged)
        self.curve[self.position] = values
        signals = self.follow.validation(self.step, self.position, values)
        self.kept[self.step] = self.position
        new = [str(signal.task) for signal in signals if signal.kind == "convergence"]
        back = [signal for signal in signals if signal.kind == "rewind"]
        assert len(back) == bool(new)
        assert before.isdisjoint(new)
        assert set(self.follow.converged) == before | set(new)
        assert all(signal.step == self.step for signal in signals)
        for signal in back:
            self._go_back(signal, new)
        self.added |= {str(s.task): s.position for s in signals if s.kind == "task_added"}
        self.kept = {at: p for at, p in self.kept.items() if at in self.follow.needed() | {self.step}}
        if back:
            self.kept[self.step] = self.position
        assert self.follow.needed() <= set(self.kept)
        assert sum(phase == "supervised" for phase in self.follow.phases.values()) >= (not self.follow.done)
        self.step, self.position = self.step + EVERY, self.position + EVERY

    def _go_back(self, signal: Signal, tasks_: list[str]) -> None:
        """Back to the best of the surviving curve of those that converged, at a checkpoint that is there."""
        self.rewinds += 1
        assert self.kept[signal.detail["step"]] == signal.detail["to"] == signal.position <= self.position
        for task in tasks_:
            assert best_position(self.rule, task, self.curve, self.added[task]) == signal.position
        self.position = signal.position
        self.curve = {at: values for at, values in self.curve.items() if at <= self.position}


@settings(max_examples=300, deadline=None)
@given(runs(), st.integers(0, 30))
def test_any_sequence_of_metrics(run: tuple[Rule, list[Values]], interrupted: int) -> None:
    """Positions and steps stay consistent, every rewind converges someone new, and what it needs is kept."""
    rule, values = run
    followed = Followed(rule)
    for round_, value in enumerate(values + worsening(rule, 200)):
        if followed.follow.done:
            break
        if round_ == interrupted:
            followed.interrupt()
        followed.validate(value)
    assert followed.follow.done
    assert followed.rewinds <= len(rule.tasks)
