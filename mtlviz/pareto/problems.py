"""The two-objective problems, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mtlviz.errors import ParetoError, unknown
from mtlviz.pareto.fonseca_fleming import FonsecaFleming
from mtlviz.pareto.objectives import Objectives
from mtlviz.pareto.quadratics import Quadratics
from mtlviz.pareto.toy import Toy

PROBLEMS: Mapping[str, Objectives] = MappingProxyType(
    {problem.name: problem for problem in (Toy(), Quadratics(), FonsecaFleming())}
)
"""toy, quadratics and fonseca_fleming, with both losses as they are: scale (1, 1), no offset."""


def problem_of(
    problem: str | Objectives, scale: Sequence[float] | None = None, offset: float | None = None
) -> Objectives:
    """The problem of that name, at its usual scale, or the one given; with another scale or offset where these say so.

    Raises: ParetoError for an unknown name, something that is no `Objectives`, or a scale or offset out of range.
    """
    if isinstance(problem, str):
        problem = _named(problem)
        scale = problem.usual_scale if scale is None else scale
    if not isinstance(problem, Objectives):
        raise ParetoError(f"problem needs a name, one of {', '.join(PROBLEMS)}, or an Objectives; came {problem!r}")
    if scale is None and offset is None:
        return problem
    return problem.scaled(problem.scale if scale is None else scale, problem.offset if offset is None else offset)


def _named(name: str) -> Objectives:
    if name not in PROBLEMS:
        raise ParetoError(unknown("problem", name, PROBLEMS))
    return PROBLEMS[name]
