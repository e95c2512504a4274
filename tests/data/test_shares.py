"""Shares of a batch: proportional sampling, tasks that wait or are seen less often, and a stream without a gap."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.data import DataLoader, TensorDataset

from mtlviz.data import Batch, BatchSampler, Proportional, Split, split_of
from mtlviz.errors import ProblemError
from mtlviz.randomness import derived_seed

NAMES = ("a", "b", "c", "d")
SIZES = {"a": 40, "b": 300, "c": 7, "d": 1000}


def _own(sizes: dict[str, int], *, loaders: int | None = None) -> Split:
    """Data per task, whose inputs tell the task and the row."""
    data: dict[str, Any] = {}
    for number, (task, size) in enumerate(sizes.items()):
        x = torch.stack([torch.full((size,), float(number)), torch.arange(float(size))], dim=1)
        data[task] = (x, x[:, 1])
        if loaders is not None:
            data[task] = DataLoader(TensorDataset(*data[task]), batch_size=loaders)
    return split_of("train", data, tuple(sizes))


def _shared(size: int = 64) -> Split:
    """One source, in which b labels every second row."""
    x = torch.arange(float(size))
    every_second = torch.where(torch.arange(size) % 2 == 0, x, torch.nan)
    return split_of("train", (x[:, None], {"a": x, "b": every_second, "c": x}), NAMES[:3])


def _rows(batch: Batch, task: str) -> torch.Tensor:
    """Which rows of its data a task sees, none where it is absent."""
    if task not in batch.rows:
        return torch.zeros(0, dtype=torch.long)
    inputs = batch.inputs[batch.rows[task]]
    assert torch.equal(inputs[:, -1], batch.targets[task])  # each row came with its own target
    return inputs[:, -1].long()


def _streams(sampler: BatchSampler, last: int) -> dict[str, torch.Tensor]:
    batches = [sampler.batch(position) for position in range(1, last + 1)]
    return {task: torch.cat([_rows(batch, task) for batch in batches]) for task in sampler.split.by_task}


def _orders(size: int, seed: int, number: int, epochs: int) -> torch.Tensor:
    """The rows of a stream as a sampler without shares has always read them."""
    generators = [torch.Generator().manual_seed(derived_seed(seed, 1, number, epoch)) for epoch in range(epochs)]
    return torch.cat([torch.randperm(size, generator=generator) for generator in generators])


def _equal(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.inputs, b.inputs)
        and a.rows.keys() == b.rows.keys()
        and all(torch.equal(a.inputs[a.rows[t]], b.inputs[b.rows[t]]) for t in a.rows)
        and all(torch.equal(a.targets[t], b.targets[t]) for t in a.targets)
    )


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_without_shares_batches_are_what_they_were(batch_size: int) -> None:
    sampler = BatchSampler(_own(SIZES), batch_size=batch_size, seed=3)
    for number, (task, size) in enumerate(SIZES.items()):
        expected = _orders(size, 3, number, 2 + 40 * batch_size // size)
        for position in (1, 2, 17, 40):
            rows = _rows(sampler.batch(position), task)
            assert torch.equal(rows, expected[(position - 1) * batch_size : position * batch_size])
    shared = BatchSampler(_shared(), batch_size=batch_size, seed=3)
    expected = _orders(64, 3, 0, 40)
    for position in (1, 2, 17, 40):
        batch = shared.batch(position)
        assert torch.equal(batch.inputs[:, 0].long(), expected[(position - 1) * batch_size : position * batch_size])
    shared.set_shares(3, {"a": 1, "b": 1.0})  # whole shares change nothing
    assert _equal(shared.batch(17), BatchSampler(_shared(), batch_size=batch_size, seed=3).batch(17))
    sampler.set_shares(5, {})
    assert _equal(sampler.batch(17), BatchSampler(_own(SIZES), batch_size=batch_size, seed=3).batch(17))


LAST = 40
_share = st.sampled_from([0.0, 1.0]) | st.floats(0.01, 1.0)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[dict[str, int], int, Proportional | None, list[tuple[int, dict[str, float]]]]:
    """Sizes, a batch size, a sampling and a sequence of shares, in which at least one task is whole."""
    sizes = {task: draw(st.integers(1, 40)) for task in NAMES[: draw(st.integers(1, 4))]}
    sampling = None
    if draw(st.booleans()):
        sampling = Proportional(power=draw(st.floats(0, 2)), floor=draw(st.floats(0, 1 / len(sizes))))
    sequence = []
    for _ in range(draw(st.integers(0, 6))):
        shares = {task: draw(_share) for task in sizes} | {draw(st.sampled_from(list(sizes))): 1.0}
        sequence.append((draw(st.integers(1, LAST)), shares))
    return sizes, draw(st.integers(8, 20)), sampling, sequence


def _made(case: tuple[Any, ...]) -> BatchSampler:
    sizes, batch_size, sampling, sequence = case
    sampler = BatchSampler(_own(sizes), batch_size=batch_size, seed=1, sampling=sampling)
    for position, shares in sequence:
        sampler.set_shares(position, shares)
    return sampler


@given(_cases())
@settings(max_examples=80, deadline=None)
def test_an_epoch_of_a_task_sees_each_row_once_whatever_its_shares(case: Any) -> None:
    sampler = _made(case)
    for number, (task, stream) in enumerate(_streams(sampler, LAST).items()):
        size = case[0][task]
        assert torch.equal(stream, _orders(size, 1, number, 1 + len(stream) // size)[: len(stream)])
        for epoch in stream.split(size):
            assert len(epoch.unique()) == len(epoch)


@given(_cases(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_batch_depends_on_seed_position_and_shares_only(case: Any, random: Any) -> None:
    sampler = _made(case)
    in_order = {position: sampler.batch(position) for position in range(1, LAST + 1)}
    again = BatchSampler(_own(case[0]), batch_size=case[1], seed=1, sampling=case[2])
    again.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert again.state_dict() == sampler.state_dict()
    for position in random.sample(range(1, LAST + 1), 20):
        assert _equal(again.batch(position), in_order[position])


@given(_cases())
@settings(max_examples=60, deadline=None)
def test_what_was_read_before_a_change_of_shares_stays_as_it_was_read(case: Any) -> None:
    sizes, batch_size, sampling, sequence = case
    live = BatchSampler(_own(sizes), batch_size=batch_size, seed=1, sampling=sampling)
    read: dict[int, Batch] = {}
    for position, shares in sorted(sequence, key=lambda one: one[0]):
        for before in range(len(read) + 1, position):
            read[before] = live.batch(before)
        live.set_shares(position, shares)
        waiting = {task for task, share in shares.items() if share == 0}
        assert not waiting & set(live.batch(position).rows)
    for position, batch in read.items():
        assert _equal(live.batch(position), batch)


@given(_cases())
@settings(max_examples=60, deadline=None)
def test_shares_forget_what_was_set_for_later_positions(case: Any) -> None:
    """A rewind goes back and sets other shares from there on."""
    later = sorted(case[3], key=lambda one: one[0])
    sampler = _made((*case[:3], later))
    other = _made((*case[:3], [one for one in later if one[0] < LAST // 2]))
    for one in (sampler, other):
        one.set_shares(LAST // 2, {"a": 0.5} if len(case[0]) > 1 else {})
    assert sampler.state_dict() == other.state_dict()
    assert all(_equal(sampler.batch(k), other.batch(k)) for k in range(1, LAST))


@given(_cases())
@settings(max_examples=60, deadline=None)
def test_rows_in_the_long_run_are_the_shares_to_within_one(case: Any) -> None:
    sizes, batch_size, sampling, sequence = case
    sampler = BatchSampler(_own(sizes), batch_size=batch_size, seed=1, sampling=sampling)
    shares = sequence[0][1] if sequence else {}
    sampler.set_shares(11, shares)
    p = dict.fromkeys(sizes, 1.0) if sampling is None else sampling.shares(sizes)
    p = {task: part * shares.get(task, 1.0) for task, part in p.items()}
    if sampling is not None:
        p = {task: part / sum(p.values()) for task, part in p.items()}
    counts = dict.fromkeys(sizes, 0)
    for position in range(11, 11 + LAST):
        batch = sampler.batch(position)
        assert batch.rows
        for task, part in p.items():
            counts[task] += batch.samples(task)
            assert abs(counts[task] - batch_size * part * (position - 10)) < 1 + 1e-6
            assert abs(batch.samples(task) - batch_size * part) < 1 + 1e-6
            assert (task in batch.rows) == (batch.samples(task) > 0)
            if part == 0:
                assert task not in batch.rows


def test_proportional_batches_hold_batch_size_rows_in_all() -> None:
    sampler = BatchSampler(_own(SIZES), batch_size=64, seed=0, sampling=Proportional(power=0.5, floor=0.1))
    sizes = [len(sampler.batch(position).inputs) for position in range(1, 201)]
    assert max(abs(size - 64) for size in sizes) <= len(SIZES)
    assert abs(sum(sizes) - 200 * 64) <= len(SIZES)
    for batch_size in (4, 5, 6):  # 1, 1.25 and 1.5 rows a task: their fractions are out of step
        few = BatchSampler(_own(SIZES), batch_size=batch_size, seed=0, sampling=Proportional(power=0))
        assert {len(few.batch(position).inputs) for position in range(1, 50)} == {batch_size}


def test_an_epoch_is_the_time_until_the_slowest_data_set_was_seen() -> None:
    split = _own({"a": 40, "b": 300})
    assert BatchSampler(split, batch_size=16, seed=0).epoch == 19
    assert BatchSampler(split, batch_size=17, seed=0, sampling=Proportional()).epoch == 20  # 340 rows
    halves = BatchSampler(split, batch_size=16, seed=0, sampling=Proportional(power=0))
    assert halves.epoch == 38  # 300 / 8
    halves.set_shares(5, {"b": 0})
    assert halves.epoch == 38
    lifted = BatchSampler(split, batch_size=10, seed=0, sampling=Proportional(power=2, floor=0.01))
    assert lifted.epoch == 229  # 40² : 300² gives a 16 / 916 of a batch; the floor is lower
    floored = BatchSampler(split, batch_size=10, seed=0, sampling=Proportional(power=2, floor=0.1))
    assert floored.epoch == 40  # a: 40 / 1, b: 300 / 9


def test_a_task_of_shared_rows_uses_each_with_the_probability_of_its_share() -> None:
    whole, sampler = (BatchSampler(_shared(), batch_size=32, seed=0) for _ in range(2))
    sampler.set_shares(11, {"a": 0.25, "c": 0})
    used, rows = 0, 0
    for position in range(1, 411):
        plain, batch = whole.batch(position), sampler.batch(position)
        assert torch.equal(plain.inputs, batch.inputs)
        if position < 11:
            assert _equal(plain, batch)
            continue
        assert torch.equal(_rows(batch, "b"), _rows(plain, "b"))
        assert "c" not in batch.rows
        assert "c" not in batch.targets
        seen = _rows(batch, "a")
        assert not set(seen.tolist()) - set(_rows(plain, "a").tolist())
        used, rows = used + len(seen), rows + 32
    assert abs(used / rows - 0.25) < 0.02  # five standard deviations of 12 800 rows
    sampler.set_shares(11, {"b": 0.5})  # of 16 labelled rows
    used = sum(sampler.batch(position).samples("b") for position in range(11, 411))
    assert abs(used / (400 * 16) - 0.5) < 0.03
    assert _equal(sampler.batch(77), sampler.batch(77))
    assert not torch.equal(_rows(sampler.batch(12), "b"), _rows(sampler.batch(14), "b"))


def test_a_rare_task_of_a_small_share_is_absent_now_and_then() -> None:
    sampler = BatchSampler(_shared(), batch_size=4, seed=0)
    sampler.set_shares(1, {"b": 0.1})
    present = ["b" in sampler.batch(position).rows for position in range(1, 201)]
    assert 0 < sum(present) < 100  # 1 − 0.9² of two rows: 38 expected


def test_a_loader_gives_its_share_of_each_batch_and_none_while_its_task_waits() -> None:
    sampler = BatchSampler(_own({"a": 40, "b": 40}, loaders=10), batch_size=1, seed=0)
    sampler.set_shares(1, {"b": 0})
    assert [set(sampler.batch(position).rows) for position in (1, 2)] == [{"a"}, {"a"}]
    sampler.set_shares(3, {"a": 0.25})
    batches = [sampler.batch(position) for position in range(3, 203)]
    assert torch.equal(_rows(batches[0], "b"), torch.arange(10))  # nothing of b was read while it waited
    counts = [batch.samples("a") for batch in batches]
    assert set(counts) == {2, 3}
    assert abs(sum(counts) / 200 - 2.5) < 0.2
    sampler.set_shares(203, {"a": 0.01})
    assert sampler.batch(203).samples("a") == 1


@pytest.mark.parametrize(
    ("position", "shares", "message"),
    [
        (0, {}, "a position from 1, got 0"),
        (1.5, {}, "a position from 1"),
        (1, {"e": 1}, "unknown task 'e'; .*choose one of a, b, c, d"),
        (1, {"a": 1.5}, "task 'a': a share lies between 0 and 1, got 1.5"),
        (1, {"a": float("nan")}, "a share lies between 0 and 1"),
        (1, {"a": True}, "a share lies between 0 and 1"),
        (1, dict.fromkeys(NAMES, 0), "some batches would have no row"),
        (1, dict.fromkeys(NAMES, 0.1), "some batches would have no row"),
    ],
)
@pytest.mark.parametrize("sampling", [None, Proportional()])
def test_shares_that_cannot_be_are_told(
    position: Any, shares: dict[str, float], message: str, sampling: Proportional | None
) -> None:
    sampler = BatchSampler(_own(SIZES), batch_size=8, seed=0, sampling=sampling)
    if sampling is not None and shares.get("a") == 0.1:
        sampler.set_shares(position, shares)  # shares of a batch: all lowered is as good as none
        assert _equal(sampler.batch(9), BatchSampler(_own(SIZES), batch_size=8, seed=0, sampling=sampling).batch(9))
        return
    before = sampler.state_dict()
    with pytest.raises(ProblemError, match=message):
        sampler.set_shares(position, shares)
    assert sampler.state_dict() == before


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ProblemError, match="nothing is left to learn"):
        BatchSampler(_shared(), batch_size=8, seed=0).set_shares(1, dict.fromkeys(NAMES[:3], 0))
    with pytest.raises(ProblemError, match="train: sampling needs data per task"):
        BatchSampler(_shared(), batch_size=8, seed=0, sampling=Proportional())
    with pytest.raises(ProblemError, match="task 'a' comes from a DataLoader"):
        BatchSampler(_own(SIZES, loaders=4), batch_size=8, seed=0, sampling=Proportional())
    with pytest.raises(ProblemError, match="batch_size=3 with sampling leaves tasks out; it takes 4"):
        BatchSampler(_own(SIZES), batch_size=3, seed=0, sampling=Proportional())
    other = BatchSampler(_shared(), batch_size=8, seed=0).state_dict()
    with pytest.raises(ProblemError, match=r"other tasks than \['a', 'b', 'c', 'd'\]"):
        BatchSampler(_own(SIZES), batch_size=8, seed=0).load_state_dict(other)
