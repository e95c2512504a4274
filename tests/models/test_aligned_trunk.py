"""Alignment R_i per task below the trunk: the function at first, its gradients against plain autograd, its refusals."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data.splits import Batch
from mtlviz.errors import ProblemError, WeightingError
from mtlviz.gradients import SharedGradients
from mtlviz.models import AlignedTrunk, SharedTrunk, aligned
from mtlviz.models.listing_trunk import ListingTrunk
from mtlviz.randomness import seeded
from mtlviz.training.checkpoints import InMemory
from mtlviz.training.distillation import soft_labels
from mtlviz.training.evaluation import evaluation
from tests.problems import TASKS, crossing

CPU = torch.device("cpu")
BELOW = {"": 6, "0": 4}  # the module whose output is turned, and d


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh()).double()


@st.composite
def situations(draw: st.DrawFn) -> tuple[AlignedTrunk, Batch]:
    """An aligned model whose R_i are no identity, and a batch of shared rows or of rows of each task's own."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    plain = SharedTrunk(_mlp(), {task.name: nn.Linear(5, task.outputs).double() for task in TASKS})
    tasks = draw(st.sampled_from([("kind",), ("size", "rare"), ("kind", "size", "rare")]))
    x = torch.randn(8, 6, dtype=torch.float64)
    model = aligned(plain, x, tasks=tasks, after=draw(st.sampled_from([None, "0"])))
    for shift in model.shifts:
        nn.init.normal_(shift, std=0.3)
    y = {"kind": torch.randint(0, 3, (8,)), "size": torch.randn(8).double(), "rare": torch.randint(0, 2, (8,)).double()}
    if draw(st.booleans()):
        rows: dict[str, torch.Tensor | slice] = {"kind": slice(0, 3), "size": slice(3, 5), "rare": slice(5, 8)}
    else:
        some: list[Any] = [slice(0, 8), torch.tensor([1, 4, 6])]
        rows = {task.name: draw(st.sampled_from(some)) for task in TASKS}
    if draw(st.booleans()):
        del rows[draw(st.sampled_from([task.name for task in TASKS]))]
    return model, Batch(x, rows, {name: y[name][r] for name, r in rows.items()})


def _loss(model: AlignedTrunk, task: mv.Task, batch: Batch) -> torch.Tensor:
    """The loss as algorithm 1 writes it: the task's own rows, by themselves, times R_i."""
    own = batch.inputs[batch.rows[task.name]]
    below, above = (model.trunk[:1], model.trunk[1:]) if model.after else (nn.Identity(), model.trunk)
    e = below(own)
    if task.name in model.aligned:
        (shift,) = model.alignment_parameters(task.name)
        e = e @ (torch.eye(len(shift)).to(shift) + shift)
    return task.value(model.head(task.name)(above(e)), batch.targets[task.name])


@settings(max_examples=40, deadline=None)
@given(situations())
def test_jacobian_and_gradients_of_every_r_are_those_of_plain_autograd(situation: tuple[AlignedTrunk, Batch]) -> None:
    model, batch = situation
    engine = SharedGradients(model, TASKS)
    found = engine.of(batch)
    torch.testing.assert_close(engine.losses(batch).nan_to_num(), found.losses)
    for number, task in enumerate(TASKS):
        assert found.present[number] == (task.name in batch.rows)
        if not found.present[number]:
            assert not found.jacobian[number].any()
            continue
        own = [*model.alignment_parameters(task.name), *model.head_parameters(task.name)]
        loss = _loss(model, task, batch)
        grads = torch.autograd.grad(loss, [*engine.parameters, *own])
        shared = torch.cat([grad.flatten() for grad in grads[: len(engine.parameters)]])
        torch.testing.assert_close(found.losses[number], loss.detach())
        torch.testing.assert_close(found.jacobian[number], shared, rtol=1e-10, atol=1e-12)
        for parameter, grad in zip(own, grads[len(engine.parameters) :], strict=True):
            owner, ours = found.heads[parameter]
            assert owner == number
            torch.testing.assert_close(ours, grad, rtol=1e-10, atol=1e-12)
    tasks = [task.name for task, here in zip(TASKS, found.present, strict=True) if here]
    assert len(found.heads) == sum(2 + len(model.alignment_parameters(task)) for task in tasks)


