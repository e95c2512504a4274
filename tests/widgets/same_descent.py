"""Whether a descent that was put together of parts is the one that is computed at one go."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mtlviz import pareto
from mtlviz.pareto import Descent
from mtlviz.widgets import descents as known
from mtlviz.widgets.descents import Settings


def assert_same(found: Descent, wanted: Descent) -> None:
    assert (found.methods, found.problem) == (wanted.methods, wanted.problem)
    for name in ("starts", "step", "x", "weights", "losses"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    pd.testing.assert_frame_equal(found.verdicts, wanted.verdicts)


def whole(settings: Settings) -> Descent:
    """The same descent, computed at one go."""
    return pareto.descend(
        settings.methods, settings.starts, settings.problem,
        steps=settings.steps, lr=settings.lr, optimizer=settings.optimizer, points=known.POINTS,
    )  # fmt: skip
