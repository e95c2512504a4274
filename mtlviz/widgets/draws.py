"""Which figures stand in which tab, how each is made from a log, and what decides whether it looks as before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import plotly.graph_objects as go

from mtlviz import analysis, figures
from mtlviz.runlog.log import RunLog

Draw = Callable[[RunLog], go.Figure]
Draws = Mapping[str, Draw]

WIDE = frozenset({"timeline"})
"""Figures that take the whole width, and stand below the others."""

WINDOWS: Mapping[str, int | None] = {"100 steps up to": 100, "this step alone": 1, "whole run": None}
"""Over how many recorded steps, up to the one that is asked for, the matrix of conflict is; None for all."""

_TABLES = {"validations": "validations", "layer_conflict": "layers", "affinity": "measures"}  # if not the steps


def curves(*, schedule: bool) -> Draws:
    """Losses and validation curves; for a run with a schedule also what each task did when."""
    draws: dict[str, Draw] = {
        "losses": lambda log: figures.losses(analysis.losses(log)),
        "validations": lambda log: figures.validations(analysis.validations(log)),
    }
    if schedule:
        draws["timeline"] = lambda log: figures.timeline(analysis.timeline(log))
    return draws


def balance() -> Draws:
    """Who moves the trunk, how loudly, and at what pace."""
    return {
        "shares": lambda log: figures.shares(analysis.shares(log)),
        "gradient_norms": lambda log: figures.gradient_norms(analysis.gradient_norms(log)),
        "relative_rates": lambda log: figures.relative_rates(analysis.relative_rates(log)),
        "rate_variance": lambda log: figures.rate_variance(analysis.rate_variance(log)),
        "weights": lambda log: figures.weights(analysis.weights(log)),
    }


def conflict(matrix: Draw, *, affinity: bool) -> Draws:
    """Conflict between pairs, as `matrix` draws it, over time, and by layer; affinity where it is measured."""
    draws: dict[str, Draw] = {
        "conflict_matrix": matrix,
        "conflict_rate": lambda log: figures.conflict_rate(analysis.conflict_rate(log)),
        "layer_conflict": lambda log: figures.layer_conflict(analysis.layer_conflict(log)),
    }
    if affinity:
        draws["affinity"] = lambda log: figures.affinity(analysis.affinity(log))
    return draws


def window_end(log: RunLog, window: int | None, row: int | None) -> int | None:
    """The step at which a window of `WINDOWS` ends; None for the whole run, and before the first step.

    row: the step's place among the recorded ones; None, or one too far, for the newest.
    """
    recorded = log.recorded_steps
    if window is None or len(recorded) == 0:
        return None
    return int(recorded[-1 if row is None else min(row, len(recorded) - 1)])


def window_label(log: RunLog, end: int | None) -> str:
    """Where a window ends, in words."""
    return f"all {len(log):,} recorded steps" if end is None else f"step {end:,}"


def matrix(log: RunLog, window: int | None, end: int | None) -> go.Figure:
    """The matrix of conflict over the recorded steps of a window up to its end."""
    over = {} if end is None else {"step": end, "window": window}
    return figures.conflict_matrix(analysis.conflict_matrix(log, **over))


def made_from(name: str, log: RunLog) -> tuple[object, ...]:
    """What decides how a figure looks; a rewind is an event."""
    measured = (len(log.affinities[0]),) if name == "affinity" else ()
    return log.rows(_TABLES.get(name, "steps")), log.rows("events"), *measured