@settings(max_examples=20, deadline=None)
@given(situations(), st.sampled_from(["sum", "weighted"]))
def test_grad_is_that_of_the_weighted_loss(situation: tuple[AlignedTrunk, Batch], heads: str) -> None:
    model, batch = situation
    plain, weights = copy.deepcopy(model), [0.5, 2.0, 1.5]
    engine = SharedGradients(model, TASKS)
    engine.set_grad(engine.of(batch), torch.tensor(weights, dtype=torch.float64), heads=heads)
    losses = [(w, _loss(plain, task, batch)) for w, task in zip(weights, TASKS, strict=True) if task.name in batch.rows]
    sum(w * loss for w, loss in losses).backward(retain_graph=True)
    if heads == "sum":
        own = [p for task in TASKS for p in (*plain.head_parameters(task.name), *plain.alignment_parameters(task.name))]
        for p in own:
            p.grad = None
        sum(loss for _, loss in losses).backward(inputs=own)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)


def _listings() -> mv.Problem:
    with seeded(0):
        trunk = ListingTrunk(buckets=64, width=4, hidden=8, features=5, dropped=0.0)
    tasks = [
        mv.Task(name, loss=F.binary_cross_entropy_with_logits, metric="accuracy", outputs=1, direction="max")
        for name in ("a", "b", "c")
    ]
    generator = torch.Generator().manual_seed(1)
    data = {
        task.name: (
            torch.randint(0, 64, (20, 3, 7), generator=generator).short(),
            torch.randint(0, 2, (20,), generator=generator).float(),
        )
        for task in tasks
    }
    return mv.Problem(tasks=tasks, trunk=trunk, train=data, validation=data)


def _problems() -> dict[str, tuple[mv.Problem, dict[str, Any], int]]:
    digits = mv.data.digits(seed=0, pairs={"train": 60, "validation": 50, "test": 50})
    return {
        "mlp on its inputs": (crossing(missing=0.3), {}, 6),
        "mlp after a layer": (crossing(), {"after": "inward"}, 8),
        "one task alone": (crossing(missing=0.3), {"tasks": ["size"]}, 6),
        "bags of listings": (_listings(), {"after": "bag"}, 4),
        "two of three listings": (_listings(), {"after": "bag", "tasks": ["a", "c"]}, 4),
        "pictures": (digits, {}, 12 * 16),
        "flattened maps": (digits, {"after": "flatten", "tasks": ["left"]}, 32 * 3 * 4),
        "by its place": (
            mv.Problem(tasks=TASKS[:1], trunk=nn.Sequential(nn.Linear(6, 4)), train=_kind()),
            {"after": 0},
            4,
        ),
    }


def _kind() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    return x, {"kind": x[:, :3].argmax(1)}


