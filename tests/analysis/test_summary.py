"""The table of tasks and the summary of a run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mtlviz import analysis
from mtlviz.errors import FrameError
from mtlviz.runlog import Measure
from tests.analysis.runs import filled, hand, rewound


def test_the_task_table_by_hand() -> None:
    table = analysis.task_table(hand()).set_index("task")
    assert table.index.tolist() == ["a", "b", "c"]
    assert table["metric"].tolist() == ["accuracy", "rmse", "accuracy"]
    np.testing.assert_allclose(table["final"], [0.9, 2.0, np.nan])
    np.testing.assert_allclose(table["best"], [0.9, 1.0, np.nan])
    assert table["best_step"].tolist()[:2] == [2, 2]
    assert table["best_step"].isna().tolist() == [False, False, True]
    assert table["test"].isna().all()
    np.testing.assert_allclose(table["loss"], [2, 4, 7])
    np.testing.assert_allclose(table["share"], [(20 / 41 + 0.5) / 2, (-4 / 41 + 0.5) / 2, 25 / 41])
    np.testing.assert_allclose(table["conflict_rate"], [2 / 5, 2 / 5, 0])
    np.testing.assert_allclose(table["relative_rate"], [(4 + 2**0.5) / 3, 3, 1])
    np.testing.assert_allclose(table["samples"], [8, 8, 16 / 3])
    assert table["train_samples"].fillna(-1).tolist() == [100, 50, -1]


def test_the_task_table_leaves_discarded_steps_out_unless_asked() -> None:
    kept, everything = analysis.task_table(rewound()), analysis.task_table(rewound(), discarded=True)
    assert kept["best"].tolist()[0] == 0.6
    assert everything["best"].tolist()[0] == 0.99
    np.testing.assert_allclose(kept["conflict_rate"], 0.0)
    np.testing.assert_allclose(everything["conflict_rate"], [2 / 10, 4 / 10, 2 / 10])
    assert kept["final"].tolist()[0] == everything["final"].tolist()[0] == 0.6


def test_the_task_table_has_the_last_test_of_each_task() -> None:
    log = hand()
    for step, name, task, value in ((2, "test", "a", 0.1), (3, "test", "c", 0.7), (3, "test", "a", 0.8)):
        log.append(Measure(step=step, name=name, task=task, value=value))
    log.append(Measure(step=3, name="affinity", task="b", other="a", value=5.0))
    log.append(Measure(step=3, name="test", value=6.0))  # of no task
    np.testing.assert_array_equal(analysis.task_table(log)["test"], [0.8, np.nan, 0.7])


def test_the_summary_of_a_run_by_hand() -> None:
    summary = analysis.run_summary(hand()).iloc[0]
    assert summary["state"] == "finished"
    assert (summary["steps"], summary["recorded"], summary["discarded"]) == (3, 3, 0)
    assert (summary["seconds"], summary["steps_per_second"]) == (1.5, 2.0)
    assert (summary["tasks"], summary["layers"], summary["validations"], summary["events"]) == (3, 2, 6, 2)
    assert (summary["problem"], summary["weighting"]) == ("hand", "equal")
    assert analysis.run_summary(rewound())["discarded"].tolist() == [2]


def test_a_run_without_steps() -> None:
    log = filled(hand().info, [])
    table = analysis.task_table(log)
    assert table[["final", "best", "loss", "share", "conflict_rate", "relative_rate", "samples"]].isna().all(axis=None)
    summary = analysis.run_summary(log).iloc[0]
    assert (summary["steps"], summary["seconds"]) == (0, 0.0)
    assert np.isnan(summary["steps_per_second"])


def test_only_a_log_has_a_task_table() -> None:
    for table in (analysis.task_table, analysis.run_summary):
        with pytest.raises(FrameError, match="needs a RunLog, because it draws on every table; got DataFrame"):
            table(hand().steps)


def test_analyses_figures_and_report_never_import_torch() -> None:
    code = (
        "import sys, mtlviz as mv, mtlviz.report; mv.analysis.losses, mv.figures.losses; "
        "sys.exit('torch' in sys.modules or 'torchjd' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
