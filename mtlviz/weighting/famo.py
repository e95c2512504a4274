"""FAMO: weights that make all losses fall at the same relative rate, from the losses before and after each update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import OBSERVED, Mask, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.per_task import check_count, per_task
from mtlviz.weighting.solvers.adam import adam_step
from mtlviz.weighting.solvers.softmax import softmax

EPSILON = 1e-8  # as in the authors' code
_BOUND = 1e9  # of |ξ|, so that no lr takes it out of the floats


@kernel
def famo(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """w = z/D normalised to Σw = 1, z = softmax(ξ), D = L − b + ε. constants: lr, weight decay, and b where given.

    state (6, T): ξ; the moments of its Adam; log D before the update; the number of the step that this is of, in which
    the task was last present, negative once the losses after it were observed.
    """
    tasks = len(losses)
    logits, before, steps = state[0], state[4], state[5]
    latest = np.abs(steps).max() + 1.0
    for t in range(tasks):
        if present[t]:
            bound = 0.0 if len(constants) == 2 else constants[2 + t]
            before[t] = np.log(losses[t] - bound + EPSILON)
            steps[t] = latest
    return softmax(logits - before, present)


@njit(OBSERVED, cache=True)
def observed(losses: Floats, waiting: Mask, constants: Floats, state: Floats) -> None:
    """The Adam step on ξ, from the losses (T,) after the update of those that are `waiting` (T,) for them.

    With δ = log D before − log D after, the gradient is z ⊙ (δ − zᵀδ), the derivative of z in ξ times δ.
    """
    tasks = len(losses)
    z = softmax(state[0], waiting)
    fall = np.zeros(tasks)
    for t in range(tasks):
        if waiting[t]:
            bound = 0.0 if len(constants) == 2 else constants[2 + t]
            fall[t] = state[4, t] - np.log(losses[t] - bound + EPSILON)
            state[5, t] = -state[5, t]
    gradient = z * (fall - (z * fall).sum()) + constants[1] * state[0]
    adam_step(state[0], gradient, state[1:4], waiting, constants[0], _BOUND)


class FAMO(Weighting):
    """Fast adaptive multitask optimisation: the step is that of c Σ z_t log D_t, so w_t = c z_t / D_t and Σw = 1.

    D_t = L_t − b_t + 1e-8, z = softmax(ξ) over the tasks present, and c makes the sum 1. After the update `observe`
    is told the losses of the same batch, and ξ takes an Adam step that favours tasks whose log D fell least. Without
    `observe` ξ stays as it is, so a log cannot replay the method. In training those losses come from a second pass
    forward, which batch normalisation counts as another batch, as it does in the authors' code. The heads get the
    gradient of Σ w_t L_t.

    min_losses: b (T,), lower bounds of the losses, zeros unless given; every L_t must stay above b_t − 1e-8.
    lr: of the Adam steps on ξ. weight_decay: γ, which pulls ξ to 0.

    Raises: WeightingError for constants out of range, bounds that are not one a task, or a loss below its bound.
    Source: Liu, Feng, Stone and Liu, NeurIPS 2023, arXiv 2306.03792, Algorithm 2, and the authors' code. Differs: the
    decay 1e-3 is the paper's (their code has 1e-2 in one place and 1e-5 in another); their code also clips the norm of
    the shared gradient to 1, which is left to the optimizer here.
    """

    name = "famo"
    needs = frozenset({"losses", "losses_after"})
    heads = "weighted"
    kernel = staticmethod(famo)
    observer = staticmethod(observed)

    def __init__(
        self, *, min_losses: Sequence[float] | None = None, lr: float = 0.025, weight_decay: float = 1e-3
    ) -> None:
        super().__init__()
        if not (np.isfinite(lr) and lr > 0):
            raise WeightingError(f"famo: lr must be positive and finite, got {lr!r}")
        if not (np.isfinite(weight_decay) and weight_decay >= 0):
            raise WeightingError(f"famo: weight_decay must be 0 or more and finite, got {weight_decay!r}")
        self.lr, self.weight_decay = float(lr), float(weight_decay)
        self.min_losses = per_task("famo: min_losses", min_losses)

    def constants(self) -> Floats:
        """lr, weight decay, and b where given."""
        return np.array([self.lr, self.weight_decay, *(self.min_losses or [])])

    def initial_state(self, tasks: int) -> Floats:
        """(6, T) zeros; the kernel says what they hold."""
        return np.zeros((6, tasks))

    def settings(self) -> dict[str, Any]:
        """min_losses, lr and weight_decay."""
        return {"min_losses": self.min_losses, "lr": self.lr, "weight_decay": self.weight_decay}

    def observe(self, losses: Floats) -> None:
        """Steps ξ by the losses (T,) of the same batch after the update.

        Only the tasks that the last step had are read; the others' may be NaN. Raises: WeightingError before the first
        step, for another shape, and for a loss that is not finite or below its bound.
        """
        if self._state is None:
            raise WeightingError("famo: observe needs a step before it; ask for the weights first")
        losses = np.ascontiguousarray(losses, dtype=np.float64)
        if losses.shape != (self._tasks,):
            raise WeightingError(f"famo: observe needs losses ({self._tasks},), got {losses.shape}")
        steps = self._state[5]
        waiting = (steps > 0) & (steps == np.abs(steps).max())
        if not np.isfinite(losses[waiting]).all():
            raise WeightingError(f"famo: observe needs finite losses of the tasks of the last step, got {losses}")
        self._check_bounds(losses, waiting)
        observed(losses, waiting, self.constants(), self._state)

    def _check_bounds(self, losses: Floats, of: Mask) -> None:
        """Raises for losses (..., T) that are not above b − ε, naming the first."""
        bounds = np.zeros(losses.shape[-1]) if self.min_losses is None else np.array(self.min_losses)
        low = np.argwhere((losses - bounds + EPSILON <= 0) & of)
        if len(low):
            first = tuple(low[0])
            raise WeightingError(
                f"famo needs losses above their lower bounds; task {first[-1]} has the loss {losses[first]:g} and the "
                f"bound {bounds[first[-1]]:g}. Give FAMO(min_losses=[...])"
            )

    def _checked(
        self, losses: Floats, gramian: Floats, present: Mask | None, *, steps: int
    ) -> tuple[Floats, Floats, Mask]:
        losses, gramian, present = super()._checked(losses, gramian, present, steps=steps)
        check_count("famo: min_losses", self.min_losses, losses.shape[-1])
        self._check_bounds(losses, present)
        return losses, gramian, present
