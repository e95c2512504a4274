"""TorchJD's weightings, aggregators and scalarizers in train(), and mtlviz's weightings in TorchJD."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
import torchjd
from torch import nn
from torchjd import aggregation, scalarization
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import PSDMatrix

import mtlviz as mv
from mtlviz.data.sampler import BatchSampler
from mtlviz.errors import WeightingError
from mtlviz.interop.torchjd import as_torchjd
from mtlviz.randomness import derived_seed
from mtlviz.runlog.records import Step
from tests.problems import TASKS, crossing

STILL = functools.partial(torch.optim.SGD, lr=0.0)  # the parameters stay, so that gradients can be had from outside


def steps_of(weighting: Any, steps: int = 4, problem: mv.Problem | None = None, **options: Any) -> list[Step]:
    """The steps of a training by this weighting."""
    records = mv.train(problem or crossing(), weighting=weighting, steps=steps, **({"optimizer": STILL} | options))
    return [record for record in records if isinstance(record, Step)]


def jacobian(seed: int, position: int, batch_size: int = 64) -> torch.Tensor:
    """(T, P) of the problem's own parameters, by plain backward passes."""
    problem = crossing()
    batch = BatchSampler(problem.train, batch_size=batch_size, seed=seed).batch(position)
    shared = [p for p in problem.model.trunk.parameters() if p.requires_grad]
    rows = []
    for task in TASKS:
        loss = task.value(problem.model.head(task.name)(problem.model.trunk(batch.inputs)), batch.targets[task.name])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared)]))
    return torch.stack(rows)


GRAMIAN = [
    aggregation.MGDAWeighting(),
    aggregation.UPGradWeighting(),
    aggregation.IMTLGWeighting(),
    aggregation.AlignedMTLWeighting(),
    aggregation.CRMOGMWeighting(aggregation.DualProjWeighting(), alpha=0.5),
]


@pytest.mark.parametrize("weighting", GRAMIAN, ids=lambda w: type(w).__name__)
def test_gramian_weightings_are_given_the_gramian(weighting: Any) -> None:
    for step in steps_of(weighting):
        np.testing.assert_allclose(step.weights, weighting(torch.from_numpy(step.gramian)).numpy(), rtol=1e-10)


MATRIX = [
    aggregation.ExcessMTLWeighting(robust_step_size=0.1),
    aggregation.MeanWeighting(),
    aggregation.ConstantWeighting(torch.tensor([1.0, 2.0, 3.0])),
    aggregation.CRMOGMWeighting(aggregation.ExcessMTLWeighting(), alpha=0.5),
    aggregation.UPGrad().weighting,  # a composition, weighting << Gramian
]


