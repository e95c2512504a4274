"""The inputs of a problem's tasks: the labelled rows and no others, raw or through a module, as often as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mtlviz as mv
from mtlviz.errors import ProblemError, TransferError
from tests.problems import TASKS, Crossing, crossing, made_data


def whole(inputs) -> np.ndarray:
    return np.concatenate(list(inputs))


def test_a_tasks_inputs_are_the_rows_that_it_labels_as_often_as_asked() -> None:
    problem = crossing(missing=0.4)
    x, targets = problem.train.shared.inputs.numpy(), problem.train.shared.targets
    inputs = mv.data.task_inputs(problem)
    assert list(inputs) == ["kind", "size", "rare"]
    for task, y in targets.items():
        known = (~torch.isnan(y) if y.is_floating_point() else y != -100).numpy()
        assert 0 < known.sum() < len(x)
        for _ in range(2):
            np.testing.assert_array_equal(whole(inputs[task]), x[known])
    np.testing.assert_array_equal(
        whole(mv.data.task_inputs(problem, "test")["kind"]), problem.test.shared.inputs.numpy()
    )


def test_pictures_are_flattened_and_read_in_parts() -> None:
    problem = mv.data.digits(seed=0, pairs={"train": 1100, "validation": 50, "test": 50})
    inputs = mv.data.task_inputs(problem)["left"]
    assert [batch.shape for batch in inputs] == [(1024, 192), (76, 192)]
    scores = mv.analysis.covariance_scores(mv.data.task_inputs(problem, "validation"))
    assert scores["cosine"].to_numpy() == pytest.approx(1.0)  # all tasks label the same pictures there


def test_a_module_is_evaluated_without_dropout_and_left_as_it_was() -> None:
    problem = crossing(dropout=0.5)
    trunk = problem.model.trunk
    assert trunk.training
    trunk.norm.eval()
    modes = [module.training for module in trunk.modules()]
    (one, other) = (whole(mv.data.task_inputs(problem, embed=trunk)["size"]) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (256, 8)
    assert [module.training for module in trunk.modules()] == modes
    for batch in mv.data.task_inputs(problem, embed=trunk)["size"]:
        assert len(batch)
        assert trunk.training  # also between two batches
    first = whole(mv.data.task_inputs(problem, embed=trunk.inward)["size"])
    x = problem.train.shared.inputs
    np.testing.assert_allclose(first, (x @ trunk.inward.weight.T + trunk.inward.bias).detach().numpy(), rtol=1e-5)


def test_an_embedding_may_be_a_function_that_returns_a_tensor_or_an_array() -> None:
    problem = crossing()
    x = problem.train.shared.inputs.numpy()
    forms = {
        "tensor": lambda batch: batch[:, :2],
        "array": lambda batch: batch.numpy()[:, :2],
        "maps": lambda batch: batch[:, :2].reshape(-1, 1, 2),
        "graph": lambda batch: batch[:, :2] * torch.ones(2, requires_grad=True),
        "half": lambda batch: batch[:, :2].to(torch.bfloat16),
    }
    for form, embed in forms.items():
        features = whole(mv.data.task_inputs(problem, embed=embed)["kind"])
        np.testing.assert_allclose(features, x[:, :2], rtol=1e-2 if form == "half" else 0)
    single = whole(mv.data.task_inputs(problem, embed=lambda batch: batch[:, 0])["kind"])
    np.testing.assert_array_equal(single, x[:, :1])


def test_data_per_task_datasets_and_loaders() -> None:
    parts = {task.name: made_data(40 + i, seed=i) for i, task in enumerate(TASKS)}
    train = {name: (x, targets[name]) for name, (x, targets) in parts.items()}
    train["size"] = TensorDataset(*train["size"])
    train["rare"] = DataLoader(TensorDataset(*train["rare"]), batch_size=16)
    problem = mv.Problem(tasks=TASKS, trunk=Crossing(), train=train, validation={"kind": train["kind"]})
    inputs = mv.data.task_inputs(problem)
    for name, (x, _) in parts.items():
        np.testing.assert_array_equal(whole(inputs[name]), x.numpy())
    assert list(mv.data.task_inputs(problem, "validation")) == ["kind"]  # the others have no row in it
    assert [len(batch) for batch in inputs["rare"]] == [16, 16, 10]


def test_listings_have_ids_that_need_an_embedding() -> None:
    problem = mv.data.listings(scale=0.02)
    with pytest.raises(TransferError, match=r"its inputs are torch.int16.*embed=problem.model.trunk"):
        mv.analysis.covariance_scores(mv.data.task_inputs(problem))
    inputs = mv.data.task_inputs(problem, embed=problem.model.trunk)
    names = [task.name for task in problem.tasks]
    frame = mv.analysis.covariance_scores(inputs)
    assert frame["task_a"].cat.categories.tolist() == names
    features = whole(inputs[names[0]])
    assert features.shape == (problem.train.samples()[names[0]], 64)
    ids = next(iter(mv.data.task_inputs(problem, embed=torch.Tensor.float)[names[0]]))  # one may insist
    assert ids.ndim == 2


BAD = {
    "fewer rows": lambda batch: batch[1:],
    "a number": lambda batch: batch.sum(),
    "nothing": lambda batch: None,
    "a list": lambda batch: batch.tolist(),
}


@pytest.mark.parametrize("what", BAD)
def test_an_embedding_without_a_row_for_each_row_is_told_with_its_task(what: str) -> None:
    inputs = mv.data.task_inputs(crossing(), embed=BAD[what])
    with pytest.raises(TransferError, match=r"task 'size': embed returned .* for inputs \(256, 6\); it must return"):
        list(inputs["size"])


def test_an_embedding_that_fails_is_told_with_its_task() -> None:
    trunk = nn.Linear(3, 2).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as told:
        list(mv.data.task_inputs(crossing(), embed=trunk)["size"])
    assert told.value.__notes__ == ["raised by embed for task 'size', inputs (256, 6) torch.float32"]
    assert trunk.training


def test_what_is_no_problem_split_or_embedding_is_told() -> None:
    problem = crossing(test=None)
    with pytest.raises(ProblemError, match="needs a Problem, got dict"):
        mv.data.task_inputs({})
    with pytest.raises(ProblemError, match="unknown split 'tran'; did you mean 'train'"):
        mv.data.task_inputs(problem, "tran")
    with pytest.raises(ProblemError, match="the problem 'crossing' has no test data"):
        mv.data.task_inputs(problem, "test")
    with pytest.raises(ProblemError, match="embed must be a module or a function of tensors, got int"):
        mv.data.task_inputs(problem, embed=3)
