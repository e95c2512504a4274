"""What a transfer lab draws of the results that it is given, and how it tells one kind of result from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from mtlviz import analysis, figures
from mtlviz.errors import FrameError
from mtlviz.runlog.log import RunLog
from mtlviz.transfer import source_differences

On = Literal["value", "test"]


@dataclass(frozen=True)
class Kind:
    """A kind of frame: the columns by which it is known, none of those that it may not have, and what makes it."""

    made_by: str
    columns: frozenset[str]
    without: frozenset[str] = frozenset()

    def fits(self, frame: pd.DataFrame) -> bool:
        """Whether the frame is one of these."""
        return self.columns <= set(frame.columns) and not self.without & set(frame.columns)


def _kind(made_by: str, columns: str, without: str = "") -> Kind:
    return Kind(made_by, frozenset(columns.split()), frozenset(without.split()))


KINDS: Mapping[str, Kind] = {
    "runs": _kind("experiments.transfer_runs", "seed trained source task direction value"),
    "gains": _kind("experiments.transfer", "source target gain low high verdict", "signal"),
    "scores": _kind("analysis.covariance_scores", "task_a task_b score cosine"),
    "spectra": _kind("analysis.covariance_spectra", "task index value cumulative kept"),
    "alignment": _kind("analysis.covariance_alignment", "task_a task_b direction_a direction_b cosine"),
    "affinity": _kind("analysis.affinity", "source target affinity"),
    "cosines": _kind("analysis.conflict_matrix", "task_a task_b cosine conflict_rate"),
    "prediction": _kind("analysis.transfer_prediction", "signal source target predicted gain"),
    "capacity": _kind("experiments.capacity", "width kind task seed direction value"),
    "capacity_curves": _kind("analysis.capacity_curves", "kind task width value low high best"),
    "remedies": _kind("experiments.remedies", "method versus seed task direction value"),
    "changes": _kind("analysis.remedy_changes", "remedy versus task gain low high verdict"),
    "sweep": _kind("transfer.source_sweep", "setting source source_samples seed difference alone"),
    "differences": _kind("transfer.source_differences", "setting source source_samples difference low high"),
}


def kind_of(frame: pd.DataFrame) -> str:
    """The name in `KINDS` of what a frame holds.

    Raises: FrameError for a frame of another kind, with all that could be given.
    """
    for name, kind in KINDS.items():
        if kind.fits(frame):
            return name
    known = ", ".join(kind.made_by for kind in KINDS.values())
    got = ", ".join(map(str, frame.columns)) or "no column"
    raise FrameError(f"TransferLab knows what these return: {known}, and run logs; it got a frame with {got}")


@dataclass(frozen=True, eq=False)
class Results:
    """What the lab was given, and how it is judged; every analysis of it is made once, when it is first asked for.

    frames: by their names in `KINDS`. confidence: of the intervals. on: "value" (validation) or "test".
    """

    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    confidence: float = 0.95
    on: On = "value"

    def also(self, name: str, frame: pd.DataFrame) -> Results:
        """The same with a further frame, or a newer one of its kind."""
        return replace(self, frames={**self.frames, name: frame})

    def judged(self, confidence: float, on: On) -> Results:
        """The same with other intervals, judged on another split."""
        return replace(self, confidence=confidence, on=on)

    def __contains__(self, name: str) -> bool:
        return name in self.frames

    def tells(self, figure: str) -> bool:
        """Whether a figure of `TABS` can be drawn; computes nothing."""
        return any(set(needs) <= set(self.frames) for needs in _NEEDS[figure])

    @property
    def judges(self) -> bool:
        """Whether `confidence` and `on` change what is shown: only for results that still have their seeds."""
        return bool({"runs", "capacity", "remedies", "sweep"} & set(self.frames))

    @cached_property
    def gains(self) -> pd.DataFrame | None:
        """Gains of every source and target with their intervals."""
        if "runs" in self:
            return analysis.transfer_gains(self.frames["runs"], confidence=self.confidence, on=self.on)
        return self.frames.get("gains")

    @cached_property
    def prediction(self) -> pd.DataFrame | None:
        """Cheap signals beside measured gains, where both are known."""
        if "prediction" in self:
            return self.frames["prediction"]
        signals = {"covariance": "scores", "cosine": "cosines", "affinity": "affinity"}
        known = {signal: self.frames[name] for signal, name in signals.items() if name in self}
        if self.gains is None or not known:
            return None
        return analysis.transfer_prediction(self.gains, **known)

    @cached_property
    def capacity(self) -> pd.DataFrame | None:
        """Scores over the width of the shared module."""
        if "capacity" in self:
            return analysis.capacity_curves(self.frames["capacity"], confidence=self.confidence, on=self.on)
        return self.frames.get("capacity_curves")

    @cached_property
    def capacity_rule(self) -> pd.DataFrame | None:
        """Whether the rule of thumb held, where the seeds are known, of runs alone and together."""
        frame = self.frames.get("capacity")
        if frame is None or not {"alone", "together"} <= set(frame["kind"]):
            return None
        return analysis.capacity_rule(frame, on=self.on)

    @cached_property
    def changes(self) -> pd.DataFrame | None:
        """What each remedy changed."""
        if "remedies" in self:
            return analysis.remedy_changes(self.frames["remedies"], confidence=self.confidence, on=self.on)
        return self.frames.get("changes")


Draw = Callable[[Results], go.Figure | None]


def _of(frame: pd.DataFrame | None, draw: Callable[[pd.DataFrame], go.Figure]) -> go.Figure | None:
    return None if frame is None else draw(frame)


def _given(name: str, draw: Callable[[pd.DataFrame], go.Figure]) -> Draw:
    """Draws a frame as it was given."""
    return lambda results: _of(results.frames.get(name), draw)


def _prediction(results: Results) -> go.Figure | None:
    frame = results.prediction
    if frame is None:
        return None
    correlations = analysis.rank_correlations(frame, confidence=results.confidence)
    return figures.transfer_prediction(frame, correlations)


def _capacity(results: Results) -> go.Figure | None:
    return _of(results.capacity, partial(figures.capacity_curves, rule=results.capacity_rule))


def _source_differences(results: Results) -> go.Figure | None:
    frame = results.frames.get("differences")
    if "sweep" in results:
        frame = source_differences(results.frames["sweep"], confidence=results.confidence)
    return _of(frame, figures.source_differences)


TABS: Mapping[str, Mapping[str, Draw]] = {
    "Transfer": {
        "transfer_gains": lambda results: _of(results.gains, figures.transfer_gains),
        "source_differences": _source_differences,
    },
    "Signals": {
        "transfer_prediction": _prediction,
        "affinity": _given("affinity", figures.affinity),
        "conflict_matrix": _given("cosines", figures.conflict_matrix),
    },
    "Covariance": {
        "covariance_scores": _given("scores", figures.covariance_scores),
        "covariance_cosines": _given("scores", partial(figures.covariance_scores, value="cosine")),
        "covariance_spectra": _given("spectra", figures.covariance_spectra),
        "covariance_alignment": _given("alignment", figures.covariance_alignment),
    },
    "Capacity": {"capacity_curves": _capacity},
    "Remedies": {"remedy_changes": lambda results: _of(results.changes, figures.remedy_changes)},
}
"""The figures of each tab; one that the results do not tell is left out, and so is a tab without any."""


_MEASURED = ("runs", "gains")
_NEEDS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "transfer_gains": [(name,) for name in _MEASURED],
    "source_differences": [("sweep",), ("differences",)],
    "transfer_prediction": [
        ("prediction",),
        *product(_MEASURED, ("scores", "cosines", "affinity")),
    ],
    "affinity": [("affinity",)],
    "conflict_matrix": [("cosines",)],
    "covariance_scores": [("scores",)],
    "covariance_cosines": [("scores",)],
    "covariance_spectra": [("spectra",)],
    "covariance_alignment": [("alignment",)],
    "capacity_curves": [("capacity",), ("capacity_curves",)],
    "remedy_changes": [("remedies",), ("changes",)],
}
"""Which kinds of results, together, tell a figure; any one of these lists is enough."""


def read(result: Any) -> dict[str, pd.DataFrame]:
    """The frames that a result gives, by kind: a frame one, a run log its cosines and, where recorded, its affinity.

    Raises: FrameError for anything else.
    """
    if isinstance(result, pd.DataFrame):
        return {kind_of(result): result}
    log = result if isinstance(result, RunLog) else getattr(result, "log", None)
    if not isinstance(log, RunLog):
        raise FrameError(f"TransferLab needs frames or run logs, got {type(result).__name__}")
    frames = {"cosines": analysis.conflict_matrix(log)}
    affinity = analysis.affinity(log)
    return frames if affinity.empty else frames | {"affinity": affinity}
