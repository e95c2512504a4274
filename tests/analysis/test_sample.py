"""The run that comes with the package: small, finished, and with something to see in every figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtlviz import analysis
from mtlviz.report import FIGURES
from mtlviz.runlog import RunLog

SAMPLE = Path(__file__).parents[2] / "data_samples" / "run_digits"


@pytest.fixture(scope="module")
def sample() -> RunLog:
    return RunLog.open(SAMPLE)


def test_the_sample_is_small_and_finished(sample: RunLog) -> None:
    files = [file for file in SAMPLE.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) < 2_000_000
    assert "run.lock" not in {file.name for file in files}
    assert sample.state == "finished"
    assert len(sample) == sample.last_step == 1500


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_sample_has_data(name: str, sample: RunLog) -> None:
    traces = FIGURES[name](sample).data
    values = [np.asarray(trace.z if trace.type == "heatmap" else trace.y, np.float64) for trace in traces]
    known = np.concatenate([value[np.isfinite(value)] for value in values])
    assert len(known) >= 20  # a number for each ordered pair of its five tasks, or far more


def test_the_sample_s_tasks_were_validated_and_tested(sample: RunLog) -> None:
    table = analysis.task_table(sample)
    assert table[["final", "best", "test", "loss", "share", "relative_rate"]].notna().all(axis=None)
