"""Soft labels and their losses: supervised where labels are one-hot, without gradient where outputs are the labels."""

from __future__ import annotations

import math
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data import BatchSampler
from mtlviz.errors import ProblemError
from mtlviz.models.shared_trunk import SharedTrunk, evaluating
from mtlviz.randomness import seeded
from tests.problems import Crossing

N, C = 24, 5
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
BCE = F.binary_cross_entropy_with_logits
MULTICLASS = {
    "function": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "partial": partial(F.cross_entropy),
    "partial of partial": partial(partial(F.cross_entropy, weight=WEIGHT), reduction="sum"),
    "weight": nn.CrossEntropyLoss(weight=WEIGHT),
    "smoothing": partial(F.cross_entropy, label_smoothing=0.2),
    "ignored": nn.CrossEntropyLoss(ignore_index=2, weight=WEIGHT),
    "sum": partial(F.cross_entropy, reduction="sum"),
}
SIGMOID = {
    "function": BCE,
    "module": nn.BCEWithLogitsLoss(),
    "pos_weight": partial(BCE, pos_weight=WEIGHT),
    "weight": nn.BCEWithLogitsLoss(weight=WEIGHT, pos_weight=torch.tensor(4.0)),
    "sum": nn.BCEWithLogitsLoss(reduction="sum"),
}
REGRESSION = {
    "mse": F.mse_loss,
    "mse module": nn.MSELoss(),
    "l1": F.l1_loss,
    "smooth": nn.SmoothL1Loss(beta=0.3),
    "huber": partial(F.huber_loss, delta=0.5),
    "own": lambda outputs, targets: ((outputs - targets) ** 4).mean(),
}


def _task(loss: Any, outputs: int = C, **own: Any) -> mv.Task:
    return mv.Task("t", loss=loss, metric="rmse", outputs=outputs, **own)


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _classes(*shape: int) -> torch.Tensor:
    return torch.randint(0, C, shape, generator=torch.Generator().manual_seed(1))


def _same(task: mv.Task, outputs: torch.Tensor, targets: torch.Tensor) -> None:
    """The soft loss of true targets in the soft form is the supervised loss, and so is its gradient."""
    outputs = outputs.clone().requires_grad_()
    soft = task.with_soft_loss()
    hard = task.hard_as_soft(targets, outputs)
    ours, theirs = soft.value(outputs, hard), task.value(outputs, targets)
    torch.testing.assert_close(ours, theirs)
    (g,), (h,) = torch.autograd.grad(ours, outputs), torch.autograd.grad(theirs, outputs)
    torch.testing.assert_close(g, h)
    assert h.norm() > 0


@pytest.mark.parametrize("name", MULTICLASS)
def test_one_hot_labels_have_the_supervised_loss(name: str) -> None:
    task = _task(MULTICLASS[name], scale=2.5)
    _same(task, 3 * _normal(N, C), _classes(N))
    _same(task, 3 * _normal(N, C, 2, 3), _classes(N, 2, 3))  # a class a pixel
    if name != "ignored":  # torch takes no probabilities where it ignores a class
        probabilities = torch.softmax(_normal(N, C, seed=5), dim=1)
        if name in ("function", "module", "partial", "sum", "smoothing"):
            _same(task, _normal(N, C), probabilities)  # true labels that are soft already


@pytest.mark.parametrize("name", SIGMOID)
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_zeros_and_ones_have_the_supervised_loss(name: str, kind: str) -> None:
    targets = (_normal(N, C, seed=3) > 0.5).float()
    _same(_task(SIGMOID[name], soft=kind, scale=0.5), 3 * _normal(N, C), targets)


@pytest.mark.parametrize("name", REGRESSION)
def test_scores_have_the_supervised_loss(name: str) -> None:
    task = _task(REGRESSION[name], soft="regression" if name == "own" else None)
    _same(task, _normal(N, C), _normal(N, C, seed=3))


def test_plain_soft_losses_are_those_of_torch() -> None:
    outputs, p = 3 * _normal(N, C), torch.softmax(_normal(N, C, seed=2), dim=1)
    torch.testing.assert_close(_task(F.cross_entropy).with_soft_loss().value(outputs, p), F.cross_entropy(outputs, p))
    torch.testing.assert_close(_task(BCE).with_soft_loss().value(outputs, p), BCE(outputs, p))
    torch.testing.assert_close(_task(F.mse_loss).with_soft_loss().value(outputs, p), F.mse_loss(outputs, p))