@pytest.mark.parametrize("weighting", MATRIX, ids=lambda w: type(w).__name__)
def test_matrix_weightings_are_given_the_jacobian(weighting: Any) -> None:
    for position, step in enumerate(steps_of(weighting), start=1):
        expected = weighting(jacobian(0, position))
        np.testing.assert_allclose(step.weights, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_excess_mtl_would_take_a_square_gramian_for_a_jacobian_without_a_word() -> None:
    silent, own = aggregation.ExcessMTLWeighting(), [s.weights for s in steps_of(aggregation.ExcessMTLWeighting())]
    misled = [silent(torch.from_numpy(s.gramian)).numpy() for s in steps_of("equal")]
    assert np.abs(np.array(misled) - np.array(own)).max() > 0.01


@pytest.mark.parametrize(
    "make", [lambda: aggregation.MoDoWeighting(gamma=0.3), aggregation.SDMGradWeighting], ids=["MoDo", "SDMGrad"]
)
def test_weightings_of_two_batches_get_the_crossed_gramian(make: Any) -> None:
    outside, misled = make(), make()
    further = [derived_seed(derived_seed(0, 4), draw) for draw in range(2)]
    for position, step in enumerate(steps_of(make()), start=1):
        one, two = (jacobian(seed, position).double() for seed in further)
        crossed = one @ two.T
        np.testing.assert_allclose(step.weights, outside(crossed.float()).numpy(), rtol=1e-3, atol=1e-5)
        wrong = misled(torch.from_numpy(step.gramian)).numpy()
    assert np.abs(wrong - step.weights).max() > 1e-3


def test_an_aggregator_moves_the_trunk_as_its_weighting_does_and_leaves_the_heads_their_own_losses() -> None:
    make = functools.partial(torch.optim.SGD, lr=0.1)
    trunks, heads = [], []
    for weighting in (aggregation.MGDA(), aggregation.MGDAWeighting()):
        training = mv.train(crossing(), weighting=weighting, steps=1, optimizer=make)
        before = [p.detach().clone() for p in training.model.head_parameters("kind")]
        (step,) = [r for r in training if isinstance(r, Step)]
        trunks.append(torch.cat([p.detach().flatten() for p in training.updater.gradients.parameters]))
        heads.append([old - new for old, new in zip(before, training.model.head_parameters("kind"), strict=True)])
    torch.testing.assert_close(*trunks, rtol=1e-3, atol=1e-5)
    for of_sum, weighted in zip(*heads, strict=True):
        torch.testing.assert_close(of_sum * step.weights[0], weighted, rtol=1e-3, atol=1e-6)


def test_an_aggregator_without_weights_gives_its_own_direction() -> None:
    training = mv.train(
        crossing(), weighting=aggregation.ConFIG(), steps=1, optimizer=functools.partial(torch.optim.SGD, lr=1.0)
    )
    before = torch.cat([p.detach().flatten().clone() for p in training.updater.gradients.parameters])
    (step,) = [r for r in training if isinstance(r, Step)]
    after = torch.cat([p.detach().flatten() for p in training.updater.gradients.parameters])
    direction = aggregation.ConFIG()(jacobian(0, 1))
    torch.testing.assert_close(before - after, direction, rtol=1e-3, atol=1e-5)
    fitted = torch.from_numpy(step.weights).float() @ jacobian(0, 1)  # ConFIG stays in the span of the gradients
    torch.testing.assert_close(fitted, direction, rtol=1e-3, atol=1e-4)


def test_random_aggregators_depend_on_the_seed_of_the_run_alone() -> None:
    runs = [[s.weights.tolist() for s in steps_of(aggregation.PCGrad(), seed=seed)] for seed in (3, 3)]
    torch.manual_seed(99)
    random = [[s.weights.tolist() for s in steps_of(aggregation.Random(), seed=seed)] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert random[0] == random[1] != random[2]
    assert random[0][0] != random[0][1]


SCALARIZERS = [
    (scalarization.GeometricMean(), lambda L: np.prod(L) ** (1 / 3) / (3 * L)),
    (scalarization.Sum(), lambda L: np.ones(3)),
    (scalarization.STCH(mu=0.5), lambda L: np.exp(L / 3 / 0.5) / np.exp(L / 3 / 0.5).sum() / 3),
]


@pytest.mark.parametrize(("scalarizer", "weights"), SCALARIZERS, ids=lambda s: type(s).__name__)
def test_a_scalarizers_weights_are_its_gradient(scalarizer: Any, weights: Any) -> None:
    for step in steps_of(scalarizer):
        np.testing.assert_allclose(step.weights, weights(step.losses), rtol=1e-4)


def test_the_runs_optimizer_learns_a_scalarizers_parameters() -> None:
    scalarizer, s = scalarization.UW(3), np.zeros(3)
    for step in steps_of(scalarizer, steps=20, optimizer=functools.partial(torch.optim.SGD, lr=0.05)):
        np.testing.assert_allclose(step.weights, 0.5 * np.exp(-s), rtol=1e-4)
        s -= 0.05 * (0.5 - 0.5 * np.exp(-s) * step.losses)
    assert not scalarizer.log_var.any()  # the user's own object was copied


def test_famo_sees_the_losses_after_the_step() -> None:
    moving, still = (steps_of(scalarization.FAMO(3), steps=6, optimizer=make) for make in (None, STILL))
    assert np.ptp([s.weights * s.losses / (s.weights * s.losses).sum() for s in still], axis=0).max() < 1e-6
    z = np.array([s.weights * s.losses / (s.weights * s.losses).sum() for s in moving])
    np.testing.assert_allclose(z[0], 1 / 3, rtol=1e-5)
    assert np.abs(z[-1] - 1 / 3).max() > 1e-3


def test_dwa_counts_epochs() -> None:
    losses = steps_of(scalarization.DWA(), steps=13, batch_size=64)  # 256 samples: 4 steps an epoch
    first, second = (np.mean([s.losses for s in losses[k : k + 4]], axis=0) for k in (0, 4))
    e = np.exp(second / first / 2)
    for step in losses[:8]:
        np.testing.assert_allclose(step.weights, 1)
    np.testing.assert_allclose(losses[8].weights, 3 * e / e.sum(), rtol=1e-4)


def test_absent_tasks() -> None:
    problem = crossing(missing=0.9)
    for step in steps_of(aggregation.MGDA(), steps=8, problem=problem, batch_size=3):
        absent = np.isnan(step.losses)
        assert (step.weights[absent] == 0).all()
        assert step.weights.sum() == pytest.approx(0 if absent.all() else 1, abs=1e-5)
    with pytest.raises(WeightingError, match=r"torchjd.GradVac keeps a state per task.*at step"):
        steps_of(aggregation.GradVac(), steps=8, problem=problem, batch_size=3)


PER_TASK = [
    aggregation.ConstantWeighting(torch.ones(3)),
    aggregation.UPGradWeighting(pref_vector=torch.ones(3)),
    aggregation.GradDrop(leak=torch.zeros(3)),
    scalarization.STCH(mu=1.0, weights=torch.ones(3)),
]


@pytest.mark.parametrize("given", PER_TASK, ids=lambda w: type(w).__name__)
def test_numbers_per_task_need_every_task_and_say_so(given: Any) -> None:
    assert len(steps_of(given)) == 4
    with pytest.raises(WeightingError, match=r"torchjd\..* failed on .*A task is absent from this batch.*at step"):
        steps_of(given, steps=8, problem=crossing(missing=0.9), batch_size=3)


def test_a_preference_in_float32_meets_a_gramian_in_float64() -> None:
    weighting = aggregation.AlignedMTLWeighting(pref_vector=torch.tensor([1.0, 2.0, 3.0]))
    assert np.isfinite([step.weights for step in steps_of(weighting)]).all()
    assert weighting.pref_vector.dtype == torch.float32  # the user's own is as it was


def test_what_the_log_says_of_it(tmp_path: Any) -> None:
    training = mv.train(crossing(), weighting=aggregation.CAGrad(c=0.3), steps=2)
    config = mv.RunLog.create(tmp_path / "run", training).info.config
    assert config["weighting"] == "torchjd.CAGrad"
    assert "c=0.3" in config["weighting_settings"]["torchjd"]


class Unclear(torchjd.aggregation.Weighting):
    def forward(self, stat: torch.Tensor, /) -> torch.Tensor:
        return torch.ones(len(stat))


class Plain(torchjd.aggregation.Weighting[PSDMatrix]):
    def forward(self, stat: torch.Tensor, /) -> torch.Tensor:
        return stat.diagonal() ** -0.5


def test_a_weighting_of_ones_own_says_what_it_reads() -> None:
    for step in steps_of(Plain()):
        np.testing.assert_allclose(step.weights, np.diag(step.gramian) ** -0.5)
    with pytest.raises(WeightingError, match="nobody can tell whether Unclear reads a Gramian or a Jacobian"):
        steps_of(Unclear())


@pytest.mark.parametrize("name", ["mgda", "upgrad", "nash_mtl", "imtl_g"])
def test_a_weighting_of_ours_in_torchjds_own_loop(name: str) -> None:
    problem = crossing()
    aggregator = aggregation.GramianWeightedAggregator(as_torchjd(mv.weighting.named(name)))
    batch = BatchSampler(problem.train, batch_size=64, seed=0).batch(1)
    trunk, heads = problem.model.trunk, problem.model.head
    z = trunk(batch.inputs)
    losses = [t.value(heads(t.name)(z), batch.targets[t.name]) for t in TASKS]
    mtl_backward(losses, features=z)
    shared = [p for p in trunk.parameters() if p.requires_grad]
    jac_to_grad(shared, aggregator)
    theirs = torch.cat([p.grad.flatten() for p in shared])
    ours = torch.from_numpy(steps_of(name, steps=1)[0].weights).float() @ jacobian(0, 1)
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)


def test_a_loss_weighting_of_ours_is_a_scalarizer() -> None:
    scalarizer = as_torchjd(mv.weighting.GLS())
    losses = torch.tensor([2.0, 0.5, 1.0], requires_grad=True)
    scalarizer(losses).backward()
    np.testing.assert_allclose(losses.grad.numpy(), 1 / (3 * losses.detach().numpy()), rtol=1e-5)


def test_state_and_dtype_of_a_weighting_of_ours() -> None:
    scalarizer = as_torchjd(mv.weighting.UncertaintyWeighting(lr=0.5))
    losses = torch.tensor([4.0, 0.1])
    first, second = scalarizer(losses), scalarizer(losses)
    assert first != second
    scalarizer.reset()
    assert scalarizer(losses) == first
    weights = as_torchjd(mv.weighting.MGDA())(torch.eye(3, dtype=torch.float32))
    assert weights.dtype == torch.float32
    assert isinstance(as_torchjd(mv.weighting.MGDA()), nn.Module)


def test_a_state_dict_of_torch_has_the_state_of_ours(tmp_path: Any) -> None:
    losses = torch.tensor([4.0, 0.1])
    one, two = (as_torchjd(mv.weighting.UncertaintyWeighting(lr=0.5)) for _ in range(2))
    for _ in range(3):
        one(losses)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert one(losses) == two(losses)


@pytest.mark.parametrize(
    "name", ["mgda", "upgrad", "dualproj", "cagrad", "imtl_g", "aligned_mtl", "nash_mtl", "pcgrad"]
)
def test_a_gramian_in_float32_gives_the_direction_of_one_in_float64(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        j = torch.randn(2, 40, generator=generator)
        j = torch.stack([j[0], j[1], 0.3 * j[0]])  # dependent: float32 shows a third direction
        ours = as_torchjd(mv.weighting.named(name))
        one = ours(j @ j.T).double() @ j.double()
        ours.reset()
        two = ours(j.double() @ j.double().T) @ j.double()
        assert float((one - two).norm()) < 1e-3 * float(two.norm())


def test_random_methods_of_ours_take_a_seed() -> None:
    losses = torch.tensor([4.0, 0.1, 2.0])
    values = [as_torchjd("rlw", seed=seed)(losses) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_what_cannot_be_given_to_torchjd() -> None:
    with pytest.raises(WeightingError, match="emtl needs gramian and losses"):
        as_torchjd(mv.weighting.EMTL())
    with pytest.raises(WeightingError, match="needs a Weighting of mtlviz or its name, got 3"):
        as_torchjd(3)
    with pytest.raises(WeightingError, match="graddrop gives a direction and no weights"):
        as_torchjd("graddrop")
    with pytest.raises(WeightingError, match=r"mgda needs a Gramian \(T, T\), got \(3, 10\)"):
        as_torchjd("mgda")(torch.ones(3, 10))