@pytest.mark.parametrize("which", _problems())
def test_at_first_it_is_the_function_that_it_was(which: str) -> None:
    problem, chosen, d = _problems()[which]
    turned = problem.aligned(**chosen)
    assert isinstance(turned.model, AlignedTrunk)
    assert {tuple(shift.shape) for shift in turned.model.shifts} == {(d, d)}
    assert torch.equal(turned.model.alignment(turned.model.aligned[0]), torch.eye(d))
    assert turned.model.layers() == problem.model.layers(), "what is shared changed"
    batch = next(problem.train.chunks())
    with torch.no_grad():
        before, after = problem.model.eval()(batch.inputs), turned.model.eval()(batch.inputs)
    for task in before:
        torch.testing.assert_close(after[task], before[task], rtol=1e-6, atol=1e-6)
    old, new = SharedGradients(problem.model, problem.tasks), SharedGradients(turned.model, problem.tasks)
    jacobian = old.of(batch).jacobian.clone()
    torch.testing.assert_close(new.of(batch).jacobian, jacobian, rtol=1e-4, atol=1e-6)
    for task in turned.model.aligned:
        labels = [soft_labels(one.model, problem, task, device=CPU) for one in (problem, turned)]
        torch.testing.assert_close(labels[1], labels[0], rtol=1e-5, atol=1e-6, equal_nan=True)
    scores = [evaluation(one.model, one.tasks, one.train, CPU, step=0) for one in (problem, turned)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("problem", "chosen", "passed"),
    [(_listings(), {"after": "bag"}, 60), (crossing(), {}, 3 * 256), (crossing(), {"tasks": ["size"]}, 2 * 256)],
)
def test_rows_of_each_tasks_own_pass_the_trunk_once_and_shared_ones_once_a_task(
    problem: mv.Problem, chosen: dict[str, Any], passed: int
) -> None:
    seen: list[int] = []
    turned = problem.aligned(**chosen)
    turned.model.trunk.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    parts = [(task, source.fetch(torch.arange(20))) for task, source in problem.train.by_task.items()]
    batch = problem.train.join(parts) if parts else next(problem.train.chunks())
    SharedGradients(turned.model, turned.tasks).of(batch)
    assert seen == [passed]


def test_a_task_trains_its_own_r_and_only_where_it_is_in_the_batch() -> None:
    x, y = crossing().train.shared.fetch(torch.arange(256))
    y = y | {"rare": torch.where(torch.arange(256) < 64, y["rare"], torch.nan)}
    problem = crossing(train=(x, y)).aligned(tasks=["kind", "rare"])
    training = mv.train(problem, steps=4, batch_size=8, seed=1, optimizer=partial(torch.optim.SGD, lr=0.1))
    before = {task: training.model.alignment(task) for task in training.model.aligned}
    for record in training:
        if isinstance(record, mv.runlog.Step):
            now = {task: training.model.alignment(task) for task in before}
            for task, count in zip(("kind", "rare"), record.samples[[0, 2]], strict=True):
                assert torch.equal(now[task], before[task]) == (count == 0)
            before = now


