"""What a new user imports: names are there, and a log is read without PyTorch."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mtlviz as mv

SAMPLE = Path(__file__).parents[1] / "data_samples" / "run_digits"


@pytest.mark.parametrize("name", mv.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(mv, name)
    assert value is not None
    assert getattr(value, "__doc__", None)
    assert name in dir(mv)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'dashbord'"):
        _ = mv.dashbord


def test_a_log_is_read_replayed_and_drawn_without_torch() -> None:
    code = f"""
import sys, mtlviz as mv
log = mv.RunLog.open({str(SAMPLE)!r})
mv.figures.losses(mv.analysis.losses(log)); mv.report.report(log)
dashboard = mv.dashboard(log)
weights = mv.weighting.named("mgda")(log.losses[-1], log.gramians[-1], ~(log.losses[-1] != log.losses[-1]))
assert abs(weights.sum() - 1) < 1e-12
dashboard.close()
assert "torch" not in sys.modules, "torch was imported"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr


def test_rooms_import_alone() -> None:
    for room in (
        "data",
        "gradients",
        "models",
        "probe",
        "training",
        "transfer",
        "weighting",
        "runlog",
        "analysis",
        "figures",
        "widgets",
        "watch",
    ):
        assert importlib.import_module(f"mtlviz.{room}").__doc__


def test_threads_that_use_methods_for_the_first_time_at_once_all_get_them() -> None:
    code = """
import threading
import mtlviz as mv
met, begin = [], threading.Barrier(4)
def meet():
    begin.wait()
    met.append([mv.weighting.named(name).name for name in ("rlw", "emtl", "famo", "gls")])
threads = [threading.Thread(target=meet) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join(120)
assert met == [["rlw", "emtl", "famo", "gls"]] * 4, met
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
