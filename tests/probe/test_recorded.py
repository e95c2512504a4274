"""What a probe records is what a plain loop finds, and what it cannot measure it says."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mtlviz as mv
from mtlviz.errors import ProbeError, RunLogError
from mtlviz.probe.effective import Coming
from tests.probe.loops import Net, batches, plain_gramian, trained


def smooth() -> Net:
    torch.manual_seed(2)
    return Net(nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh()))


@pytest.mark.parametrize("layers", ["whole", "blocks", "layers", "tensors"])
@pytest.mark.parametrize("cut", [False, True])
def test_gramians_are_those_of_a_plain_loop(layers: str, cut: bool) -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk, every=1, layers=layers)
    for x in batches(3):
        z = net.trunk(x)
        losses = net.losses(z, x)
        assert probe.step(losses, features=z if cut else None)
        parameters = list(net.trunk.parameters())
        wanted = plain_gramian(list(losses.values()), parameters)
        np.testing.assert_allclose(probe.log.gramians[-1], wanted.numpy(), rtol=1e-5)
    assert probe.engine.startswith("general" if layers == "tensors" else "layerwise")
    if layers == "whole":
        assert probe.log.info.layers == ()
        return
    _, cube = probe.log.layer_gramians
    own = [[p] for p in parameters] if layers == "tensors" else [list(net.trunk[i].parameters()) for i in (0, 2)]
    for k, some in enumerate(own):
        np.testing.assert_allclose(cube[-1, k], plain_gramian(list(losses.values()), some).numpy(), rtol=1e-5)


def test_an_iterable_has_no_layers_and_takes_the_general_path() -> None:
    net = smooth()
    for shared in (net.trunk.parameters(), net.trunk.named_parameters()):
        probe = mv.Probe(["a", "b"], shared)
        x = next(batches(1))
        losses = net.losses(net.trunk(x), x)
        probe.step(losses)
        wanted = plain_gramian(list(losses.values()), list(net.trunk.parameters()))
        np.testing.assert_allclose(probe.log.gramians[0], wanted.numpy(), rtol=1e-5)
        assert probe.log.info.layers == ()
        assert probe.engine.startswith("general")
    named = mv.Probe(["a", "b"], net.trunk.named_parameters(), layers="tensors")
    assert named.log.info.layers == ("0.weight", "0.bias", "2.weight", "2.bias")


def test_a_wide_model_is_taken_in_blocks_that_give_the_same() -> None:
    net = smooth()
    x = next(batches(1))
    losses = [*net.losses(net.trunk(x), x).values(), None]
    groups = {name: [p] for name, p in net.trunk.named_parameters()}
    whole, blocks = (mv.gradients.General(groups, at_once=size).gramians(losses) for size in (10**6, 100))
    torch.testing.assert_close(whole, blocks, equal_nan=True)
    assert torch.isnan(whole[:, 2]).all()


def test_losses_come_as_mapping_sequence_or_tensor_and_absent_ones_are_nan() -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    for form in (dict, lambda d: list(d.values()), lambda d: torch.stack(list(d.values()))):
        probe.step(form(net.losses(net.trunk(x), x)))
    np.testing.assert_allclose(probe.log.gramians[0], probe.log.gramians[2], rtol=1e-6)
    probe.step({"b": net.losses(net.trunk(x), x)["b"]}, weights={"b": 2})
    probe.step([None, None])
    assert np.isnan(probe.log.losses[3:, 0]).all()
    assert np.isnan(probe.log.gramians[3][0]).all()
    assert np.isfinite(probe.log.gramians[3][1, 1])
    assert np.isnan(probe.log.gramians[4]).all()
    np.testing.assert_array_equal(probe.log.weights, [[1, 1], [1, 1], [1, 1], [0, 2], [0, 0]])


def test_what_is_not_finite_is_nan_and_noted() -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk)
    x = next(batches(1))
    losses = net.losses(net.trunk(x), x)
    probe.step({"a": losses["a"] * float("nan"), "b": losses["b"]})
    assert np.isnan(probe.log.losses[0]).tolist() == [True, False]
    assert np.isfinite(probe.log.gramians[0][1, 1])
    assert probe.log.measures[["name", "task"]].to_numpy().tolist() == [["nonfinite", "a"]]
    assert probe.log.state == "running"


def test_tasks_touch_the_layers_that_they_touch() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z = torch.tanh(self.both(x))
            return self.left(z), self.right(z)

    trunk = Forked()
    probe = mv.Probe(["a", "b"], trunk)
    left, right = trunk(next(batches(1)))
    probe.step([left.square().mean(), right.square().mean()])
    _, cube = probe.log.layer_gramians
    both, left_only, right_only = cube[0]
    assert (both.diagonal() > 0).all()
    assert (left_only[1] == 0).all()
    assert (right_only[0] == 0).all()


def test_a_planted_conflict_is_found_in_its_layer() -> None:
    torch.manual_seed(3)
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 2, bias=False)
    trunk = nn.Sequential(first, second)
    probe = mv.Probe(["a", "b"], trunk, every=1)
    for x in batches(20):
        # The last layer's outputs are of one task each; what they read is the same, with opposite wishes.
        second.weight.data[1] = -second.weight.data[0]
        z = trunk(x)
        probe.step([z[:, 0].mean(), z[:, 1].mean()])
    found = mv.analysis.layer_conflict(probe.log).groupby("layer", observed=True)["cosine"].mean()
    assert found["0"] == pytest.approx(-1)
    assert abs(found["1"]) < 1e-6


def test_effective_change_is_that_of_a_step_by_hand() -> None:
    net = smooth()
    o = torch.optim.SGD(net.parameters(), lr=0.1)
    probe = mv.Probe(["a", "b"], net.trunk, every=2, effective=o)
    norms = []
    for x in batches(4):
        losses = net.losses(net.trunk(x), x)
        probe.step(losses)
        o.zero_grad()
        sum(losses.values()).backward()
        norms.append(torch.cat([p.grad.flatten() for p in net.trunk.parameters()]).norm().item())
        o.step()
    probe.close()
    changes = probe.log.measures.query("name == 'effective_change'").pivot(index="step", columns="task", values="value")
    np.testing.assert_allclose(changes, -0.1 * probe.log.gramians.sum(axis=2), rtol=1e-4)
    lengths = probe.log.measures.query("name == 'effective_length'")["value"]
    np.testing.assert_allclose(lengths, 0.1 * np.array(norms)[[0, 2]], rtol=1e-4)
    frame = mv.analysis.effective_change(probe.log)  # plain gradient descent is the plain direction
    one, other = (frame[frame["method"] == name] for name in ("plain direction", "optimizer"))
    np.testing.assert_allclose(one["change"], other["change"], rtol=1e-4)
    assert mv.figures.effective_change(frame).layout.meta["question"].startswith("What did the optimizer")


class Late(Coming):
    """Numbers that come from the device only after they were asked for some times."""

    asked = 0

    def there(self) -> bool:
        self.asked += 1
        return self.asked > 3


def test_what_the_optimizer_did_is_noted_when_the_device_has_come_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []
    for every in (1, 3, 5):
        found = []
        for late in (False, True):
            if late:
                monkeypatch.setattr("mtlviz.probe.effective.Coming", Late)
            net = smooth()
            o = torch.optim.SGD(net.parameters(), lr=0.1)
            probe = mv.Probe(["a", "b"], net.trunk, every=every, effective=o)
            for x in batches(7):
                losses = net.losses(net.trunk(x), x)
                probe.step(losses)
                o.zero_grad()
                sum(losses.values()).backward()
                o.step()
            probe.close()
            found.append(probe.log.measures)
            monkeypatch.undo()
        pd.testing.assert_frame_equal(*found)
        noted.append(found[0]["step"].unique().tolist())
    assert noted == [[1, 2, 3, 4, 5, 6, 7], [1, 4, 7], [1, 6]]


def test_momentum_turns_a_good_direction_into_a_bad_step() -> None:
    w = nn.Parameter(torch.tensor([1.0, 0.0]))
    o = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    probe = mv.Probe(["a", "b"], [w], every=1, effective=o)
    for sign in (5.0, 5.0, -1.0):  # the gradient turns round, and momentum goes on
        losses = [sign * w[0], sign * w[0] + w[1]]
        probe.step(losses)
        o.zero_grad()
        sum(losses).backward()
        o.step()
    probe.close()
    last = mv.analysis.effective_change(probe.log).query("step == 3 and task == 'a'").set_index("method")["change"]
    assert last["plain direction"] < 0 < last["optimizer"]


def test_a_step_that_was_not_taken_has_no_effect_noted() -> None:
    net = smooth()
    o = torch.optim.SGD(net.parameters(), lr=0.1)
    probe = mv.Probe(["a", "b"], net.trunk, every=1, effective=o)
    for x in batches(2):
        probe.step(net.losses(net.trunk(x), x))
    probe.close()
    assert not len(probe.log.measures)
    o.step()  # nothing of the probe is left on the optimizer


def bad_input() -> list[tuple[str, Callable[[Net, mv.Probe, torch.Tensor], Any], str]]:
    def freed(net: Net, probe: mv.Probe, x: torch.Tensor) -> None:
        losses = net.losses(net.trunk(x), x)
        sum(losses.values()).backward()
        probe.step(losses)

    def stepped(net: Net, probe: mv.Probe, x: torch.Tensor) -> None:
        losses = net.losses(net.trunk(x), x)
        with torch.no_grad():
            net.trunk[2].weight.add_(1)
        probe.step(losses)

    def of(change: Callable[[dict[str, torch.Tensor]], Any], **more: Any) -> Callable[..., Any]:
        return lambda net, probe, x: probe.step(change(net.losses(net.trunk(x), x)), **more)

    w = torch.zeros(3, requires_grad=True)
    return [
        ("after backward", freed, "before loss.backward"),
        ("after the step", stepped, "right after the losses"),
        ("a number", of(lambda d: d | {"a": d["a"].item()}), "tensor that backward"),
        ("detached", of(lambda d: d | {"a": d["a"].detach()}), "no graph"),
        ("not scalar", of(lambda d: d | {"a": d["a"].expand(3)}), "must be one number"),
        ("another task", of(lambda d: d | {"c": d["a"]}), "unknown task 'c'"),
        ("too few", of(lambda d: [d["a"]]), "a value for each of a, b"),
        ("no mapping", of(lambda d: d["a"]), r"a value for each of the 2 tasks"),
        ("another model", of(lambda d: [w.sum(), (2 * w).sum()]), "none of the losses depends"),
        ("weights", of(lambda d: d, weights={"a": "much"}), "weights needs a number"),
        ("features detached", of(lambda d: d, features=torch.zeros(3)), "shared representation"),
        ("features are several", of(lambda d: d, features=[w, w]), "must be the tensor z"),
        ("features of numpy", of(lambda d: d, features=np.zeros((3, 2))), "must be the tensor z"),
        ("samples below 0", of(lambda d: d, samples=[3, -1]), "samples needs a whole number from 0 for 'b', got -1"),
        ("half a sample", of(lambda d: d, samples={"a": 1.5}), "samples needs a whole number from 0 for 'a'"),
        ("samples not known", of(lambda d: d, samples=[float("nan"), 1]), "samples needs a whole number from 0"),
        ("scaled by what", of(lambda d: d, scaled=True), r"scaler=scaler"),
        ("features of nothing", of(lambda d: d, features=2 * w), "no loss depends"),
    ]


@pytest.mark.parametrize(("act", "said"), [pytest.param(a, s, id=name) for name, a, s in bad_input()])
def test_what_cannot_be_measured_is_told_and_the_loop_may_go_on(act: Callable[..., Any], said: str) -> None:
    net = smooth()
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    with pytest.raises(ProbeError, match=said):
        act(net, probe, x)
    assert probe.step(net.losses(net.trunk(x), x))
    assert list(probe.log.recorded_steps) == [2]
    assert np.isfinite(probe.log.gramians).all()


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda probe: probe.validation([0.1, 0.2]), "validation needs values by task"),
        (lambda probe: probe.validation(a=0.1, metric=3), "name of one metric"),
        (lambda probe: probe.measure("speed", "fast"), "measure needs a number for 'speed'"),
        (lambda probe: probe.measure("speed", None), "measure needs a number for 'speed'"),
    ],
)
def test_what_a_loop_says_by_hand_is_checked(say: Callable[[mv.Probe], None], said: str) -> None:
    with pytest.raises(ProbeError, match=said):
        say(mv.Probe(["a", "b"], smooth().trunk))


def test_a_loss_that_depends_on_nothing_shared_is_told_of_once() -> None:
    net, x = smooth(), next(batches(1))
    probe = mv.Probe(["a", "b"], net.trunk, every=1)

    def step() -> bool:
        z = net.trunk(x)
        return probe.step(net.losses(z, x) | {"b": net.losses(z.detach(), x)["b"]})

    with pytest.warns(RuntimeWarning, match="loss of 'b' depends on no shared parameter") as told:
        step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step()
    assert [Path(warning.filename) for warning in told] == [Path(__file__)]
    assert (probe.log.gramians[:, 1] == 0).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_layers_of_a_scripted_module_are_measured_by_the_general_path() -> None:
    net, x = smooth(), next(batches(1))
    scripted = torch.jit.trace(net.trunk, x)
    probe = mv.Probe(["a", "b"], scripted, every=1)
    losses = net.losses(scripted(x), x)
    probe.step(losses)
    wanted = plain_gramian(list(losses.values()), list(net.trunk.parameters()))
    np.testing.assert_allclose(probe.log.gramians[0], wanted.numpy(), rtol=1e-5)
    assert probe.engine.startswith("general")
    assert probe.log.info.layers == ("0", "2")


def test_what_flows_around_the_features_is_noticed() -> None:
    net = smooth()
    x = next(batches(1))
    z = net.trunk(x)
    around = (z @ net.trunk[2].weight).square().mean()  # a head that uses the trunk's weights
    with pytest.raises(ProbeError, match="does not flow through features"):
        mv.Probe(["a", "b"], net.trunk).step([around, z.mean()], features=z)
    mv.Probe(["a", "b"], net.trunk).step([around, z.mean()])


def test_a_loop_whose_features_are_passed_by_hears_of_it_as_often_as_it_tries() -> None:
    net, x = smooth(), next(batches(1))
    several = mv.Probe(["a", "b"], net.trunk, accumulate=2, every=1)
    z = net.trunk(x)
    around = [net.trunk[2].weight.square().mean() + z.mean(), z.mean()]
    through = [z.square().mean(), z.mean()]
    for first, second in ((around, through), (through, around)):
        several.step(first, features=z)
        with pytest.raises(ProbeError, match="does not flow through features"):
            several.step(second, features=z)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": "seg"}, "names of the tasks"),
        ({"tasks": []}, "names of the tasks"),
        ({"tasks": ["a", "a"]}, "different names"),
        ({"tasks": ["a", 3]}, "a name or an mv.Task"),
        ({"shared": 3}, "module or an iterable"),
        ({"shared": []}, "empty"),
        ({"shared": [nn.Linear(2, 2)]}, "ModuleList"),
        ({"shared": nn.Linear(2, 2).requires_grad_(False)}, "parameters that train"),
        ({"shared": nn.ReLU()}, "parameters that train"),
        ({"layers": "leaves"}, "unknown grouping"),
        ({"shared": [nn.Parameter(torch.zeros(2))], "layers": "blocks"}, "has no blocks"),
        ({"every": 0}, "every must be"),
        ({"budget": 0}, "share of the loop's time"),
        ({"budget": 10}, "up to 1, as 0.1; got 10"),  # per cent
        ({"budget": True}, "share of the loop's time"),
        ({"name": 3}, "name must be a text"),
        ({"config": 3}, "config must be a mapping"),
        ({"noise": "no"}, "noise must be True or False"),
        ({"overwrite": "no"}, "overwrite must be True or False"),
        ({"shared": "backbone"}, "got str"),
        ({"shared": nn.Linear(2, 2).state_dict()}, "got OrderedDict"),
        ({"accumulate": 1.5}, "accumulate must be"),
        ({"optimizer": 3}, "torch optimizer"),
        ({"effective": torch.optim.SGD([nn.Parameter(torch.zeros(2))])}, "none of the shared"),
        ({"scaler": 2.0}, "GradScaler"),
        ({"metrics": {"c": "accuracy"}}, "no task"),
        ({"directions": "up"}, "'max' or 'min'"),
        ({"metrics": "rmse", "directions": "max"}, "gets better towards min"),
        ({"weights": [1.0]}, "weights needs a value"),
        ({"resume": True}, "run in a folder"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ProbeError, match=said):
        mv.Probe(**({"tasks": ["a", "b"], "shared": nn.Linear(2, 2)} | settings))


def test_tasks_bring_their_metric_and_validations_take_it(tmp_path: Path) -> None:
    task = mv.Task("a", loss=nn.functional.mse_loss, metric="rmse", outputs=1)
    with mv.Probe([task, "b", "c d"], nn.Linear(2, 2), log=tmp_path / "run", metrics={"b": "accuracy"}) as probe:
        probe.validation(a=0.5, b=90)
        probe.validation({"c d": 1.5}, metric="mIoU")
        with pytest.raises(ProbeError, match="unknown task"):
            probe.validation(d=1)
        probe.event("unfrozen", layer="conv1")
        probe.measure("temperature", 0.5, task="a")
    log = mv.RunLog.open(tmp_path / "run")
    assert log.validations[["task", "metric", "value"]].to_numpy().tolist() == [
        ["a", "RMSE", 0.5],
        ["b", "accuracy (%)", 90.0],
        ["c d", "mIoU", 1.5],
    ]
    assert [task.direction for task in log.tasks] == ["min", "max", "max"]
    assert [task.metric for task in log.tasks] == ["RMSE", "accuracy (%)", "validation"]
    assert log.events["kind"].tolist() == ["start", "unfrozen", "finish"]
    assert log.state == "finished"
    with pytest.raises(ProbeError, match="closed"):
        probe.validation(a=1)


def test_a_loop_that_fails_or_is_interrupted_keeps_what_was_recorded(tmp_path: Path) -> None:
    for error, state in ((ZeroDivisionError, "failed"), (KeyboardInterrupt, "stopped")):
        folder = tmp_path / state
        net, x = smooth(), next(batches(1))

        def loop(net: Net, x: torch.Tensor, folder: Path, error: type[BaseException]) -> None:
            with mv.Probe(["a", "b"], net.trunk, log=folder, every=1) as probe:
                probe.step(net.losses(net.trunk(x), x))
                raise error

        with pytest.raises(error):
            loop(net, x, folder, error)
        log = mv.RunLog.open(folder)
        assert (log.state, len(log)) == (state, 1)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for begun in (0, 5):
        net = smooth()
        probe = mv.Probe(["a", "b"], net.trunk, log=folder, every=2, resume=True)
        assert probe.updates == begun
        for x in batches(5):
            probe.step(net.losses(net.trunk(x), x))
        probe.validation(a=1)
        probe.close()
    log = mv.RunLog.open(folder)
    assert list(log.recorded_steps) == [1, 3, 5, 6, 8, 10]
    assert (np.diff(log.steps.groupby("step")["time"].first()) > 0).all()
    with pytest.raises(RunLogError, match="already holds a run"):
        mv.Probe(["a", "b"], smooth().trunk, log=folder)
    with pytest.raises(ProbeError, match="its tasks are a, b, these are a, c"):
        mv.Probe(["a", "c"], smooth().trunk, log=folder, resume=True)
    again = mv.Probe(["a", "b"], smooth().trunk, log=folder, resume=7)
    assert list(again.log.recorded_steps) == [1, 3, 5, 6]
    assert json.loads((folder / "run.json").read_text())["config"]["every"] == 2


def test_weights_samples_and_learning_rate_are_logged() -> None:
    _, probe = trained(
        True,
        weights={"a": 0.5, "b": torch.tensor(2.0)},
        optimizer=lambda p: torch.optim.SGD(p, lr=0.25),
        effective=lambda o: o,
    )
    assert probe is not None
    assert (probe.log.weights == [0.5, 2.0]).all()
    assert (probe.log.steps["learning_rate"] == 0.25).all()
    net = smooth()
    other = mv.Probe(["a", "b"], net.trunk, every=1)
    x = next(batches(1))
    z = net.trunk(x)
    other.step(net.losses(z, x), features=z)
    other.step(net.losses(net.trunk(x), x), samples={"a": 3})
    assert other.log.steps["samples"].tolist() == [16, 16, 3, 0]
    assert other.log.steps["learning_rate"].isna().all()


def test_the_dashboard_takes_a_probe() -> None:
    _, probe = trained(True)
    assert probe is not None
    dashboard = mv.dashboard(probe)
    assert dashboard.run_log is probe.log
    dashboard.close()
