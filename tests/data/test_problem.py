"""Problems by hand: every form of data, and clear errors for parts that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mtlviz as mv
from mtlviz.data import BatchSampler, split_of
from mtlviz.errors import ProblemError
from tests.problems import TASKS, crossing, made_data

NAMES = tuple(task.name for task in TASKS)


class Rows(Dataset):
    """A map-style Dataset of (input, {task: target})."""

    def __init__(self, count: int, seed: int) -> None:
        self.x, self.y = made_data(count, seed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.x[i], {name: y[i] for name, y in self.y.items()}


def _forms(count: int, seed: int) -> dict[str, Any]:
    x, y = made_data(count, seed)
    return {
        "shared tensors": (x, y),
        "shared arrays": (x.numpy(), {name: t.numpy() for name, t in y.items()}),
        "shared Dataset": Rows(count, seed),
        "shared DataLoader": DataLoader(Rows(count, seed), batch_size=32, shuffle=True),
        "tensors per task": {name: (x, t) for name, t in y.items()},
        "Datasets per task": {name: TensorDataset(x, t) for name, t in y.items()},
        "DataLoaders per task": {name: DataLoader(TensorDataset(x, t), batch_size=16) for name, t in y.items()},
        "mixed": {
            "kind": (x, y["kind"]),
            "size": TensorDataset(x, y["size"]),
            "rare": DataLoader(TensorDataset(x, y["rare"]), batch_size=8),
        },
    }


@pytest.mark.parametrize("form", _forms(4, 0))
def test_every_form_of_data_trains_three_tasks_on_a_hand_written_trunk(form: str) -> None:
    problem = crossing(train=_forms(256, 0)[form], validation=_forms(128, 2)[form], test=_forms(128, 3)[form])
    log = mv.RunLog.create(None, problem)
    for record in mv.train(problem, steps=150, validate_every=50, batch_size=32, optimizer=_adam):
        log.append(record)
    losses = log.steps.groupby("task", observed=True).loss
    assert (losses.tail(20).groupby(log.steps.task).mean() < losses.head(20).groupby(log.steps.task).mean()).all()
    values = log.validations.pivot(index="step", columns="task", values="value")
    assert values.loc[150, "kind"] > values.loc[0, "kind"]
    assert values.loc[150, "size"] < values.loc[0, "size"]
    assert set(log.measures.query("name == 'test'").task) == set(NAMES)


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def test_forms_agree_on_what_a_split_holds() -> None:
    x, y = made_data(40, 0)
    for form, value in _forms(40, 0).items():
        seen: dict[str, list[torch.Tensor]] = {name: [] for name in NAMES}
        for batch in split_of("train", value, NAMES).chunks(16):
            for name, targets in batch.targets.items():
                inputs = batch.inputs[batch.rows[name]]
                assert len(inputs) == len(targets)
                seen[name].append(torch.cat([inputs, targets[:, None].float()], dim=1))
        for name in NAMES:
            expected = torch.cat([x, y[name][:, None].float()], dim=1)
            rows = {tuple(row.tolist()) for row in torch.cat(seen[name])}
            assert rows == {tuple(row.tolist()) for row in expected}, form


def test_missing_labels_are_left_out_and_counted() -> None:
    x = torch.arange(12.0).reshape(6, 2)
    y = {"kind": torch.tensor([0, -100, 2, -100, 1, 0]), "size": torch.tensor([1.0, 2, np.nan, 4, np.nan, np.nan])}
    split = split_of("train", (x, y), ("kind", "size"))
    assert split.samples() == {"kind": 4, "size": 3}
    (batch,) = split.chunks()
    assert torch.equal(batch.inputs[batch.rows["kind"]], x[[0, 2, 4, 5]])
    assert torch.equal(batch.targets["size"], torch.tensor([1.0, 2, 4]))
    (last,) = list(split_of("t", (x[4:], {k: v[4:] for k, v in y.items()}), ("kind", "size")).chunks())
    assert "size" not in last.rows
    assert last.samples("size") == 0


def test_labels_of_sources_per_task_are_counted_as_such() -> None:
    y = torch.where(torch.arange(30) < 10, X[:, 0], torch.nan)
    assert split_of("train", {"size": (X, y), "kind": (X, Y["kind"])}, NAMES).samples() == {"size": 10, "kind": 30}


def test_a_batch_depends_on_seed_and_position_only_and_epochs_are_whole() -> None:
    x = torch.arange(50.0)[:, None]
    split = split_of("train", (x, {"size": x[:, 0]}), ("size",))
    first = BatchSampler(split, batch_size=7, seed=3)
    in_order = [first.batch(k).inputs.flatten() for k in range(1, 101)]
    second = BatchSampler(split, batch_size=7, seed=3)
    for k in (90, 3, 57, 1):
        assert torch.equal(second.batch(k).inputs.flatten(), in_order[k - 1])
    stream = torch.cat(in_order)
    for epoch in stream.split(50):
        assert torch.equal(epoch.sort().values, torch.arange(50.0))
    assert not torch.equal(stream[:50], stream[50:100])
    other = BatchSampler(split, batch_size=7, seed=4)
    assert not torch.equal(other.batch(1).inputs.flatten(), in_order[0])


def test_a_batch_larger_than_the_data_goes_round() -> None:
    x = torch.arange(5.0)[:, None]
    batch = BatchSampler(split_of("train", (x, {"size": x[:, 0]}), ("size",)), batch_size=12, seed=0).batch(4)
    counts = batch.inputs.flatten().long().bincount(minlength=5)
    assert counts.sum() == 12
    assert counts.min() >= 2  # 12 of an endless row of whole epochs of 5: each at least twice


def _problem(**parts: Any) -> mv.Problem:
    return mv.Problem(**({"tasks": TASKS, "trunk": nn.Linear(6, 4), "train": made_data(30, 0)} | parts))


X, Y = made_data(30, 0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tasks": []}, "at least one task"),
        ({"tasks": [TASKS[0], TASKS[0]]}, "'kind' stands more than once"),
        ({"tasks": ["kind"]}, "mtlviz.Task objects, got str"),
        ({"trunk": lambda x: x}, "nn.Module, got function"),
        ({"train": (X, {"kind": Y["kind"]})}, "no labelled sample for 'size', 'rare'"),
        ({"train": (X, Y | {"size": torch.full((30,), torch.nan)})}, "no labelled sample for 'size'"),
        ({"train": (X, Y | {"siz": Y["size"]})}, r"unknown tasks \['siz'\]"),
        ({"train": (X, Y["kind"])}, r"\(inputs, \{task: targets\}\)"),
        ({"train": (X[:10], Y)}, r"'kind' has targets \(30,\) for inputs \(10, 6\)"),
        ({"train": (X[:0], {n: y[:0] for n, y in Y.items()})}, "has no samples"),
        ({"train": 7}, "train: the shared source needs"),
        ({"train": X}, r"needs \(inputs, targets\); a bare Tensor came"),
        ({"train": {"kind": X, "size": X, "rare": X}}, "task 'kind' needs .*a bare Tensor came"),
        ({"train": TensorDataset(X)}, "a Dataset must give .*a tuple of 1"),
        ({"train": TensorDataset(X, X, X)}, "a Dataset must give .*a tuple of 3"),
        ({"train": DataLoader([{"x": x} for x in X])}, "a DataLoader must give .*a dict"),
        ({"train": DataLoader(Rows(5, 0), batch_size=16, drop_last=True)}, "gave no batch"),
        ({"train": {n: (X, torch.full((30,), torch.nan) if n == "size" else y) for n, y in Y.items()}}, "for 'size'"),
        ({"tasks": None}, "a list of mtlviz.Task objects, got NoneType"),
        ({"tasks": TASKS[0]}, "a list of mtlviz.Task objects, got Task"),
        ({"heads": [nn.Linear(4, 3)]}, r"heads must be \{task: module\}, got list"),
        ({"seed": "x"}, "seed must be a whole number from 0, got 'x'"),
        ({"train": {"kind": (X, Y["kind"])}}, "no labelled sample for 'size', 'rare'"),
        ({"train": {"kid": (X, Y["kind"])}}, r"unknown tasks \['kid'\]"),
        ({"validation": (X, Y | {"x": Y["kind"]})}, r"validation.*unknown tasks \['x'\]"),
        ({"heads": {"x": nn.Linear(4, 1)}}, r"heads for unknown tasks \['x'\]"),
        ({"heads": {"kind": 3}}, "the head of 'kind' must be an nn.Module"),
        ({"trunk": nn.Linear(5, 4)}, r"the trunk failed on inputs \(1, 6\)"),
        (
            {"trunk": nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2)))},
            r"\(B, d\), this one returned \(1, 2, 2\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        _problem(**parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": " "}, "a name that is not empty"),
        ({"loss": None}, "task 't': loss must be a function"),
        ({"outputs": 0}, "outputs must be a whole number"),
        ({"outputs": 2.0}, "outputs must be a whole number"),
        ({"metric": "acuracy"}, r"unknown metric 'acuracy'; did you mean 'accuracy'\? choose one of accuracy, pr_auc"),
        ({"metric": lambda o, t: 0.0}, "needs direction='max' or direction='min'"),
        ({"direction": "up"}, "direction must be 'max' or 'min', got 'up'"),
        ({"direction": "min"}, "accuracy gets better towards max, not min"),
        ({"metric": 3}, "metric must be a name or a function, got int"),
    ],
)
def test_tasks_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        mv.Task(**({"name": "t", "loss": F.cross_entropy, "metric": "accuracy", "outputs": 2} | change))


def test_inputs_of_two_shapes_cannot_pass_one_trunk() -> None:
    train = {"kind": (X, Y["kind"]), "size": (X[:, :5], Y["size"]), "rare": (X, Y["rare"])}
    with pytest.raises(ProblemError, match="inputs need one shape"):
        mv.train(_problem(train=train), steps=1)


def test_a_loader_that_gives_nothing_or_no_pairs_is_named() -> None:
    x = {"kind": DataLoader(TensorDataset(X[:5], Y["kind"][:5]), batch_size=10, drop_last=True)}
    parts = {"tasks": TASKS[:1], "heads": {"kind": nn.Linear(4, 3)}}
    with pytest.raises(ProblemError, match="gave no batch"):
        mv.train(_problem(train=x, **parts), steps=1)
    with pytest.raises(ProblemError, match=r"\(inputs, targets\) pairs"):
        mv.train(_problem(train={"kind": DataLoader(TensorDataset(X))}, **parts), steps=1)


def test_a_trained_problem_is_as_it_was() -> None:
    problem = crossing()
    before = [p.clone() for p in problem.model.parameters()]
    training = mv.train(problem, steps=3)
    list(training)
    assert all(torch.equal(p, q) for p, q in zip(before, problem.model.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(before, training.model.parameters(), strict=True))


def test_a_head_is_made_where_none_is_given() -> None:
    own = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    problem = crossing(heads={"kind": own})
    assert problem.model.head("kind") is own
    assert problem.model.head("size").out_features == 1
    assert {name: tuple(y.shape) for name, y in problem.model(X).items()} == {
        "kind": (30, 3),
        "size": (30, 1),
        "rare": (30, 1),
    }


def test_run_info_names_tasks_layers_and_labels() -> None:
    info = crossing(missing=0.5).run_info({"a": 1})
    assert [t.name for t in info.tasks] == list(NAMES)
    assert [t.direction for t in info.tasks] == ["max", "min", "max"]
    assert info.layers == ("inward", "norm", "middle")
    assert 80 < info.tasks[0].samples["train"] < 176
    assert info.tasks[0].samples["validation"] == 128
