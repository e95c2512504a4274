"""Weightings led over the steps of a log in order, in parts, so that a run that goes on is only continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtlviz.analysis.effects import Flags
from mtlviz.errors import MtlvizError, WeightingError
from mtlviz.runlog import RunLog, derived
from mtlviz.runlog.records import Floats, Integers

if TYPE_CHECKING:  # it imports numba, which takes a second that a log without replay need not spend
    from mtlviz.weighting.method import Weighting

_ENTRIES = 1 << 14  # of the Gramians of a part: compiled code holds the interpreter for some milliseconds at most

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some steps of a log as a weighting sees them: zeros where a task is absent."""

    step: Integers  # (n,)
    losses: Floats  # (n, T)
    gramians: Floats  # (n, T, T)
    present: Flags  # (n, T)
    held: Flags  # (n, T) learning from soft labels while some present task is not
    weights: Floats  # (n, T) as logged
    names: tuple[str, ...]  # of the tasks


def part(log: RunLog, rows: Rows) -> Part:
    """Return the steps at `rows` (n,)."""
    losses, gramians = log.losses[rows], log.gramian_at(rows)
    present = ~(np.isnan(losses) & np.isnan(np.diagonal(gramians, axis1=1, axis2=2)))
    weights = log.weights[rows]
    if not present.all():
        losses, weights = np.where(present, losses, 0.0), np.where(present, weights, 0.0)
        gramians = np.where(present[:, :, None] & present[:, None, :], gramians, 0.0)
    held = present & log.held[rows]
    held &= (present & ~held).any(axis=1, keepdims=True)
    return Part(log.recorded_steps[rows], losses, gramians, present, held, weights, log.names)


