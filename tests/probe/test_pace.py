"""The probe keeps its own time, and a budget holds."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import mtlviz as mv
from mtlviz.gradients.layerwise import Layerwise
from mtlviz.probe.pace import Pace
from tests.probe.loops import Net, batches


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(every: int, budget: float | None, costs: list[float], *, between: float = 1.0) -> tuple[list[int], Pace, float]:
    """The recorded steps of a loop whose steps take `between`, and the greatest overhead after the first hundred."""
    clock = Clock()
    pace = Pace(every, budget, clock=clock)
    recorded, worst = [], 0.0
    due = pace.due(1)
    for step, cost in enumerate(costs, start=1):
        clock.now += between
        pace.enter()
        if due:
            recorded.append(step)
            clock.now += cost
        pace.leave()
        if due:
            pace.recorded(step)
        due = pace.due(step + 1)
        worst = max(worst, pace.overhead) if step > 100 else worst
    return recorded, pace, worst


def test_without_a_budget_every_step_that_is_due_is_recorded() -> None:
    recorded, pace, _ = run(7, None, [1.0] * 30)
    assert recorded == [1, 8, 15, 22, 29]
    assert pace.overhead == pytest.approx(5 / 29)  # the time before the first call is nobody's


@pytest.mark.parametrize("cost", [0.01, 0.5, 3.0])
def test_a_budget_holds_and_is_used(cost: float) -> None:
    recorded, pace, worst = run(1, 0.1, [cost] * 3000)
    assert worst <= 0.1 or cost * len(recorded) < 10  # the first one alone may cost more than 100 steps allow
    assert pace.overhead <= 0.1
    if cost < 0.1:
        assert len(recorded) > 2990
    else:
        assert pace.overhead > 0.08


def test_the_spacing_follows_what_a_step_costs() -> None:
    recorded, pace, _ = run(2, 0.1, [0.1] * 500 + [1.0] * 2500)
    assert recorded[101] - recorded[100] == 2
    assert 9 <= pace.every <= 12
    assert pace.overhead <= 0.1


def test_an_expensive_first_step_is_paid_for_before_the_next() -> None:
    recorded, _, _ = run(1, 0.1, [50.0] + [0.01] * 1999)
    assert recorded[1] == pytest.approx(1001, abs=2)  # the next might cost as much
    assert len(recorded) > 900


def test_changes_of_the_spacing_are_events_and_the_overhead_is_told() -> None:
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
    probe = mv.Probe(["a", "b"], net.trunk, budget=0.001)
    assert probe.measured_overhead != probe.measured_overhead
    for x in batches(20):
        probe.step(net.losses(net.trunk(x), x))
    assert len(probe.log) < 20  # twenty steps pay for none at a thousandth
    assert probe.measured_overhead > 0


def memory_of(steps: int) -> int:
    """Tensors that are alive after so many recorded steps."""
    torch.manual_seed(0)
    net = Net()
    o = torch.optim.Adam(net.parameters())
    probe = mv.Probe(["a", "b"], net.trunk, every=1, effective=o, log=None)
    layerwise = mv.Probe(["a", "b"], net.trunk, every=1)
    for x in batches(steps):
        losses = net.losses(net.trunk(x), x)
        probe.step(losses)
        layerwise.step(losses)
        o.zero_grad()
        sum(losses.values()).backward()
        o.step()
    gc.collect()
    return sum(type(thing) in (torch.Tensor, nn.Parameter) for thing in gc.get_objects())


def test_hundreds_of_steps_keep_no_tensor() -> None:
    memory_of(3)
    assert memory_of(150) <= memory_of(5) + 2


@pytest.mark.soak
def test_five_thousand_steps_keep_memory_flat() -> None:
    import psutil

    memory_of(500)
    before = psutil.Process().memory_info().rss
    memory_of(5000)
    assert psutil.Process().memory_info().rss - before < 20e6  # the log itself takes 5000 rows of 0.3 kB, twice


def test_the_engine_holds_no_rows_between_steps() -> None:
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
    engine = Layerwise(net.trunk)
    engine.watch()
    x = next(batches(1))
    cube = engine.gramians(list(net.losses(net.trunk(x), x).values()))
    assert engine.ways == {"0": "rows"}
    assert cube.any()
    assert engine.held == 0


@pytest.mark.parametrize("settings", [{}, {"layers": "tensors"}, {"noise": True}, {"effective": True}])
def test_only_the_reading_asks_for_numbers(settings: dict[str, Any]) -> None:
    """On a GPU each of these would wait for the device, or copy to it; there the test of its own counts the waits."""
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Linear(6, 400), nn.Tanh(), nn.Linear(400, 8), nn.LayerNorm(8)))
    o = torch.optim.SGD(net.parameters(), lr=0.1, foreach=False)
    settings = {key: o if key == "effective" else value for key, value in settings.items()}
    probe = mv.Probe(["a", "b"], net.trunk, every=2, **settings)
    for x in batches(6):
        z = net.trunk(x)
        losses = net.losses(z, x)
        with Asking() as asking:
            probe.step({"a": losses["a"], "b": None} if probe.updates == 2 else losses, features=z)
        halves = ["lift_fresh"] if "noise" in settings and probe.updates % 2 else []  # numpy's, copied without a wait
        assert asking.found == halves
        o.zero_grad()
        sum(losses.values()).backward()
        with Asking() as asking:
            o.step()
        assert not asking.found


class Asking(TorchDispatchMode):
    """Notes the operations that wait for a device where there is one."""

    WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.__name__.split(".")[0]
        if name in self.WAITING:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def test_nothing_of_a_step_is_alive_after_it() -> None:
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh()))
    probe = mv.Probe(["a", "b"], net.trunk, every=2)
    x = next(batches(1))
    z = net.trunk(x)
    losses = net.losses(z, x)
    probe.step(losses)
    left = [weakref.ref(t) for t in (z, *losses.values())]
    del z, losses
    assert all(ref() is None for ref in left)
    assert not any(m._forward_hooks for m in net.modules())  # step 2 is not recorded