def test_soft_labels_are_probabilities_and_scores_without_a_graph() -> None:
    outputs = _normal(N, C).requires_grad_()
    for loss, expected in (
        (F.cross_entropy, outputs.exp() / outputs.exp().sum(dim=1, keepdim=True)),
        (BCE, 1 / (1 + (-outputs).exp())),
        (F.mse_loss, outputs),
    ):
        labels = _task(loss).soft_labels(outputs)
        torch.testing.assert_close(labels, expected.detach())
        assert not labels.requires_grad
        assert labels.data_ptr() != outputs.data_ptr()
    half = _task(F.cross_entropy).soft_labels(outputs.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.sum(dim=1), torch.ones(N))


@pytest.mark.parametrize("loss", [BCE, F.mse_loss])
def test_one_output_has_labels_of_one_dimension(loss: Any) -> None:
    task, outputs = _task(loss, outputs=1), _normal(N, 1)
    labels = task.soft_labels(outputs)
    assert labels.shape == (N,)
    targets = (_normal(N, seed=3) > 0).float()
    assert task.hard_as_soft(targets, outputs).shape == task.hard_as_soft(targets, labels).shape == (N,)
    assert task.with_soft_loss().value(outputs, labels).dim() == 0
    torch.testing.assert_close(task.with_soft_loss().value(outputs, targets), task.value(outputs, targets))


def test_places_without_a_label_are_left_out() -> None:
    outputs, p = _normal(N, C, 4), torch.softmax(_normal(N, C, 4, seed=2), dim=1)
    task = _task(F.cross_entropy).with_soft_loss()
    some = p.clone()
    some[:, :, 1:3] = torch.nan
    torch.testing.assert_close(task.value(outputs, some), task.value(outputs[:, :, [0, 3]], p[:, :, [0, 3]]))
    weighted = _task(MULTICLASS["weight"]).with_soft_loss()
    torch.testing.assert_close(weighted.value(outputs, some), weighted.value(outputs[:, :, [0, 3]], p[:, :, [0, 3]]))
    binary = _task(BCE).with_soft_loss()
    torch.testing.assert_close(binary.value(outputs, some), binary.value(outputs[:, :, [0, 3]], p[:, :, [0, 3]]))
    leaf = outputs.clone().requires_grad_()
    task.value(leaf, some).backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad[:, :, 1:3] == 0).all()


def test_true_labels_that_are_missing_stay_missing() -> None:
    targets = torch.tensor([0, -100, 2])
    hard = _task(nn.CrossEntropyLoss(ignore_index=2)).hard_as_soft(targets, torch.zeros(3, C))
    assert torch.equal(hard[0], torch.eye(C)[0])
    assert hard[1:].isnan().all()
    numbers = torch.tensor([0.5, torch.nan])
    torch.testing.assert_close(_task(F.mse_loss).hard_as_soft(numbers, numbers), numbers, equal_nan=True)
    tags = torch.tensor([[1, 0, -100]])
    hard = _task(lambda o, y: BCE(o, y.float()), soft="multilabel", outputs=3).hard_as_soft(tags, torch.zeros(1, 3))
    torch.testing.assert_close(hard, torch.tensor([[1.0, 0.0, torch.nan]]), equal_nan=True)


SWITCHED = [
    *[("multiclass", C, loss) for loss in MULTICLASS.values()],
    *[("multilabel", C, loss) for loss in SIGMOID.values()],
    *[("regression", C, loss) for name, loss in REGRESSION.items() if name != "l1"],
    ("binary", 1, BCE),
    ("binary", 1, partial(BCE, pos_weight=torch.tensor(5.0))),
    ("regression", 1, F.mse_loss),
]


@pytest.mark.parametrize(("kind", "outputs", "loss"), SWITCHED)
def test_a_distilled_task_has_no_gradient_right_after_the_switch(kind: str, outputs: int, loss: Any) -> None:
    shape = (N,) if kind == "multiclass" or outputs == 1 else (N, outputs)
    targets = _classes(N) if kind == "multiclass" else (_normal(*shape, seed=3) > 0).float()
    task = mv.Task("t", loss=loss, metric="rmse", outputs=outputs, soft=kind, scale=3)
    with seeded(0):
        trunk = Crossing(dropout=0.5)
    x = _normal(N, 6)
    problem = mv.Problem(tasks=[task], trunk=trunk, train=(x, {"t": targets}))
    with evaluating(problem.model):
        soft = task.soft_labels(problem.model(x)["t"])
    distilled = problem.distilled({"t": soft})
    problem.model.eval()
    for position in range(1, 6):  # batches of other rows than those that were predicted together
        norms = [_norm(p, problem.model, position) for p in (problem, distilled)]
        assert norms[0] > 1e-3
        assert norms[1] <= 1e-6 * norms[0]


