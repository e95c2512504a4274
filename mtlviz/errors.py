"""The errors that mtlviz raises on purpose: each says what was needed, what came, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MtlvizError(Exception):
    """Any error that mtlviz raises on purpose."""


class ProblemError(MtlvizError, ValueError):
    """A task, a model or a data set that does not fit together."""


class WeightingError(MtlvizError, ValueError):
    """A weighting that does not exist, or that returned weights nobody can use."""


class ParetoError(MtlvizError, ValueError):
    """A two-objective problem, a start or a setting of its descent that cannot be used."""


class TransferError(MtlvizError, ValueError):
    """Inputs, embeddings or settings from which transfer between tasks cannot be told."""


class ProbeError(MtlvizError, ValueError):
    """Losses, features or settings that a probe cannot measure a training loop by."""


class NonFiniteError(MtlvizError, ArithmeticError):
    """A loss, a gradient or an output of `task` became NaN or infinite while training."""

    def __init__(self, message: str, task: str) -> None:
        super().__init__(message)
        self.task = task


class RunLogError(MtlvizError):
    """A run folder that cannot be created, read or written."""


class FrameError(MtlvizError, ValueError):
    """A frame that lacks what an analysis or a figure needs."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> str:
    """What to say of a name that is none of the choices: which of them was probably meant, and all of them."""
    known = list(choices)
    near = get_close_matches(str(name).lower(), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {meant}choose one of {', '.join(known)}"
