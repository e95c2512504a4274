"""Runs over the width of the trunk: which there are, what a width does, and what is kept of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mtlviz as mv
from mtlviz.data.digits import digits_trunk
from mtlviz.errors import ProblemError, WeightingError
from tests.experiments.related import NAMES, QUICK, line, related
from tests.experiments.test_resume import _contents

capacity = mv.experiments.capacity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capacity")


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return capacity(related, [3, 1], 2, folder=folder, **QUICK)


def test_every_task_alone_and_all_together_at_every_width(frame: pd.DataFrame, folder: Path) -> None:
    assert len(list(folder.iterdir())) == 2 * 2 * (3 + 1)
    assert frame[["width", "kind", "seed", "task"]].to_numpy().tolist() == [
        [width, kind, seed, task]
        for width in (1, 3)
        for kind in ("alone", "together")
        for seed in (0, 1)
        for task in NAMES
    ]
    assert set(frame["status"]) == {"finished"}
    assert np.isfinite(frame[["value", "test"]].to_numpy()).all()
    together = frame.loc[(frame["width"] == 3) & (frame["kind"] == "together"), "folder"].iloc[0]
    assert Path(together).name.startswith("equal-width3-seed0-")
    assert mv.RunLog.open(together).names == NAMES


def test_a_trunk_as_wide_as_there_are_tasks_ends_what_they_do_to_each_other(frame: pd.DataFrame) -> None:
    """Proposition 1: what two orthogonal tasks lose through one direction, they do not through as many as there are."""
    values = frame.pivot_table(index=["width", "kind"], columns="task", values="value")  # the mean RMSE over seeds
    lost = values.xs("together", level="kind") - values.xs("alone", level="kind")
    assert lost.loc[1, "foe"] > 0.3
    assert abs(lost.loc[3, "foe"]) < 0.1


def test_a_problem_with_a_function_of_trunks_gets_heads_of_their_widths(tmp_path: Path) -> None:
    options = QUICK | {"steps": 4, "validate_every": 2}
    frame = capacity(related(), [1, 2], 2, trunk=line, folder=tmp_path, **options)
    assert set(frame["status"]) == {"finished"}
    first = frame[(frame["width"] == 2) & (frame["kind"] == "together")].drop_duplicates("seed")["folder"]
    begun = [mv.RunLog.open(run).validations.query("step == 0")["value"].to_numpy() for run in first]
    assert (begun[0] != begun[1]).all()  # each seed has initial parameters of its own
    again = capacity(related(), [1, 2], 2, trunk=line, **options)
    pd.testing.assert_frame_equal(frame.drop(columns="folder"), again.drop(columns="folder"))


def test_what_is_lost_is_trained_again_and_new_widths_are_added(frame: pd.DataFrame, folder: Path) -> None:
    lost = sorted(folder.iterdir())[::3]
    for run in lost:
        shutil.rmtree(run)
    before = _contents(folder)
    more = capacity(related, [1, 2, 3], 2, folder=folder, **QUICK)
    assert before.items() <= _contents(folder).items()
    pd.testing.assert_frame_equal(more[more["width"] != 2].reset_index(drop=True), frame)


def test_the_digits_have_a_width() -> None:
    pairs = {"train": 50, "validation": 50, "test": 50}
    problem = mv.data.digits(seed=1, pairs=pairs, width=5)
    assert problem.model.trunk.linear.out_features == problem.model.head("left").in_features == 5
    whole = mv.data.digits(seed=1, pairs=pairs).model.trunk
    assert sum(p.numel() for p in whole.parameters()) == sum(p.numel() for p in digits_trunk().parameters())
    with pytest.raises(ProblemError, match="width must be a whole number from 1, got 0"):
        mv.data.digits(width=0)


def _other_tasks(seed: int, width: int) -> mv.Problem:
    return related(seed, width, names=NAMES[: 1 + min(width, 2)])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"problem": related()}, ProblemError, "give trunk=, a function of a width"),
        ({"trunk": line}, ProblemError, "comes with a Problem; a function makes its own"),
        ({"problem": related(), "trunk": 3}, ProblemError, "trunk= must be a function of a width"),
        (
            {"problem": related(), "trunk": lambda w: w},
            ProblemError,
            "seed 0 and width 1 could not be made: .*nn.Module",
        ),
        ({"problem": lambda seed: related(seed)}, ProblemError, "unexpected keyword argument 'width'"),
        ({"problem": lambda seed, width: width}, ProblemError, "a function of `seed` and `width` that returns one"),
        ({"problem": lambda seed, width: related(names=("foe",))}, ProblemError, "the problem has foe only"),
        ({"problem": _other_tasks}, ProblemError, "width 2 has other tasks than that of width 1"),
        ({"problem": None}, ProblemError, "capacity needs an mtlviz.Problem or a function"),
        ({"widths": []}, ValueError, "different numbers, at least one"),
        ({"widths": [2, 2]}, ValueError, r"different numbers, at least one; got \[2, 2\]"),
        ({"widths": [0]}, ValueError, "a width must be a whole number from 1, got 0"),
        ({"widths": 4}, ValueError, "widths must be a list of whole numbers, got 4"),
        ({"weighting": "stl"}, WeightingError, "each by itself is trained anyway"),
        ({"select": "best"}, ValueError, "select must be one of"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(
    arguments: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"problem": related, "widths": [1, 2], "folder": tmp_path} | QUICK | arguments
    with pytest.raises(kind, match=message):
        capacity(given.pop("problem"), given.pop("widths"), 1, **given)
    assert not list(tmp_path.iterdir())


def test_a_trunk_of_a_width_leaves_torch_s_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    capacity(related(), [1], 1, trunk=line, **QUICK | {"steps": 2, "validate_every": 1})
    torch.testing.assert_close(torch.rand(2), expected)