def test_an_absolute_error_has_no_gradient_where_outputs_are_the_labels_to_the_last_bit() -> None:
    task, outputs = _task(F.l1_loss), _normal(N, C).requires_grad_()
    (g,) = torch.autograd.grad(task.with_soft_loss().value(outputs, task.soft_labels(outputs)), outputs)
    assert (g == 0).all()


def _norm(problem: mv.Problem, model: SharedTrunk, position: int) -> float:
    (task,) = problem.tasks
    batch = BatchSampler(problem.train, batch_size=7, seed=0).batch(position)
    loss = task.value(model(batch.inputs[batch.rows["t"]])["t"], batch.targets["t"])
    grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    return math.sqrt(sum(float(g.double().square().sum()) for g in grads))


def _focal(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    p = torch.softmax(outputs, dim=1).gather(1, targets[:, None])
    return -((1 - p) ** 2 * p.log()).mean()


def _tempered(outputs: torch.Tensor) -> torch.Tensor:
    return torch.softmax(outputs / 2, dim=1)


def _divergence(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.kl_div(torch.log_softmax(outputs / 2, dim=1), labels, reduction="batchmean")


def test_a_loss_of_ones_own_says_what_its_soft_labels_are() -> None:
    outputs = _normal(N, C)
    with pytest.raises(ProblemError, match="task 't': nobody knows the soft labels of _focal; say soft= one of multic"):
        _task(_focal).soft_labels(outputs)
    with pytest.raises(ProblemError, match="nobody knows"):
        _task(_focal).with_soft_loss()
    said = _task(_focal, soft="multiclass")
    p = said.soft_labels(outputs)
    torch.testing.assert_close(said.with_soft_loss().value(outputs, p), F.cross_entropy(outputs, p))
    own = _task(_focal, soft=mv.SoftLabels(_tempered, _divergence), scale=4)
    labels = own.soft_labels(outputs)
    torch.testing.assert_close(labels, torch.softmax(outputs / 2, dim=1))
    soft = own.with_soft_loss()
    assert float(soft.value(_normal(N, C, seed=8), labels)) == pytest.approx(
        4 * float(_divergence(_normal(N, C, seed=8), labels))
    )
    kept = _task(F.mse_loss, soft=mv.SoftLabels(torch.tanh))
    torch.testing.assert_close(kept.with_soft_loss().value(outputs, labels), F.mse_loss(outputs, labels))
    torch.testing.assert_close(kept.soft_labels(outputs), torch.tanh(outputs))


def test_a_task_with_a_soft_loss_is_the_same_task() -> None:
    task = _task(MULTICLASS["weight"], scale=2)
    soft = task.with_soft_loss()
    assert soft.with_soft_loss() is soft
    assert (soft.name, soft.scale, soft.loss_name, soft.judge) == (task.name, 2, "CrossEntropyLoss", task.judge)
    outputs = _normal(N, C)
    torch.testing.assert_close(soft.soft_labels(outputs), task.soft_labels(outputs))
    copied = pickle.loads(pickle.dumps(soft))
    p = task.soft_labels(outputs)
    assert copied.value(outputs, p) == soft.value(outputs, p)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda o: o.argmax(dim=1), "soft labels must be floats"),
        (lambda o: o[:3], "a row for each of 24"),
        (lambda o: None, "got NoneType"),
        (lambda o: torch.softmax(o, dim=7), "no soft labels of outputs"),
    ],
)
def test_labels_that_cannot_be_are_told(labels: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        _task(F.mse_loss, soft=mv.SoftLabels(labels)).soft_labels(_normal(N, C))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ProblemError, match=r"task 't': unknown soft labels 'multclass'; did you mean 'multiclass'\?"):
        _task(F.mse_loss, soft="multclass")
    with pytest.raises(ProblemError, match="unknown soft labels"):
        _task(F.mse_loss, soft=torch.softmax)
    task = _task(F.cross_entropy)
    with pytest.raises(ProblemError, match=r"soft labels \(24, 4\) do not fit outputs \(24, 5\)"):
        task.with_soft_loss().value(_normal(N, C), _normal(N, 4))
    with pytest.raises(ProblemError, match=r"true targets \(24, 2\) do not fit soft labels \(24, 5\)"):
        task.hard_as_soft(_classes(N, 2), _normal(N, C))
    with pytest.raises(ProblemError, match="task 't'"):
        task.hard_as_soft(torch.full((N,), C), _normal(N, C))  # there is no class C


def test_a_soft_loss_takes_true_classes_as_they_are() -> None:
    outputs, task = _normal(N, C), _task(MULTICLASS["smoothing"])
    assert task.with_soft_loss().value(outputs, _classes(N)) == task.value(outputs, _classes(N))
