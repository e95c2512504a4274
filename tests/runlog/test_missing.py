"""Files of an ended run that are empty or gone: told where rows must have been in them, and only there."""

import warnings
from pathlib import Path

import pytest

from mtlviz.runlog import DamagedLogWarning, Event, RunLog, Validation
from tests.runlog.runs import INFO, filled, step, story


def test_zero_bytes_are_an_empty_table(tmp_path: Path) -> None:
    with RunLog.create(tmp_path / "run", INFO) as log:
        filled(log, story(4))
    (tmp_path / "run/validations.000.arrows").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = RunLog.open(tmp_path / "run")
        assert opened.validations.empty
    assert len(opened) == len(log)


@pytest.mark.parametrize("lost", ["missing", "empty"])
@pytest.mark.parametrize("told_by", ["validations", "events"])
@pytest.mark.parametrize("segment", [0, 1])
def test_steps_that_are_gone_are_told(tmp_path: Path, lost: str, told_by: str, segment: int) -> None:
    path = tmp_path / "run"
    for number in (0, 1):
        log = RunLog.create(path, INFO) if number == 0 else RunLog.resume(path, first_step=3)
        filled(log, [step(2 * number + 1), step(2 * number + 2)])
        after = 2 * number + 2
        log.append(
            Validation(after, after, "left", "accuracy", 0.5)
            if told_by == "validations"
            else Event(after, after, "stop")
        )
        log.close()
    file = path / f"steps.00{segment}.arrows"
    file.write_bytes(b"") if lost == "empty" else file.unlink()
    with pytest.warns(
        DamagedLogWarning, match=rf"{file} is {lost}, although .* tell of step {2 * segment + 2}"
    ) as told:
        opened = RunLog.open(path)
    assert len(told) == 1
    assert opened.recorded_steps.tolist() == ([3, 4] if segment == 0 else [1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.refresh()  # told once


def test_a_run_without_updates_misses_no_steps(tmp_path: Path) -> None:
    """Before the first update there is nothing to miss, nor where a log takes nothing but validations."""
    with RunLog.create(tmp_path / "run", INFO) as log:
        filled(log, [Event(0, 0, "start"), Validation(0, 0, "left", "accuracy", 0.1)])
    with RunLog.create(tmp_path / "scores", INFO) as log:
        log.append(Validation(7, 7, "left", "accuracy", 0.1))
    (tmp_path / "run/steps.000.arrows").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(RunLog.open(tmp_path / "run")) == len(RunLog.open(tmp_path / "scores")) == 0
