"""How a batch, a layer and a pace are shared out among ranks, without any process but this one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlviz.data.parts import part_of
from mtlviz.data.splits import split_of
from mtlviz.gradients.layers import layers_of
from mtlviz.gradients.whole_batch import ROWS, pays
from mtlviz.probe.pace import Pace

LABELS = st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=1, max_size=9)


@given(LABELS, st.integers(2, 4), st.booleans())
def test_the_parts_of_a_batch_are_the_batch(labels: list[float], size: int, apart: bool) -> None:
    y = torch.tensor(labels)
    x = torch.arange(len(y), dtype=torch.float32)[:, None]
    split = split_of("train", {"a": (x, y), "b": (x + 100, y)} if apart else (x, {"a": y, "b": y * 0}), ("a", "b"))
    batch = split.join(
        [(task, s.fetch(torch.arange(len(y)))) for task, s in split.by_task.items()]
        if apart
        else [(None, split.shared.fetch(torch.arange(len(y))))]
    )  # type: ignore[union-attr]
    parts = [part_of(batch, rank, size) for rank in range(size)]
    for task in ("a", "b"):
        there = [part for part in parts if task in part.rows]
        rows = torch.cat([part.inputs[part.rows[task]] for part in there]) if there else x[:0]
        targets = torch.cat([part.targets[task] for part in there]) if there else y[:0]
        wanted = batch.inputs[batch.rows[task]] if task in batch.rows else x[:0]
        assert sorted(rows.flatten().tolist()) == sorted(wanted.flatten().tolist())
        assert len(targets) == batch.samples(task)
        assert all(part.samples(task) == batch.samples(task) for part in parts)
        if task in batch.rows:
            assert sum(part.share(task) for part in parts) == pytest.approx(1)
            mean = sum(part.share(task) * part.targets[task].mean() for part in there)
            assert float(mean) == pytest.approx(float(batch.targets[task].mean()), abs=1e-6)
            order = dict(
                zip(batch.inputs[batch.rows[task]].flatten().tolist(), batch.targets[task].tolist(), strict=True)
            )
            assert [order[row] for row in rows.flatten().tolist()] == targets.tolist()


def test_factors_are_gathered_where_that_is_less_to_send_and_to_compute() -> None:
    (layer,) = layers_of(nn.Linear(512, 512))  # 262 656 numbers a task
    assert pays(layer, [4, 4], 2, weighted=False)  # 8 · (512 + 2 · 512) sent against 2 · 2 · 262 656
    assert not pays(layer, [400, 400], 2, weighted=False)
    assert pays(layer, [4, 0], 2, weighted=False)
    assert not pays(layer, [0, 0], 2, weighted=False)
    assert not pays(layer, [4, ROWS], 2, weighted=False)
    (narrow,) = layers_of(nn.Linear(4, 4))
    assert not pays(narrow, [4, 4], 2, weighted=False)


def test_a_rank_plans_ahead_what_its_budget_allows() -> None:
    now = 0.0
    pace = Pace(1, 0.1, clock=lambda: now)
    for step in (1, 2):  # a second of the loop, two of the probe
        pace.enter()
        now += 2.0
        pace.leave()
        pace.recorded(step)
        now += 1.0
    pace.enter()
    pace.leave()
    every, following = pace.planned()
    assert every == 20
    assert following == 2 + 58  # 6 seconds of the probe need 60 of the loop, which had 2
    other = Pace(1, 0.1)
    other.follow(every, following)
    assert [other.due(step) for step in (3, 59, 60)] == [False, False, True]