def parts(log: RunLog, rows: Rows) -> Iterator[Part]:
    """Yield the steps at `rows` in parts that take little memory."""
    size = max(1, _ENTRIES // len(log.tasks) ** 2)
    for begin in range(0, len(rows), size):
        yield part(log, rows[begin : begin + size])


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The surviving steps of a log at one moment, and which of them are drawn: every `stride`th."""

    rows: Rows  # (n,) their places in the log's arrays
    stride: int
    past: int  # changes when steps were taken back that had been there

    @property
    def drawn(self) -> Rows:
        """The places of the steps that are drawn."""
        return self.rows[:: self.stride]


class Surviving:
    """The recorded steps of a growing log that no rewind discarded.

    Drawn is every 2ᵏth, with the least k that leaves at most `most`: so what was drawn is drawn again or skipped when
    the run has grown, and a tick costs the new steps only.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._basis: tuple[int, int] | None = None
        self._rows = np.empty(64, dtype=np.intp)
        self._seen = 0  # rows of the log, discarded ones too
        self._count = 0
        self._past = 0

    def follow(self, now: RunLog) -> Steps:
        """Take in what a snapshot of the log says; what was returned before stays as it is."""
        basis = (now.segments, now.rows("events"))  # a rewind is an event
        if basis == self._basis:
            self._add(np.arange(self._seen, len(now)))
        else:
            kept = np.flatnonzero(~now.discarded)
            resumed = self._basis is not None and basis[0] != self._basis[0]
            if resumed or not np.array_equal(kept[: self._count], self._rows[: self._count]):
                self._past += 1
                self._rows, self._count = np.empty(len(kept), dtype=np.intp), 0
            self._add(kept[self._count :])
        self._seen, self._basis = len(now), basis
        stride = 1
        while -(-self._count // stride) > self._most:
            stride *= 2
        return Steps(self._rows[: self._count], stride, self._past)

    def _add(self, rows: Rows) -> None:
        count = self._count + len(rows)
        if count > len(self._rows):
            larger = np.empty(max(count, 2 * len(self._rows)), dtype=np.intp)
            larger[: self._count] = self._rows[: self._count]
            self._rows = larger
        self._rows[self._count : count] = rows
        self._count = count


class Sweep:
    """One weighting led over the surviving steps of a log; it keeps the weights of the drawn ones.

    A stateful weighting is led over every step, in order; a stateless one over the drawn steps alone.

    Args:
        label: how errors name it.
        weighting: reset and prepared; its state is stepped here.
        scale: the factor (T,) on each task's loss.
    """

    def __init__(self, label: str, weighting: Weighting, scale: Floats) -> None:
        self.label, self.scale = label, scale
        self.stateful = weighting.stateful
        self.led = 0  # over how many steps
        self._weighting = weighting
        self._stride = 1
        self._kept: list[Floats] = []

    def advance(self, log: RunLog, steps: Steps, *, stop: Callable[[], bool] = lambda: False) -> bool:
        """Lead the weighting over the steps that are new; True once it has seen all, False if `stop` said so before.

        Raises:
            WeightingError: naming the weighting and the step at which it fails.
        """
        self._widen(steps.stride)
        rows = steps.rows if self.stateful else steps.drawn
        for new in parts(log, rows[self.led :]):
            if stop():
                return False
            self.take(new)
        return True

    def take(self, new: Part) -> None:
        """Lead the weighting over the next steps.

        Raises:
            WeightingError: as `advance`.
        """
        weights = self._weights(new)
        self._kept.append(weights[-self.led % self._stride :: self._stride] if self.stateful else weights)
        self.led += len(weights)

    @property
    def weights(self) -> Floats:
        """The weights (n, T) of the drawn steps that it was led over, as the weighting gave them."""
        if len(self._kept) != 1:
            self._kept = [np.concatenate(self._kept) if self._kept else np.empty((0, len(self.scale)))]
        return self._kept[0]

    def _widen(self, stride: int) -> None:
        """Keep every `stride`th step from now on, a multiple of what it was."""
        factor, self._stride = stride // self._stride, stride
        if factor > 1:
            self._kept = [self.weights[::factor]]
            self.led = self.led if self.stateful else len(self._kept[0])

    def _weights(self, part: Part) -> Floats:
        losses, gramians = part.losses, part.gramians
        if (self.scale != 1.0).any():
            losses, gramians = losses * self.scale, gramians * np.outer(self.scale, self.scale)
        before = self._weighting.state_dict()
        try:
            balanced = part.present & ~part.held
            weights = np.asarray(self._weighting.sweep(losses, gramians, balanced), dtype=np.float64)
            if weights.shape != losses.shape:
                raise WeightingError(f"the kernel must return weights (T,), T = {len(part.names)}")
            if part.held.any():
                weights = derived.with_held(weights, part.present, part.held)
        except (
            Exception
        ) as error:  # the user's own kernel may raise anything: its state goes back, and the step is told
            self._weighting.load_state_dict(before)
            raise self._failure(part, losses, gramians, error) from error
        unusable = ~np.isfinite(weights).all(axis=1)
        if unusable.any():
            first = int(np.argmax(unusable))
            raise WeightingError(
                f"replay of {self.label}: its weights at step {part.step[first]} are not finite: {weights[first]} "
                f"(the tasks are {', '.join(part.names)})"
            )
        return weights

    def _failure(self, part: Part, losses: Floats, gramians: Floats, error: Exception) -> WeightingError:
        """Return the error with the step at which it comes up, and the tasks that it is about."""
        tasks = ", ".join(part.names)
        for s in range(len(losses)):
            at = f"replay of {self.label} fails at step {part.step[s]}"
            balanced = part.present[s] & ~part.held[s]
            low = np.flatnonzero(balanced & (losses[s] <= 0))
            if self._weighting.positive and len(low):
                said = ", ".join(f"task {part.names[t]!r} has the loss {part.losses[s, t]:g}" for t in low)
                return WeightingError(f"{at}: {self._weighting.name} needs losses above 0; {said}")
            try:
                weights = np.asarray(self._weighting(losses[s], gramians[s], balanced), dtype=np.float64)
            except Exception as here:  # noqa: BLE001 - the user's own kernel may raise anything
                return WeightingError(f"{at}: {_said(here)} (the tasks are {tasks})")
            if weights.shape != losses[s].shape:
                return WeightingError(
                    f"{at}: its kernel must return {len(part.names)} weights, shape {losses[s].shape}, one for each of "
                    f"the tasks {tasks}; it returned shape {weights.shape}"
                )
        return WeightingError(
            f"replay of {self.label} fails between steps {part.step[0]} and {part.step[-1]}: {_said(error)}"
        )


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, MtlvizError) else f"{type(error).__name__}: {error}"
