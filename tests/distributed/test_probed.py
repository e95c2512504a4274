"""A probe on two ranks records what one process finds on the whole batch, and disturbs neither rank's training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mtlviz as mv
from mtlviz.errors import ProbeError
from mtlviz.probe.together import Together
from tests.distributed.probed import CASES, probed
from tests.distributed.torchrun import torchrun

Found = tuple[Path, list[dict[str, Any]]]
NUMBERS = ("losses", "gramians", "layers")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The folder, and what each rank kept."""
    folder = tmp_path_factory.mktemp("probed")
    torchrun("probed", folder)
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_the_log_is_that_of_the_whole_batch(found: Found, name: str) -> None:
    first, second = (rank[name] for rank in found[1])
    alone = probed(CASES[name])
    for key in NUMBERS:
        if key in alone:
            scale = alone[key].nan_to_num().abs().max()
            torch.testing.assert_close(first[key], alone[key], rtol=2e-5, atol=float(2e-6 * scale), equal_nan=True)
    if name != "noise":  # which splits another batch
        kinds = [[str(row[:-1]) for row in rows] for rows in (first["measures"], alone["measures"])]
        assert kinds[0] == kinds[1]
        values = [[row[-1] for row in rows] for rows in (first["measures"], alone["measures"])]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert second["rows"] == 0
    log = mv.RunLog.open(found[0] / name)
    assert log.state == "finished"
    assert len(log.steps) == first["rows"] > 0


def test_the_cases_are_what_they_should_be(found: Found) -> None:
    first = found[1][0]
    for name in ("ghosts", "cut", "absent here, factors", "uneven factors"):
        assert "ghost" in first[name]["engine"]
        assert "rows" in first[name]["engine"]
    assert "ghost" not in first["rows"]["engine"]
    assert first["tensors"]["engine"].startswith("general")
    assert torch.isnan(first["absent"]["losses"][:, 1]).all()
    assert torch.isfinite(first["absent here"]["gramians"]).all()
    assert (first["uneven"]["samples"] == 16).all()
    assert [row[1] for row in first["effective"]["measures"]].count("effective_change") == 4
    noise = [row for row in first["noise"]["measures"] if row[1] == "noise_dot"]
    assert len(noise) == 6


@pytest.mark.parametrize("name", ["plain", "unused", "buckets"])
def test_training_is_the_same_bit_by_bit_on_each_rank(found: Found, name: str) -> None:
    for rank in found[1]:
        without, with_probe = rank[f"trained {name}"]
        for a, b in zip(without, with_probe, strict=True):
            assert torch.equal(a, b)


def test_a_budget_is_kept_by_rank_0_for_all(found: Found) -> None:
    first, second = (rank["paced"] for rank in found[1])
    assert first == second
    assert 1 < sum(first) < len(first)


def test_ranks_that_differ_are_told_so(found: Found) -> None:
    said = [rank["refusals"] for rank in found[1]]
    for mine in said:
        assert "different probes" in mine["every"]
        assert "unknown grouping" in mine["one fails"]
        assert mine["goes on"] == ""
        assert "static_graph" in mine["static"]
        assert "rank 0 is at place 0; rank 1 is at place 1" in mine["elsewhere"]
        assert "has no graph" in mine["detached"]
    assert "Not as rank 0: rank 1" in said[0]["every"]
    assert said[1]["every"].endswith("the same settings. every is 3 here, 2 on rank 0")
    assert "rank 1: ProbeError" in said[0]["detached"]
    assert "rank 0 waited at the probe's step 1" in said[0]["left out"]
    assert "has waited 0.2 s for the probe's step 1" in said[0]["warned"]
    assert said[1]["left out"] == said[1]["warned"] == ""


def test_what_is_sharded_is_refused() -> None:
    sharded = type("FullyShardedDataParallel", (torch.nn.Linear,), {})(2, 2)
    with pytest.raises(ProbeError, match="sharded"):
        Together(None, 2, torch.nn.Sequential(sharded))  # type: ignore[arg-type]
