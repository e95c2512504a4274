"""What a weighting is: a small object over one compiled kernel, (losses, Gramian) -> weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats

Kernel = Callable[[Floats, Floats, NDArray[np.bool_], Floats, Floats], Floats]
Heads = Literal["sum", "weighted"]

NEEDS = ("losses", "gramian", "representation")


class Weighting:
    """A method that turns the losses (T,) and the Gramian (T, T) of a step into weights (T,), all float64.

    A method of your own names a kernel, `kernel(losses, gramian, present, constants, state) -> weights`, that sees
    zeros for absent tasks, changes `state` (any shape, from `initial_state`) in place and never keeps its arguments.
    One compiled kernel serves training, replay and the Pareto descent.

    Raises: WeightingError where a subclass is defined without name, needs, heads or kernel, or with unknown ones.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]  # of NEEDS
    heads: ClassVar[Heads]  # the loss whose gradient the heads get: Σ L_t or Σ w_t L_t
    kernel: ClassVar[Kernel]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name, needs, heads = (getattr(cls, key, None) for key in ("name", "needs", "heads"))
        wrong = None
        if not isinstance(name, str) or not name:
            wrong = f"a name, a text of its own; its name is {name!r}"
        elif not isinstance(needs, (set, frozenset)) or not needs <= set(NEEDS):
            wrong = f"needs, a frozenset out of {', '.join(NEEDS)}; its needs are {needs!r}"
        elif heads not in get_args(Heads):
            wrong = f"heads = 'sum' or 'weighted'; its heads are {heads!r}"
        elif not callable(getattr(cls, "kernel", None)):
            wrong = "a kernel, a function of (losses, gramian, present, constants, state)"
        if wrong:
            raise WeightingError(f"The weighting {cls.__name__} needs {wrong}. Set it in the body of the class.")

    def __init__(self) -> None:
        self._state: Floats | None = None
        self._tasks = 0

    def constants(self) -> Floats:
        """The method's constants (C,), in the order that the kernel reads them."""
        return np.empty(0)

    def initial_state(self, tasks: int) -> Floats:
        """The state of a run that has not begun."""
        return np.empty(0)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, as the run log keeps them."""
        return {}

    def __call__(self, losses: Floats, gramian: Floats, present: NDArray[np.bool_] | None = None) -> Floats:
        """The weights (T,) of this step; steps the state.

        present (T,): which tasks have a labelled sample in the batch (default: all). An absent task gets weight 0 and
        keeps its state; its entries are not read, so they may be NaN.

        Raises: WeightingError for shapes that do not fit, or a present loss or gradient that is not finite.
        """
        losses, gramian, present = _checked(self.name, losses, gramian, present)
        if self._state is None:
            self._state = self.initial_state(len(losses))
        elif self._tasks != len(losses):
            raise WeightingError(
                f"{self.name} has the state of {self._tasks} tasks and was given {len(losses)}; call reset() first"
            )
        self._tasks = len(losses)
        return type(self).kernel(losses, gramian, present, self.constants(), self._state)

    def reset(self) -> None:
        """Forgets the state, for a new run."""
        self._state = None

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and a copy of its numbers."""
        if self._state is None:
            return {"method": self.name, "tasks": 0, "state": None}
        return {"method": self.name, "tasks": self._tasks, "state": self._state.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises: WeightingError for the state of another method.
        """
        if state.get("method") != self.name:
            raise WeightingError(f"{self.name} cannot go on from the state of {state.get('method')!r}")
        self._tasks = int(state["tasks"])
        self._state = None if state["state"] is None else np.array(state["state"], dtype=np.float64)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"


def _checked(
    name: str, losses: Floats, gramian: Floats, present: NDArray[np.bool_] | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    losses, gramian = np.asarray(losses, dtype=np.float64), np.asarray(gramian, dtype=np.float64)
    tasks = losses.shape[0] if losses.ndim == 1 else 0
    if tasks == 0 or gramian.shape != (tasks, tasks):
        raise WeightingError(f"{name} needs losses (T,) and a Gramian (T, T), got {losses.shape} and {gramian.shape}")
    present = np.ones(tasks, dtype=np.bool_) if present is None else np.asarray(present, dtype=np.bool_)
    if present.shape != (tasks,):
        raise WeightingError(f"{name} needs present ({tasks},), got {present.shape}")
    if not present.all():
        losses = np.where(present, losses, 0.0)
        gramian = np.where(present[:, None] & present, gramian, 0.0)
    if not (np.isfinite(losses).all() and np.isfinite(gramian).all()):
        raise WeightingError(
            f"{name} needs finite losses and gradients of the tasks that are present; "
            f"got losses {losses} and squared gradient norms {np.diag(gramian)}"
        )
    return losses, np.ascontiguousarray(gramian), present
