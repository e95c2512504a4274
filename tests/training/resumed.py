"""What the tests of resumed runs compare."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import mtlviz as mv
from mtlviz.runlog import DamagedLogWarning
from mtlviz.training.checkpoints import InFolder
from tests.asserts import FRAMES


def opened(folder: Path) -> mv.RunLog:
    """The log, whose files a kill may have left torn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedLogWarning)
        return mv.RunLog.open(folder)


def assert_same_run(folder: Path, other: Path) -> None:
    """A run has the rows of another but for `time`, and its checkpoints and soft labels, to the last bit."""
    log, its = opened(folder), opened(other)
    for name in FRAMES:
        one, two = getattr(log, name), getattr(its, name)
        pd.testing.assert_frame_equal(
            one.drop(columns="time", errors="ignore"), two.drop(columns="time", errors="ignore"), check_exact=True
        )
    for name in ("losses", "weights", "gramians", "shares", "discarded", "recorded_steps"):
        np.testing.assert_array_equal(getattr(log, name), getattr(its, name))
    assert log.recorded_steps.tolist() == list(range(1, log.last_step + 1))
    assert (np.diff(log.steps.drop_duplicates("step")["time"]) > 0).all()
    assert log.state == its.state
    kept, theirs = InFolder(folder, tasks=log.names), InFolder(other, tasks=log.names)
    assert len(theirs.steps()) > 1
    for step in theirs.steps():
        assert_same_state(kept.load(step), theirs.load(step))
    for task, step in theirs.load(theirs.steps()[-1])["soft"].items():
        assert_same_state(kept.load_soft(task, step), theirs.load_soft(task, step))


def assert_same_state(one: Any, two: Any) -> None:
    """Two states are the same to the last bit, but for the `time`."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            if key != "time":
                assert_same_state(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_same_state(first, second)
    elif isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        if one.numel():
            assert torch.equal(one.reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    else:
        assert repr(one) == repr(two)
