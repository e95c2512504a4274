"""Label noise: which labels change, that none is lost or made, and that validation and test stay true."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import mtlviz as mv
from mtlviz.data.splits import labelled
from mtlviz.errors import ProblemError
from tests.problems import TASKS, crossing, made_data


def _targets(problem: mv.Problem) -> dict[str, torch.Tensor]:
    return problem.train.shared.targets


@settings(max_examples=25, deadline=None)
@given(st.floats(0.02, 1.0), st.integers(0, 1000), st.sampled_from([0.0, 0.5]))
def test_the_labels_of_a_share_of_the_rows_change_places(share: float, seed: int, missing: float) -> None:
    problem = crossing(missing=missing)
    noisy = problem.with_label_noise({"size": share}, seed=seed)
    before, after = _targets(problem)["size"], _targets(noisy)["size"]
    known = labelled(before)
    assert torch.equal(labelled(after), known), "a row without a label got one"
    assert torch.equal(after[known].sort().values, before[known].sort().values), "a label was made or lost"
    changed = int((after[known] != before[known]).sum())
    count = round(share * int(known.sum()))
    assert changed <= count
    assert changed >= count - 8, "a permutation leaves about one in place, P(more than 8) < 1e-5"
    for other in ("kind", "rare"):
        assert _targets(noisy)[other] is _targets(problem)[other]
    assert noisy.train.shared.inputs is problem.train.shared.inputs
    assert noisy.validation is problem.validation
    assert noisy.test is problem.test
    assert noisy.model is problem.model


def test_the_noise_is_of_its_seed_and_task_and_says_nothing_of_the_rows() -> None:
    x, y = made_data(4000, seed=0)
    y["size"] = x[:, 0].clone()
    y["twin"] = x[:, 0].clone()
    tasks = [*TASKS, mv.Task("twin", loss=F.mse_loss, metric="rmse", outputs=1)]
    problem = mv.Problem(tasks=tasks, trunk=nn.Linear(6, 4), train=(x, y))
    one, same, other = (problem.with_label_noise({"size": 1.0, "twin": 1.0}, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(_targets(one)["size"], _targets(same)["size"])
    assert not torch.equal(_targets(one)["size"], _targets(other)["size"])
    assert not torch.equal(_targets(one)["size"], _targets(one)["twin"]), "each task's draw is its own"
    correlation = torch.corrcoef(torch.stack([_targets(one)["size"], x[:, 0]]))[0, 1]
    assert abs(correlation) < 0.06, "four standard deviations of 4000 rows"
    half = problem.with_label_noise({"size": 0.5})
    assert torch.corrcoef(torch.stack([_targets(half)["size"], x[:, 0]]))[0, 1] == pytest.approx(0.5, abs=0.06)


class _Items(Dataset):
    def __init__(self, count: int, *, shared: bool) -> None:
        self.x, self.y = made_data(count, seed=0)
        self.shared = shared

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], ({t: y[index] for t, y in self.y.items()} if self.shared else self.y["size"][index])


@pytest.mark.parametrize("shared", [True, False])
def test_a_dataset_gives_the_labels_of_other_items(shared: bool) -> None:
    data: Any = _Items(40, shared=shared) if shared else {"size": _Items(40, shared=False)}
    problem = mv.Problem(tasks=TASKS if shared else TASKS[1:2], trunk=nn.Linear(6, 4), train=data)
    noisy = problem.with_label_noise({"size": 0.5}, seed=3)
    before, after = (next(p.train.chunks(40)) for p in (problem, noisy))
    assert torch.equal(before.inputs, after.inputs)
    assert torch.equal(before.targets["size"].sort().values, after.targets["size"].sort().values)
    assert 12 <= int((before.targets["size"] != after.targets["size"]).sum()) <= 20
    if shared:
        assert torch.equal(before.targets["kind"], after.targets["kind"])
    for _ in mv.train(noisy, steps=2):
        pass


def test_the_log_knows_of_the_noise_and_soft_labels_are_made_of_it() -> None:
    problem = crossing().with_label_noise({"size": 0.25}, seed=4).with_label_noise({"rare": 0.5})
    noise = {"size": {"share": 0.25, "seed": 4}, "rare": {"share": 0.5, "seed": 0}}
    assert problem.run_info().config["label_noise"] == noise
    assert problem.of_tasks(["rare", "kind"]).run_info().config["label_noise"] == {"rare": noise["rare"]}
    assert "label_noise" not in crossing().run_info().config
    soft = problem.distilled({"size": torch.zeros(256)})
    assert torch.equal(_targets(soft)["rare"], _targets(problem)["rare"])


def _own() -> mv.Problem:
    x, y = made_data(20, seed=0)
    loader = DataLoader(torch.utils.data.TensorDataset(x, y["size"]), batch_size=4)
    return mv.Problem(tasks=TASKS[1:], trunk=nn.Linear(6, 4), train={"size": loader, "rare": (x, y["rare"])})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: crossing().with_label_noise({"sise": 0.2}), "label noise: unknown task 'sise'; did you mean 'size'"),
        (lambda: crossing().with_label_noise({"size": 20}), "of 'size' must be a share from 0 to 1, got 20"),
        (lambda: crossing().with_label_noise({"size": -0.1}), "must be a share from 0 to 1, got -0.1"),
        (lambda: crossing().with_label_noise({"size": float("nan")}), "must be a share from 0 to 1, got nan"),
        (lambda: crossing().with_label_noise({"size": True}), "must be a share from 0 to 1, got True"),
        (lambda: crossing().with_label_noise(0.2), r"must be \{task: share of its labels\}, got 0.2"),
        (
            lambda: crossing().with_label_noise({"size": 0.2}, seed=-1),
            "seed of label noise must be a whole number from 0",
        ),
        (lambda: crossing().with_label_noise({"size": 0.005}), "0.005 of 256 labelled rows are less than the two"),
        (lambda: _own().with_label_noise({"size": 0.5}), "the data of task 'size' come from a DataLoader"),
        (
            lambda: crossing().with_label_noise({"size": 0.5}).with_label_noise({"size": 0.5}),
            "the labels of 'size' are noisy already",
        ),
        (
            lambda: crossing().distilled({"size": torch.zeros(256)}).with_label_noise({"rare": 0.5}),
            "make the true ones noisy first",
        ),
    ],
)
def test_noise_that_cannot_be_made_is_told(act: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        act()


def test_no_noise_changes_nothing() -> None:
    problem = crossing(missing=0.5)
    clean = problem.with_label_noise({"size": 0.0})
    assert torch.equal(_targets(clean)["size"].nan_to_num(9), _targets(problem)["size"].nan_to_num(9))
    assert len(_own().with_label_noise({"rare": 0.5}).train.by_task) == 2
