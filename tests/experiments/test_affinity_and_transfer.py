"""Affinity measured while training agrees with transfer measured by training, where the relations are planted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import mtlviz as mv
from mtlviz import analysis
from mtlviz.data.planted import planted
from mtlviz.transfer.generator import PlantedTask, PlantedTasks

ANGLES = {"a": 0, "b": 15, "c": 90, "d": 75}  # degrees of θ in one plane: a and b want one direction, c and d another
RELATED = {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}
MADE = PlantedTasks(
    {name: PlantedTask(40, cosine=float(np.cos(np.deg2rad(angle))), noise=0.3) for name, angle in ANGLES.items()},
    condition=1.0,
)
PROBLEM = partial(planted, MADE, width=1, validation=200, test=1)  # one direction for all: tasks have to agree
SEEDS, STEPS = 2, 100
SGD = partial(torch.optim.SGD, lr=0.05)


@pytest.fixture(scope="module")
def prediction() -> pd.DataFrame:
    """What one run of all four tasks per seed says of their pairs, and what their transfer turned out to be."""
    options = {"steps": STEPS, "optimizer": SGD, "validate_every": STEPS}
    gains = mv.experiments.transfer(PROBLEM, SEEDS, groups=["alone", "pairs"], jobs=1, progress=False, **options)
    found = []
    for seed in range(SEEDS):
        training = mv.train(PROBLEM(seed=seed), seed=seed, affinity_every=5, **options)
        log = mv.RunLog.create(None, training)
        for record in training:
            log.append(record)
        found.append(analysis.affinity(log))
    mean = np.mean([frame["affinity"] for frame in found], axis=0)
    return analysis.transfer_prediction(gains, affinity=found[0].assign(affinity=mean))


def test_affinity_ranks_partners_as_measured_transfer_does(prediction: pd.DataFrame) -> None:
    row = analysis.rank_correlations(prediction).iloc[0]
    assert row.pairs == 12
    assert row.within > 0.7
    assert row.correlation > 0.2


def test_both_tell_the_planted_relations(prediction: pd.DataFrame) -> None:
    related = np.array([pair in RELATED for pair in zip(prediction.source, prediction.target, strict=True)])
    assert (prediction.predicted[related] > 0).all()
    assert (prediction.predicted[~related] < 0).all()
    assert prediction.gain[related].min() > prediction.gain[~related].max()
