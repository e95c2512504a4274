"""Which steps of a loop are recorded, and the share of the loop's time that this takes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from numbers import Real
from statistics import median, median_low

import numpy as np
import torch

from mtlviz.errors import ProbeError

_FAR = 10**6  # steps to look ahead
_CHANGES = 1.2  # a spacing is kept while the wanted one is within this factor: timings are noisy


class Pace:
    """Keeps time: what the probe spends, what the loop does in between, and when the next step is recorded.

    every: steps from one recorded step to the next; with a budget, the fewest.
    budget: greatest share of the loop's own time to spend, or None. The spacing then follows the medians of the last
        recorded steps and of the last gaps, and no step is recorded whose cost would lead beyond the budget over the
        whole run; the first step is recorded all the same.
    calls: of the probe a step.
    """

    def __init__(
        self, every: int, budget: float | None, *, calls: int = 1, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.every, self._least, self._budget, self._calls = every, every, budget, calls
        self.spent = self.between = 0.0
        self.clock = clock
        self._gaps: deque[float] = deque(maxlen=33)
        self._costs: deque[float] = deque(maxlen=9)
        self._cost = 0.0  # since the last recorded step
        self._next: int | None = None
        self._followed = False
        self._entered, self._left = 0.0, math.nan

    @property
    def overhead(self) -> float:
        """Time spent ÷ time between; NaN before there was any."""
        return self.spent / self.between if self.between > 0 else math.nan

    def enter(self) -> None:
        """The loop hands over."""
        self._entered = self.clock()
        gap = self._entered - self._left
        if gap == gap:  # not before the first call
            self.between += gap
            self._gaps.append(gap)

    def leave(self, cost: float | None = None) -> None:
        """The loop goes on; `cost` is what was spent, where that is not the time since `enter`."""
        self._left = self.clock()
        took = self._left - self._entered
        cost = took if cost is None else min(cost, took)
        self.spent += cost
        self.between += took - cost  # waiting for what the loop itself had begun
        self._cost += cost

    def elsewhere(self, seconds: float) -> None:
        """So much was spent between the calls, as in a hook."""
        self.spent += seconds
        self.between -= seconds
        self._cost += seconds

    def due(self, step: int) -> bool:
        """Whether this step is to be recorded."""
        if self._next is None:
            return True
        if step < self._next or self._followed:
            return step >= self._next
        expected = median_low(self._costs) if self._costs else 0.0
        return self._budget is None or self.spent + expected <= self._budget * self.between

    def recorded(self, step: int) -> bool:
        """A step was recorded and is paid; whether the spacing changed."""
        self._costs.append(self._cost)
        self._cost = 0.0
        before = self.every
        if self._budget is not None and len(self._costs) > 1 and self._gaps:
            gap = median(self._gaps) * self._calls
            wanted = max(self._least, math.ceil(median_low(self._costs) / (self._budget * max(gap, 1e-9))))
            if wanted > before * _CHANGES or wanted < before / _CHANGES:
                self.every = wanted
        self._next = step + self.every
        return self.every != before

    @property
    def budgeted(self) -> bool:
        """Whether the spacing follows the time that is spent."""
        return self._budget is not None

    def planned(self) -> tuple[int, int | None]:
        """The spacing, and the next step to be recorded if all goes on as it does: for other ranks to follow."""
        if self._budget is None or self._next is None or not (self._gaps and self._costs):
            return self.every, self._next
        lacking = (self.spent + median_low(self._costs)) / self._budget - self.between
        steps = math.ceil(lacking / max(median(self._gaps) * self._calls, 1e-9))
        return self.every, max(self._next, self._next - self.every + min(steps, _FAR))

    def follow(self, every: int, following: int | None) -> None:
        """Takes over what another rank has `planned`; time is no longer looked at until then."""
        self.every, self._next, self._followed = every, following, True

    @property
    def times(self) -> tuple[float, float]:
        """Median seconds of a recorded step, and of the loop's own part of a step."""
        cost = median_low(self._costs) if self._costs else math.nan
        return cost, median(self._gaps) * self._calls if self._gaps else math.nan


def pace_of(every: int | None, budget: float | None, accumulate: int) -> Pace:
    """The pace of a probe's settings.

    Raises: ProbeError for what is no spacing, no count or no share.
    """
    every = every if every is not None else 1 if budget is not None else 10
    for what, value in (("every", every), ("accumulate", accumulate)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ProbeError(f"{what} must be a whole number from 1, got {value!r}")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < budget <= 1):
        raise ProbeError(
            f"budget is the share of the loop's time to spend, above 0 and up to 1, as 0.1; got {budget!r}"
        )
    return Pace(int(every), budget, calls=int(accumulate))


class Stopwatch:
    """What the probe's own work takes: on a GPU without the time that it waits for what the loop had begun."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._began = self._asked = self._read = 0.0

    def start(self) -> None:
        """The work of this call begins."""
        self._began = self._read = time.perf_counter()
        if self._cuda:
            self._events.append((_event(), _event()))
            self._events[-1][0].record()

    def done(self) -> None:
        """All work of this call is begun; what follows waits for it."""
        self._asked = time.perf_counter()
        if self._cuda:
            self._events[-1][1].record()  # the last time counts

    def waited(self) -> None:
        """The results are there."""
        self._read = time.perf_counter()

    def cost(self) -> float | None:
        """Seconds that this step's calls took on the GPU, or the host where that is longer; None without a GPU."""
        events, self._events = self._events, []
        if not self._cuda:
            return None
        on_device = sum(first.elapsed_time(last) for first, last in events) / 1e3
        return max(on_device, self._asked - self._began) + time.perf_counter() - self._read


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
