"""A training on two ranks is that of one process on the whole batches, and both ranks stay in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mtlviz as mv
from tests.distributed.torchrun import torchrun
from tests.distributed.trained import CASES, crossing, kept

Found = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The folder, and what each rank kept."""
    folder = tmp_path_factory.mktemp("trained")
    torchrun("trained", folder)
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one_process_does(found: Found, name: str) -> None:
    first, second = (rank[name] for rank in found[1])
    alone = kept(CASES[name])
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(second[key])), f"the ranks differ in {key}"
            torch.testing.assert_close(value, alone[key], rtol=1e-6, atol=1e-9, equal_nan=True)
        elif key != "engine":
            assert repr(value) == repr(second[key])
            assert [row[:-1] for row in value] == [row[:-1] for row in alone[key]]
            numbers = [[row[-1] for row in rows if isinstance(row[-1], float)] for rows in (value, alone[key])]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=1e-9, nan_ok=True)


def test_the_cases_are_what_they_should_be(found: Found) -> None:
    kinds = [kind for _, _, kind, _ in found[1][0]["rewinds"]["events"]]
    assert kinds.count("rewind") >= 2
    assert "distillation" in kinds
    assert "ghost" in found[1][0]["chain"]["engine"]
    assert (found[1][0]["few rows"]["samples"] == 0).any()


def test_what_cannot_be_shared_out_is_refused_on_all_ranks(found: Found) -> None:
    for rank in found[1]:
        said = rank["refusals"]
        assert "DataLoader" in said["loader"]
        assert "BatchNorm1d" in said["norm"]
        assert "mean over the samples" in said["sum"]
        assert "different settings" in said["differ"]


def test_one_rank_writes_the_log_and_any_stops_the_run(found: Found) -> None:
    folder, ranks = found
    log = mv.RunLog.open(folder / "whole")
    assert log.last_step == 6
    assert log.events["kind"].iloc[-1] == "finish"
    first, second = (rank["background"] for rank in ranks)
    assert first["state"] == second["state"] == ["finished", "stopped"]
    assert first["step"] == second["step"] >= 5
    assert mv.RunLog.open(folder / "stopped").events["kind"].iloc[-1] == "stop"
    assert second["paths"] == ["None", "None"]
    for said in (first["said"], second["said"]):
        assert "cannot pause" in said["pause"]
        assert "single process" in said["resume"]
        assert "whole" in said["there"]


def test_one_process_goes_on_with_a_run_of_several(found: Found) -> None:
    folder = found[0] / "stopped"
    step = mv.RunLog.open(folder).last_step
    run = mv.start(crossing(), steps=10**6, log=folder, resume=True)
    while run.step < step + 3 and not run.join(0.01):
        pass
    run.stop()
    run.wait()
    assert mv.RunLog.open(folder).last_step >= step
