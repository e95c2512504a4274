"""What schedules say of problems and settings that do not fit, and how they go with data in a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import mtlviz as mv
from tests.problems import crossing
from tests.training.scheduling import quick, recorded


def loader(problem: mv.Problem) -> DataLoader:
    rows = problem.train.shared
    pairs = [(x, {t: y[i] for t, y in rows.targets.items()}) for i, x in enumerate(rows.inputs)]
    return DataLoader(pairs, batch_size=16)


def test_what_does_not_fit_is_named() -> None:
    problem = crossing()
    with pytest.raises(mv.errors.ProblemError, match="DataLoader"):
        quick(mv.training.Joint(), crossing(train=loader(problem)))
    with pytest.raises(mv.errors.ProblemError, match=r"validations, and \['kind', 'size', 'rare'\] have none"):
        quick(mv.training.Joint(), crossing(validation=None))
    with pytest.raises(ValueError, match=r"schedule must be one of Joint\(\.\.\.\).* got Joint"):
        quick(mv.training.Joint)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="validate_every is 10 for the run and 20 in its schedule"):
        quick(mv.training.Joint(validate_every=20), validate_every=10)
    with pytest.raises(ValueError, match="patience names unknown tasks"):
        quick(mv.training.Joint(patience={"kin": 3}))
    with pytest.raises(ValueError, match="converged_share must be above 0"):
        mv.training.Joint(converged_share=0.0)
    with pytest.raises(ValueError, match=r"patience counts validations.* for 'every task' it is 0"):
        mv.training.Joint(patience=0)
    with pytest.raises(ValueError, match="min_delta must be a finite number from 0; for 'kind' it is -1"):
        mv.training.Joint(min_delta={"kind": -1})
    with pytest.raises(ValueError, match="order must be one of small, large, easy or a list"):
        mv.training.Sequential(order={"kind", "size", "rare"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="annealing must be True or False"):
        mv.training.BornAgain(teachers={}, annealing="yes")  # type: ignore[arg-type]
    rows = problem.validation.shared
    unseen = (rows.inputs, {name: y for name, y in rows.targets.items() if name != "rare"})
    with pytest.raises(mv.errors.ProblemError, match=r"validations, and \['rare'\] have none"):
        quick(mv.training.Joint(), crossing(validation=unseen))
    with pytest.raises(ValueError, match="rewarm counts updates"):
        mv.training.Joint(rewarm=-1)
    with pytest.raises(mv.errors.ProblemError, match="teachers must be"):
        quick(mv.training.BornAgain(teachers={"kind": problem.model}))
    own = [mv.Task("own", loss=lambda o, y: (o - y).abs().mean(), metric="rmse", outputs=1)]
    data = (torch.randn(8, 6), {"own": torch.randn(8)})
    unknown = mv.Problem(tasks=own, trunk=problem.model.trunk, train=data, validation=data)
    with pytest.raises(mv.errors.ProblemError, match="nobody knows the soft labels"):
        quick(mv.training.Joint(), unknown)


class _Counted(DataLoader):
    begun = 0

    def __iter__(self) -> Iterator[Any]:
        type(self).begun += 1
        return super().__iter__()


def test_a_loader_goes_on_where_it_is_when_a_run_is_rewound() -> None:
    pairs = loader(crossing()).dataset
    problem = crossing(train=_Counted(pairs, batch_size=16))
    training = quick(mv.training.Continual(patience=1, order=["kind", "size", "rare"]), problem)
    _Counted.begun = 0
    log = recorded(training)
    assert (log.events["kind"] == "rewind").sum() == 3
    assert _Counted.begun == -(-training.step // (len(pairs) // 16))
