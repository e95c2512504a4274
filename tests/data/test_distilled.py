"""Problems whose tasks learn soft labels: every row keeps its own, whatever form the data have."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mtlviz as mv
from mtlviz.data import BatchSampler, Split
from mtlviz.errors import ProblemError
from tests.problems import TASKS, crossing, made_data

N = 60
KIND, SIZE, RARE = (task.name for task in TASKS)


class Shared(Dataset):
    """A map-style Dataset of (input, {task: target})."""

    def __init__(self, x: torch.Tensor, y: dict[str, torch.Tensor]) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.x[i], {name: y[i] for name, y in self.y.items()}


def _data() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Inputs whose first number is the row; every third row lacks a kind, every fourth a size."""
    x, y = made_data(N, 0)
    x[:, 0] = torch.arange(N)
    y["kind"][::3] = -100
    y["size"][::4] = torch.nan
    return x, y


def _forms() -> dict[str, Any]:
    x, y = _data()
    return {
        "shared tensors": (x, y),
        "shared Dataset": Shared(x, y),
        "tensors per task": {name: (x, t) for name, t in y.items()},
        "Datasets per task": {name: TensorDataset(x, t) for name, t in y.items()},
        "mixed": {"kind": TensorDataset(x, y["kind"]), "size": (x, y["size"]), "rare": (x, y["rare"])},
    }


def _soft(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "kind": torch.softmax(torch.randn(N, 3, generator=generator), dim=1),
        "size": torch.randn(N, generator=generator),
        "rare": torch.rand(N, generator=generator),
    }


def _seen(split: Split) -> dict[str, dict[int, torch.Tensor]]:
    """The target of every row that a task sees in a few epochs of batches, and that a row has one target only."""
    sampler, seen = BatchSampler(split, batch_size=16, seed=0), {task.name: {} for task in TASKS}
    for position in range(1, 12):
        batch = sampler.batch(position)
        for name, targets in batch.targets.items():
            for row, target in zip(batch.inputs[batch.rows[name]][:, 0].long().tolist(), targets, strict=True):
                assert torch.equal(seen[name].setdefault(row, target), target)
    return seen


def _expected(values: torch.Tensor, known: torch.Tensor) -> dict[int, torch.Tensor]:
    return {row: values[row] for row in range(N) if known[row]}


def _agree(seen: dict[int, torch.Tensor], expected: dict[int, torch.Tensor]) -> None:
    assert seen.keys() == expected.keys()
    for row, target in seen.items():
        torch.testing.assert_close(target, expected[row], rtol=0, atol=0)


@pytest.mark.parametrize("form", _forms())
def test_every_row_keeps_its_soft_label_and_a_row_without_a_true_one_has_none(form: str) -> None:
    _, y = _data()
    soft = _soft()
    soft["rare"][5] = torch.nan
    problem = crossing(train=_forms()[form])
    labelled = {"kind": y["kind"] != -100, "size": ~y["size"].isnan(), "rare": ~soft["rare"].isnan()}

    first = problem.distilled({"kind": soft["kind"]})
    seen = _seen(first.train)
    _agree(seen["kind"], _expected(soft["kind"], labelled["kind"]))
    _agree(seen["size"], _expected(y["size"], labelled["size"]))
    _agree(seen["rare"], _expected(y["rare"], torch.ones(N)))

    second = first.distilled({"rare": soft["rare"], "size": soft["size"]})
    seen = _seen(second.train)
    for name in soft:
        _agree(seen[name], _expected(soft[name], labelled[name]))

    other = _soft(seed=9)
    again = second.distilled({"rare": other["rare"]})  # row 5 has a label again
    _agree(_seen(again.train)["rare"], _expected(other["rare"], torch.ones(N)))
    _agree(_seen(again.train)["kind"], _expected(soft["kind"], labelled["kind"]))

    seen = _seen(problem.train)  # the problem itself is as it was
    _agree(seen["kind"], _expected(y["kind"], labelled["kind"]))
    assert [task.loss for task in problem.tasks] == [task.loss for task in TASKS]


@pytest.mark.parametrize("form", _forms())
def test_only_the_targets_of_distilled_tasks_are_new(form: str) -> None:
    problem = crossing(train=_forms()[form])
    distilled = problem.distilled({"rare": _soft()["rare"]})
    assert distilled.model is problem.model
    assert distilled.validation is problem.validation
    assert distilled.test is problem.test
    if form == "shared tensors":
        old, new = problem.train.shared, distilled.train.shared
        assert new.inputs is old.inputs
        assert new.targets["kind"] is old.targets["kind"]
        assert new.targets["rare"].data_ptr() != old.targets["rare"].data_ptr()
    elif form != "shared Dataset":
        assert distilled.train.by_task["kind"] is problem.train.by_task["kind"]
    if form == "tensors per task":
        assert distilled.train.by_task["rare"].inputs is problem.train.by_task["rare"].inputs


def test_soft_labels_of_rows_that_all_have_true_ones_are_not_copied() -> None:
    soft = _soft()["rare"]
    assert crossing(train=_data()).distilled({"rare": soft}).train.shared.targets["rare"].data_ptr() == soft.data_ptr()


