"""Every method under a schedule: which tasks it holds, and what becomes of those that it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mtlviz as mv
from tests.problems import crossing
from tests.training.scheduling import NAMES, of, quick, recorded


@pytest.mark.parametrize("name", mv.weighting.METHODS)
def test_every_method_goes_through_and_holds_the_distilled(name: str) -> None:
    log = recorded(quick(mv.training.Joint(patience=1), weighting=name, steps=60))
    assert log.state == "finished"
    held = log.held
    for event in of(log, "distillation"):
        assert held[event.step :, NAMES.index(event.task)].all()
    assert held.any()
    assert any(rewind.detail["to"] < rewind.step for rewind in of(log, "rewind"))
    for numbers_ in (log.weights, log.losses, log.gramians):
        assert np.isfinite(numbers_).all()
    if name in ("graddrop", "adatask"):  # they see the gradients themselves, of every task: see the next test
        return
    some = held.any(axis=1) & ~held.all(axis=1)
    assert some.any()
    for weights, is_held in zip(log.weights[some], held[some], strict=True):
        np.testing.assert_allclose(weights[is_held], weights[~is_held].mean(), rtol=1e-12, atol=1e-300)


def entropy(task: str, soft: torch.Tensor) -> float:
    """The least loss that the soft labels of a batch allow."""
    if task == "size":
        return 0.0
    known = torch.xlogy(soft, soft) + (0 if task == "kind" else torch.xlogy(1 - soft, 1 - soft))
    return -float(known.sum() / len(soft))


@pytest.mark.parametrize("name", ["graddrop", "adatask"])
def test_methods_that_hold_nothing_keep_the_distilled_near_their_soft_labels(name: str) -> None:
    problem = crossing()
    training = quick(mv.training.Joint(patience=1), problem, weighting=name, steps=60)
    above: dict[str, list[float]] = {task: [] for task in NAMES}
    true: dict[str, list[float]] = {task: [] for task in NAMES}
    for record in training:
        if isinstance(record, mv.Step):
            targets = training.sampler.batch(record.position).targets
            for task, loss, phase in zip(NAMES, record.losses, record.phases, strict=True):
                if phase == "distilled":
                    above[task].append(loss - entropy(task, targets[task]))
                elif not above[task]:
                    true[task].append(loss)
    taught = [task for task in NAMES if above[task]]
    assert taught
    for task in taught:
        assert abs(above[task][0]) < 1e-5  # the student is its teacher still
        assert min(above[task]) > -1e-5
        assert 1e-5 < np.mean(above[task]) < 0.1 * np.mean(true[task])
