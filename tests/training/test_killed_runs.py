"""Real processes that train, killed by SIGKILL at any moment and resumed, end as if nobody had killed them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import mtlviz as mv
from tests.training.resumed import assert_same_run, opened

ROOT = Path(__file__).parents[2]
LAST = 210  # updates that the run does

SEAMS = (
    "event:start",  # before there is any checkpoint
    "saving",
    "saved",
    "resumed",
    "event:convergence",
    "event:rewind",  # the rewind is on the disk, its checkpoint is not
    "event:rewind",
    "event:distillation",
    "resumed",
    "event:distillation",
    "saving",
    "step:100:0.1",
    "event:rewind",
    "event:distillation",
    "step:170:0.5",
    "event:finish",  # all is on the disk but the last checkpoint
    "event:finish",
    "step:208:0.9",
    "saved",
)


def _random_moments() -> tuple[str, ...]:
    chance = random.Random(5)
    steps = sorted(chance.choices(range(1, LAST), k=20))  # in order, so that each process comes to its own
    return tuple(f"step:{step}:{chance.random():.2f}" for step in steps)


PLANS = {"whole": (), "random": _random_moments(), "seams": SEAMS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of the run of each plan, which are carried out at once."""
    place = tmp_path_factory.mktemp("runs")
    plans = [" ".join([str(place / name), *moments]) for name, moments in PLANS.items()]
    command = [sys.executable, "-m", "tests.training.killed_run", *plans]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    ended = [line.split() for line in done.stdout.splitlines()]
    for name, moments in PLANS.items():
        killed = [[name, moment, str(-signal.SIGKILL)] for moment in moments]
        assert [line for line in ended if line[0] == name] == [*killed, [name, "none", "0"]], done.stderr
    return {name: place / name for name in PLANS}


def test_the_run_has_all_that_resuming_must_come_through(folders: dict[str, Path]) -> None:
    log = opened(folders["whole"])
    assert log.last_step == LAST
    assert log.events["kind"].tolist().count("rewind") == 3
    assert log.discarded.sum() > 60
    assert set(log.steps["phase"]) == {"supervised", "distilled"}
    assert log.steps["learning_rate"].nunique() > 3  # of the scheduler, and warmed again
    assert log.steps["weight"].nunique() > 50
    assert log.steps["samples"].nunique() > 5  # labels are missing, and converged tasks get half of theirs


def test_twenty_kills_at_random_moments_leave_no_trace(folders: dict[str, Path]) -> None:
    assert_same_run(folders["random"], folders["whole"])
    log = opened(folders["random"])
    assert 10 < log.segments <= 21


def test_kills_between_a_record_and_its_checkpoint_leave_no_trace(folders: dict[str, Path]) -> None:
    assert_same_run(folders["seams"], folders["whole"])
    log = opened(folders["seams"])
    reached = [mv.RunLog.open(folders["seams"], segments=n + 1).last_step for n in range(log.segments)]
    assert reached[-1] == LAST
    assert any(later < earlier for earlier, later in pairwise(reached)), "what was superseded can still be read"
