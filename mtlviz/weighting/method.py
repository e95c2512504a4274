"""What a weighting is: a small object over one compiled kernel, (losses, Gramian) -> weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import SIGNATURE, Kernel, Mask, sweep

Heads = Literal["sum", "weighted"]

NEEDS = ("losses", "gramian", "representation", "losses_after", "jacobian")
"""What a method may be given: the losses (T,); the Gramian (T, T) of the shared parameters, or of the shared
representation; the losses of the same batch after the update; the task gradients themselves, (T, P)."""

_LARGE = 1e6  # a loss that is above any bound
_NATIVE: list[Literal["C", "W"]] = ["C", "W"]  # what compiled kernels take; the arrays of a log are not writable


class Method:
    """What every method says of itself, whether it gives weights or, as an aggregator, a direction.

    Raises: WeightingError where a subclass is defined without name, needs or heads, or with unknown ones.
    """

    name: str
    needs: frozenset[str]  # of NEEDS
    heads: Heads  # the loss whose gradient the heads get: Σ L_t or Σ w_t L_t

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        if not abstract and (wrong := cls._missing()):
            raise WeightingError(f"The weighting {cls.__name__} needs {wrong}. Set it in the body of the class.")

    @classmethod
    def _missing(cls) -> str | None:
        """What the class does not say of itself, in words."""
        name, needs, heads = (getattr(cls, key, None) for key in ("name", "needs", "heads"))
        if not isinstance(name, str) or not name:
            return f"a name, a text of its own; its name is {name!r}"
        if not isinstance(needs, (set, frozenset)) or not needs <= set(NEEDS):
            return f"needs, a frozenset out of {', '.join(NEEDS)}; its needs are {needs!r}"
        if heads not in get_args(Heads):
            return f"heads = 'sum' or 'weighted'; its heads are {heads!r}"
        return None

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, as the run log keeps them."""
        return {}

    def prepare(self, classes: Sequence[int]) -> None:
        """Told once before a run: the number of classes of each task, 1 for a regression."""

    def introduce(self, names: Sequence[str]) -> None:
        """Told once before a run: what the tasks are called, in the order of the losses (T,)."""

    def reset(self, seed: int = 0) -> None:
        """Forgets the state, for a new run, whose random numbers depend on `seed` and on the step alone."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"


class Weighting(Method, abstract=True):
    """A method that turns the losses (T,) and the Gramian (T, T) of a step into weights (T,), all float64.

    A method of your own names a kernel, `kernel(losses, gramian, present, constants, state, draws) -> weights`, that
    sees zeros for absent tasks, changes `state` (R, T) in place and never keeps its arguments. Decorated with
    `mtlviz.weighting.kernels.kernel` it is compiled, and one kernel serves training, replay and the Pareto descent.

    Raises: WeightingError where a subclass is defined without name, needs, heads or kernel, or with unknown ones.
    """

    kernel: Kernel
    observer: Callable[..., None] | None = None  # compiled, of the signature `kernels.OBSERVED`, if it observes
    positive: bool = False  # whether every present loss must be above 0

    @classmethod
    def _missing(cls) -> str | None:
        if not callable(getattr(cls, "kernel", None)):
            without = "a kernel, a function of (losses, gramian, present, constants, state, draws)"
            return super()._missing() or without
        return super()._missing()

    def __init__(self) -> None:
        self._state: Floats | None = None
        self._tasks = 0
        self._seed = 0
        self._calls = 0

    def constants(self) -> Floats:
        """The method's constants (C,), in the order that the kernel reads them."""
        return np.empty(0)

    def initial_state(self, tasks: int) -> Floats:
        """The state (R, T) of a run that has not begun."""
        return np.empty((0, tasks))

    def draws(self, tasks: int) -> int:
        """How many uniform random numbers D from [0, 1) the kernel reads in one step."""
        return 0

    def notes(self, tasks: int) -> tuple[str, ...]:
        """What a user should know of these settings for so many tasks; the first step of a run warns of it.

        Each names the method. None by default.
        """
        return ()

    @property
    def stateful(self) -> bool:
        """Whether a step's weights depend on the steps before it, or on random numbers."""
        return self.initial_state(1).size > 0 or self.draws(2) > 0

    def __call__(self, losses: Floats, gramian: Floats, present: Mask | None = None) -> Floats:
        """The weights (T,) of this step; steps the state.

        present (T,): which tasks have a labelled sample in the batch (default: all). An absent task gets weight 0 and
        keeps its state; its entries are not read, so they may be NaN.

        Raises: WeightingError for shapes that do not fit, a present loss or gradient that is not finite, or a loss
        that is not positive where the method needs it.
        """
        losses, gramian, present = self._checked(losses, gramian, present, steps=0)
        state, draws = self._begun(len(losses)), self._drawn(1, len(losses))[0]
        return self.kernel(losses, gramian, present, self.constants(), state, draws)

    def sweep(self, losses: Floats, gramians: Floats, present: Mask | None = None) -> Floats:
        """The weights (S, T) of S steps in order, as S calls would give them.

        losses (S, T), gramians (S, T, T), present (S, T). Raises: as a call does, before the first step.
        """
        losses, gramians, present = self._checked(losses, gramians, present, steps=1)
        steps, tasks = losses.shape
        state, draws = self._begun(tasks), self._drawn(steps, tasks)
        if SIGNATURE in getattr(self.kernel, "nopython_signatures", ()):
            return sweep(self.kernel, losses, gramians, present, self.constants(), state, draws)
        each = zip(losses, gramians, present, draws, strict=True)
        return np.array([self.kernel(*one[:3], self.constants(), state, one[3]) for one in each])

    def observe(self, losses: Floats) -> None:
        """Told the losses (T,) of the same batch after the update, where `needs` names "losses_after"."""

    def fresh(self, tasks: int, steps: int, *, seed: int = 0) -> tuple[Floats, Floats, Floats]:
        """The constants (C,), the state (R, T) and the draws (S, D) of a run of S steps that has not begun.

        For compiled loops that call `kernel` themselves; this weighting's own state is left alone, and its `notes` are
        theirs to say.

        Raises: WeightingError where the settings do not fit so many tasks.
        """
        self._checked(np.full(tasks, _LARGE), np.eye(tasks), None, steps=0)
        state = self._fitting(self.initial_state(tasks), tasks)
        return self.constants(), state, self._drawn_from(seed, 0, steps, tasks)

    def reset(self, seed: int = 0) -> None:
        """Forgets the state, for a new run, whose random numbers depend on `seed` and on the step alone."""
        self._state, self._seed, self._calls = None, seed, 0

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and a copy of its numbers."""
        state = None if self._state is None else self._state.copy()
        tasks = 0 if state is None else self._tasks
        kept = {"method": self.name, "settings": self.settings(), "tasks": tasks, "state": state}
        return kept | {"seed": self._seed, "calls": self._calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises: WeightingError for the state of another method, or of the same one with other settings.
        """
        if state.get("method") != self.name:
            raise WeightingError(f"{self.name} cannot go on from the state of {state.get('method')!r}")
        if state["settings"] != self.settings():
            raise WeightingError(
                f"{self.name} with {self.settings()} cannot go on from its state with {state['settings']}"
            )
        tasks, numbers = int(state["tasks"]), state["state"]
        if numbers is not None:
            wanted = np.shape(self.initial_state(tasks))
            if self._state is None:  # a run that is rewound has been told already
                self._warn(tasks, stacklevel=3)
            numbers = self._fitting(np.array(numbers, dtype=np.float64), tasks, wanted)
        self._tasks, self._seed, self._calls = tasks, int(state["seed"]), int(state["calls"])
        self._state = numbers

    def _begun(self, tasks: int) -> Floats:
        """The state, made on the first step."""
        if self._state is None or (self._tasks != tasks and self._state.size == 0 and not self.draws(2)):
            self._tasks, self._state = tasks, self._fitting(self.initial_state(tasks), tasks)
            self._warn(tasks, stacklevel=4)
        elif self._tasks != tasks:
            raise WeightingError(
                f"{self.name} has the state of {self._tasks} tasks and was given {tasks}; call reset() first"
            )
        return self._state

    def _warn(self, tasks: int, *, stacklevel: int) -> None:
        for note in self.notes(tasks):
            warnings.warn(note, UserWarning, stacklevel=stacklevel)

    def _fitting(self, state: Floats, tasks: int, wanted: tuple[int, ...] | None = None) -> Floats:
        """The state as the kernel reads it, which checks no bounds; `wanted` is its shape where that is known."""
        shape = np.shape(state)
        if len(shape) != 2 or shape[1] != tasks or (wanted is not None and shape != wanted):
            raise WeightingError(
                f"{self.name} needs a state (R, {tasks}) as initial_state makes it{f', {wanted}' if wanted else ''}; "
                f"got {shape}"
            )
        return np.ascontiguousarray(state, dtype=np.float64)

    def _drawn(self, steps: int, tasks: int) -> Floats:
        """The random numbers (S, D) of the next steps: a function of the seed and of the steps before."""
        before, self._calls = self._calls, self._calls + steps
        return self._drawn_from(self._seed, before, steps, tasks)

    def _drawn_from(self, seed: int, before: int, steps: int, tasks: int) -> Floats:
        width = self.draws(tasks)
        if width == 0:
            return np.empty((steps, 0))
        return np.random.Generator(np.random.PCG64(seed).advance(before * width)).random((steps, width))

    def _checked(
        self, losses: Floats, gramian: Floats, present: Mask | None, *, steps: int
    ) -> tuple[Floats, Floats, Mask]:
        """The arguments as the kernel needs them; `steps` is the number of axes before the tasks'."""
        losses, gramian = np.asarray(losses, dtype=np.float64), np.asarray(gramian, dtype=np.float64)
        tasks = losses.shape[-1] if losses.ndim == steps + 1 else 0
        if tasks == 0 or gramian.shape != (*losses.shape, tasks):
            came = f"{losses.shape} and {gramian.shape}"
            raise WeightingError(f"{self.name} needs losses (T,) and a Gramian (T, T), got {came}")
        present = np.ones(losses.shape, dtype=np.bool_) if present is None else np.asarray(present, dtype=np.bool_)
        if present.shape != losses.shape:
            raise WeightingError(f"{self.name} needs present {losses.shape}, got {present.shape}")
        if not present.all():
            losses = np.where(present, losses, 0.0)
            gramian = np.where(present[..., :, None] & present[..., None, :], gramian, 0.0)
        if not (np.isfinite(losses).all() and np.isfinite(gramian).all()):
            finite = np.isfinite(losses).all(axis=-1) & np.isfinite(gramian).all(axis=(-2, -1))
            first = np.argmin(finite)
            raise WeightingError(
                f"{self.name} needs finite losses and gradients of the tasks that are present; got losses "
                f"{losses.reshape(-1, tasks)[first]} and squared gradient norms "
                f"{np.diag(gramian.reshape(-1, tasks, tasks)[first])}"
            )
        if self.positive and (losses[present] <= 0).any():
            first = np.argmax(((losses <= 0) & present).any(axis=-1))
            raise WeightingError(f"{self.name} needs losses above 0; got {losses.reshape(-1, tasks)[first]}")
        return np.require(losses, None, _NATIVE), np.require(gramian, None, _NATIVE), np.require(present, None, _NATIVE)