def test_an_aligned_run_goes_on_bit_for_bit_from_a_checkpoint() -> None:
    problem = crossing().aligned(after="inward")
    assert problem.run_info().config["aligned"] == {"tasks": ["kind", "size", "rare"], "after": "inward"}
    whole, again = (mv.train(problem, steps=30, validate_every=10, seed=3) for _ in range(2))
    whole.checkpoints = again.checkpoints = InMemory()
    for _ in whole:
        if whole.step == 21:
            state = whole.checkpoints.load(20)
    again.load_state_dict(state)
    for _ in again:
        pass
    assert again.step == whole.step == 30
    for (name, ours), (_, theirs) in zip(again.model.named_parameters(), whole.model.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert any(not torch.equal(whole.model.alignment(task), torch.eye(8)) for task in whole.model.aligned)


def test_the_best_model_of_a_run_has_every_r_and_a_problem_may_start_from_it(tmp_path: Any) -> None:
    problem, quick = crossing().aligned(), partial(torch.optim.Adam, lr=0.02)
    mv.start(problem, log=tmp_path / "run", steps=20, validate_every=10, optimizer=quick).wait()
    best = mv.training.best_model(tmp_path / "run", problem, "kind")
    assert all(not torch.equal(best.alignment(task), torch.eye(6)) for task in best.aligned)
    x = next(problem.validation.chunks()).inputs
    torch.testing.assert_close(problem.starting_from(best).model.eval()(x), best(x))


def test_only_the_target_is_aligned_in_fine_tuning() -> None:
    """The transfer version of algorithm 1: the source's trunk, and the target's own head and R."""
    problem = crossing()
    source = mv.train(problem.of_tasks(["kind"]), steps=20)
    for _ in source:
        pass
    tuned = problem.of_tasks(["size"]).starting_from(source.model).aligned()
    x = next(problem.validation.chunks()).inputs
    for old, new in zip(source.model.trunk.parameters(), tuned.model.trunk.parameters(), strict=True):
        assert torch.equal(old, new)
        assert old is not new
    assert tuned.model.head("size") is problem.model.head("size")
    z = source.model.eval().represent(x)
    torch.testing.assert_close(tuned.model.eval()(x), {"size": problem.model.head("size")(z)})
    training = mv.train(tuned, steps=3)
    for _ in training:
        pass
    assert not torch.equal(training.model.alignment("size"), torch.eye(6))


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.memory = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.memory(self.layer(self.layer(x))[:, None])[0][:, 0]


def _of(trunk: nn.Module) -> mv.Problem:
    return mv.Problem(tasks=TASKS[:1], trunk=trunk, train=_kind())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: crossing().aligned(tasks=["sise"]), "unknown task 'sise'; did you mean 'size'"),
        (lambda: crossing().aligned(tasks=[]), "at least one task, of kind, size, rare; got none"),
        (lambda: crossing().aligned(after="midle"), "trunk Crossing: unknown module 'midle'; did you mean 'middle'"),
        (lambda: _of(nn.Linear(6, 4)).aligned(after="0"), "in the trunk Linear: there is no module '0'"),
        (lambda: crossing().aligned().aligned(), "kind, size, rare of this model are aligned already"),
        (lambda: _listings().aligned(), r"turns floats, and the inputs came as \(1, 3, 7\) int16; say after="),
        (lambda: _of(_Twice()).aligned(after="layer"), "'layer' ran 2 times"),
        (lambda: _of(_Twice()).aligned(after="memory"), "the output of 'memory' came as a tuple"),
        (
            lambda: mv.data.digits(pairs={"train": 60}).aligned(after="conv1"),
            r"features \(B, d\) or \(B, L, d\), and the output of 'conv1' came as \(1, 16, 6, 8\) float32 for 1 rows",
        ),
        (lambda: crossing().aligned().model.alignment("sum"), "unknown aligned task 'sum'"),
        (lambda: crossing().starting_from(nn.Linear(6, 4)), "needs the model of a run, a SharedTrunk; got Linear"),
        (lambda: crossing().aligned().starting_from(crossing().model), "start from the model first, then align"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_is_told(act: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        act()


def test_a_method_that_needs_one_representation_refuses_several() -> None:
    with pytest.raises(WeightingError, match="mgda_ub needs one representation that all tasks share, but an aligned"):
        mv.train(crossing().aligned(), weighting="mgda_ub", steps=1)


def _rotated(seed: int) -> mv.Problem:
    """Two tasks that are one task, but for a rotation of the inputs, on a trunk of one feature."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=8)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    data: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}
    for split, task in ((s, t) for s in data for t in ("upright", "turned")):
        x = rng.normal(size=(400, 8))
        y = torch.tensor(x @ theta + 0.1 * rng.normal(size=400)).float()
        data[split][task] = (torch.tensor(x @ turn if task == "turned" else x).float(), y)
    tasks = [mv.Task(name, loss=F.mse_loss, metric="rmse", outputs=1) for name in data["train"]]
    with seeded(seed):
        return mv.Problem(tasks=tasks, trunk=nn.Linear(8, 1), seed=seed, **data)


def test_alignment_saves_tasks_that_are_equal_but_for_a_rotation() -> None:
    reached: dict[bool, float] = {}
    for turn in (False, True):
        problem = _rotated(0).aligned() if turn else _rotated(0)
        training = mv.train(problem, steps=300, optimizer=partial(torch.optim.Adam, lr=0.02), layers_every=0)
        for _ in training:
            pass
        reached[turn] = max(evaluation(training.model, problem.tasks, problem.validation, CPU, step=0).values())
    assert reached[True] < 0.2, "noise is 0.1"
    assert reached[False] > 5 * reached[True], "a trunk of one feature cannot do both"