@pytest.mark.parametrize("form", _forms())
def test_it_trains_and_the_losses_are_those_of_the_soft_labels(form: str) -> None:
    soft = _soft()
    distilled = crossing(train=_forms()[form]).distilled(soft)
    step = next(r for r in mv.train(distilled, steps=1, batch_size=16) if isinstance(r, mv.Step))
    batch = BatchSampler(distilled.train, batch_size=16, seed=0).batch(1)
    outputs = distilled.model(batch.inputs)
    losses = {"kind": F.cross_entropy, "size": F.mse_loss, "rare": F.binary_cross_entropy_with_logits}
    for number, (name, loss) in enumerate(losses.items()):
        rows = batch.inputs[batch.rows[name]][:, 0].long()
        of_task = outputs[name][batch.rows[name]]
        expected = loss(of_task if name == "kind" else of_task.squeeze(1), soft[name][rows])
        assert step.losses[number] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert [task.loss for task in distilled.run_info().tasks] == [task.loss_name for task in TASKS]


def test_scaled_and_alone_go_with_distilled() -> None:
    soft = _soft()
    problem = crossing(train=_data()).scaled({"rare": 3}).distilled({"rare": soft["rare"]}).scaled({"rare": 2})
    assert [task.scale for task in problem.tasks] == [1, 1, 6]
    alone = problem.alone("rare").distilled({"rare": _soft(seed=3)["rare"]})
    _agree(_seen(alone.train)["rare"], _expected(_soft(seed=3)["rare"], torch.ones(N)))
    own = crossing(train=_forms()["tensors per task"]).alone("size").distilled({"size": soft["size"]})
    _agree(_seen(own.train)["size"], _expected(soft["size"], ~_data()[1]["size"].isnan()))


def test_a_column_of_targets_takes_labels_of_one_dimension() -> None:
    x, y = _data()
    problem = mv.Problem(tasks=TASKS[2:], trunk=nn.Linear(6, 4), train=(x, {"rare": y["rare"][:, None]}))
    soft = _soft()["rare"]
    distilled = problem.distilled({"rare": soft})
    assert torch.equal(distilled.train.shared.targets["rare"], soft[:, None])
    list(mv.train(distilled, steps=1))


def test_a_pixel_without_a_class_stays_without_one() -> None:
    task = mv.Task("map", loss=F.cross_entropy, metric="accuracy", outputs=4)
    y = torch.randint(0, 4, (N, 2, 3), generator=torch.Generator().manual_seed(0))
    y[:, 0, 1] = -100
    heads = {"map": nn.Sequential(nn.Linear(8, 24), nn.Unflatten(1, (4, 2, 3)))}
    problem = mv.Problem(tasks=[task], trunk=nn.Linear(6, 8), heads=heads, train=(_data()[0], {"map": y}))
    soft = torch.softmax(torch.randn(N, 4, 2, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    (batch,) = problem.distilled({"map": soft}).train.chunks()
    missing = batch.targets["map"].isnan()
    assert missing[:, :, 0, 1].all()
    assert missing.sum() == 4 * N


def _loader() -> mv.Problem:
    x, y = _data()
    return crossing(
        train={"kind": (x, y["kind"]), "size": (x, y["size"]), "rare": DataLoader(TensorDataset(x, y["rare"]))}
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], r"soft labels must be \{task: labels\}, got list"),
        (
            {"sise": torch.zeros(N)},
            r"soft labels for unknown tasks \['sise'\]; the tasks are \['kind', 'size', 'rare'\]",
        ),
        ({"size": torch.zeros(N - 1)}, "task 'size': its soft labels .* need a row for each of the 60 rows of train"),
        ({"size": torch.zeros(N, dtype=torch.long)}, r"must be floats \(N, ...\)"),
        ({"size": torch.full((N,), torch.nan)}, "are NaN in every row"),
        ({"size": torch.full((N,), torch.inf)}, "hold infinite numbers"),
        ({"size": torch.zeros(N, 2)}, "'size': .*do not fit its true targets"),
        ({"kind": torch.zeros(N)}, r"'kind': .*each row should have the shape \(3,\)"),
        ({"kind": torch.zeros(N, 4)}, r"'kind': .*each row should have the shape \(3,\)"),
    ],
)
@pytest.mark.parametrize("form", _forms())
def test_labels_that_do_not_fit_are_told(form: str, labels: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        crossing(train=_forms()[form]).distilled(labels)


def test_rows_of_a_loader_can_have_no_soft_labels() -> None:
    problem = _loader()
    with pytest.raises(ProblemError, match="data of task 'rare' come in a DataLoader"):
        problem.distilled({"rare": _soft()["rare"]})
    shared = crossing(train=DataLoader(Shared(*_data()), batch_size=8))
    with pytest.raises(ProblemError, match="come in a DataLoader"):
        shared.distilled({"kind": _soft()["kind"]})


def test_a_loss_without_soft_labels_is_told_and_nothing_is_changed() -> None:
    task = mv.Task("size", loss=lambda o, y: (o - y).abs().max(), metric="rmse", outputs=1)
    problem = mv.Problem(tasks=[task], trunk=nn.Linear(6, 4), train=(_data()[0], {"size": _data()[1]["size"]}))
    with pytest.raises(ProblemError, match="task 'size': its soft labels must be a tensor or an array"):
        crossing().distilled({"size": object()})  # type: ignore[dict-item]
    with pytest.raises(ProblemError, match="task 'size': nobody knows the soft labels of <lambda>"):
        problem.distilled({"size": _soft()["size"]})
    assert problem.tasks == (task,)


def test_a_task_alone_carries_its_own_data_only() -> None:
    """As it is sent to the process that trains it."""
    x, y = made_data(4000, 0)
    problem = crossing(train={name: (x.clone(), target) for name, target in y.items()}).distilled({"size": y["size"]})
    assert len(pickle.dumps(problem.alone("size").train)) < len(pickle.dumps(problem.alone("size"))) < 2 * 4000 * 7 * 4
