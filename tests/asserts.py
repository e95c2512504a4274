"""Properties that several tests assert."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz.runlog import RunLog
from mtlviz.runlog.records import Floats

FRAMES = ("steps", "pairs", "layers", "totals", "validations", "events", "measures")


def assert_same_log(log: RunLog, other: RunLog) -> None:
    """Two logs show the same frames and arrays, to the last bit."""
    assert log.info == other.info or repr(log.info) == repr(other.info)  # a NaN in the configuration equals no other
    for name in FRAMES:
        one, two = getattr(log, name), getattr(other, name)
        if name == "events":  # NaN in a detail equals no other NaN
            assert list(map(repr, one.pop("detail"))) == list(map(repr, two.pop("detail")))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    for name in ("losses", "weights", "gramians", "shares"):
        np.testing.assert_array_equal(getattr(log, name), getattr(other, name))
    for one, two in zip(log.layer_gramians, other.layer_gramians, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (len(log), log.last_step, log.time, log.segments) == (
        len(other),
        other.last_step,
        other.time,
        other.segments,
    )


def assert_psd(gramian: Floats, *, tolerance: float = 1e-9) -> None:
    """A Gramian (T, T) is symmetric and has no negative eigenvalue beyond rounding."""
    np.testing.assert_allclose(gramian, gramian.T, rtol=tolerance, atol=0)
    eigenvalues = np.linalg.eigvalsh(gramian)
    assert eigenvalues.min() >= -tolerance * max(eigenvalues.max(), 0.0), eigenvalues
