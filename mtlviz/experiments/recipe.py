"""The problem of every seed and width: the user's own, or what the user's functions make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from mtlviz.data.problem import Problem
from mtlviz.errors import ProblemError
from mtlviz.randomness import seeded

MakeProblem = Callable[..., Problem]
MakeTrunk = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """A problem for every seed: the user's own, or what the user's function makes of a seed; some losses scaled.

    needs: the public function that it is for. trunk: makes the trunk of a width for a Problem, which then gets linear
    heads of its tasks' `outputs`; a function makes its problem of a width by itself.

    Raises: ProblemError for what is neither a Problem nor a function.
    """

    problem: Problem | MakeProblem
    needs: str
    scale: Mapping[str, float] = field(default_factory=dict)
    trunk: MakeTrunk | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem) and not callable(self.problem):
            came = type(self.problem).__name__
            raise ProblemError(f"{self.needs} needs an mtlviz.Problem or a function of seed, got {came}")

    def made(self, seed: int, width: int | None = None) -> Problem:
        """The problem of a seed, and of a width where there are several.

        Raises: ProblemError where it is none, or `scale` does not fit it.
        """
        of = f"seed {seed}" if width is None else f"seed {seed} and width {width}"
        try:
            problem = self._made(seed, width)
        except Exception as error:  # the user's own function may raise anything: its seed is told
            raise ProblemError(f"the problem of {of} could not be made: {said(error)}") from error
        if not isinstance(problem, Problem):
            arguments = "`seed`" if width is None else "`seed` and `width`"
            raise ProblemError(
                f"{self.needs} needs a Problem, or a function of {arguments} that returns one; it returned a "
                f"{type(problem).__name__}"
            )
        if wrong := [factor for factor in _factors(self.scale) if isinstance(factor, (bool, np.bool_))]:
            raise ProblemError(f"scale needs numbers, {{task: factor}}; got {wrong[0]!r}")
        return problem.scaled(self.scale)

    def fixed(self, width: int | None) -> bool:
        """Whether every seed has the very same problem."""
        return isinstance(self.problem, Problem) and width is None

    def _made(self, seed: int, width: int | None) -> Any:
        if not isinstance(self.problem, Problem):
            return self.problem(seed=seed) if width is None else self.problem(seed=seed, width=width)
        if width is None or self.trunk is None:
            return self.problem
        with seeded(seed):
            trunk = self.trunk(width)
        return on_trunk(self.problem, trunk, seed=seed)


def on_trunk(problem: Problem, trunk: nn.Module, *, seed: int) -> Problem:
    """The problem's tasks and data on another trunk, with linear heads that are made anew from `seed`.

    Raises: ProblemError for a trunk that does not fit, and for an aligned problem, whose R_i another trunk may not fit.
    """
    if not problem.model.one_representation:
        raise ProblemError(
            "a trunk of another width would lose the alignments of this problem; give a function of seed and width "
            "that makes the problem and aligns it"
        )
    return Problem(
        tasks=problem.tasks,
        trunk=trunk,
        train=problem.train,
        validation=problem.validation,
        test=problem.test,
        name=problem.name,
        seed=seed,
        monitor=problem.monitor,
        sampling=problem.sampling,
    )


def said(error: BaseException) -> str:
    """An error as the frame tells it."""
    return f"{type(error).__name__}: {error}"


def _factors(scale: object) -> list[Any]:
    return list(scale.values()) if isinstance(scale, Mapping) else []
