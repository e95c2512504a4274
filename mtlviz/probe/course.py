"""The course of a probed loop: which calls are recorded, what is written of them, and what they take."""

from __future__ import annotations

from typing import Any

import torch

from mtlviz.errors import ProbeError
from mtlviz.gradients.ranks import Ranks
from mtlviz.probe.journal import Journal
from mtlviz.probe.losses import Losses, Numbers
from mtlviz.probe.pace import Pace
from mtlviz.probe.recorder import Recorder
from mtlviz.runlog.records import Event


class Course:
    """Takes the calls of a loop one by one, `accumulate` an update.

    optimizer: its first group's learning rate is logged. ranks: that go the same course.
    """

    def __init__(
        self,
        recorder: Recorder,
        journal: Journal,
        pace: Pace,
        *,
        accumulate: int,
        optimizer: torch.optim.Optimizer | None,
        ranks: Ranks | None,
    ) -> None:
        self.recorder, self.journal, self.pace, self._ranks = recorder, journal, pace, ranks
        self._accumulate, self._optimizer = accumulate, optimizer
        self._calls, self._ended = 0, False  # calls of the present update
        self._recording = True
        if ranks is not None:
            journal.step = ranks.told("the updates that are done", lambda: journal.step)
        recorder.begin()

    @property
    def recording(self) -> bool:
        """Whether the next call is recorded."""
        return self._recording and not self._ended

    def call(
        self,
        losses: Losses,
        features: torch.Tensor | None,
        weights: Numbers | None,
        samples: Numbers | None,
        *,
        scaled: bool,
        jacobian: Any,
        last: bool | None,
    ) -> bool:
        """Takes a call, see `Probe.step`. Returns: whether an update was recorded with it.

        Raises: ProbeError where the run has ended, or what is given cannot be measured.
        """
        if self._ended:
            self.journal.check_open()
        if last is False and self._accumulate == 1:
            raise ProbeError("several calls make an update here: give the probe accumulate=, how many there mostly are")
        self.pace.enter()
        self._calls += 1
        last = self._calls >= self._accumulate if last is None else bool(last)
        cost, together = None, self.recorder.together
        if together is not None and self._recording and self._calls == 1:
            together.begin(self.journal.step + 1)
        try:
            if self.recorder.effective is not None and self._calls == 1:
                self._follow()
            if self._recording:
                self.recorder.add(losses, features, weights, samples, scaled=scaled, jacobian=jacobian)
                if last:
                    cost = self._write()
        except BaseException as error:
            self._recording = False
            self.recorder.reset()
            self.recorder.engine.rest()
            if together is not None:
                together.failed(error)
            raise
        finally:
            recorded = last and self._recording
            self.pace.leave(cost)
            if last:
                self._turn(recorded)
        return recorded

    def end(self, event: Event) -> None:
        """Ends the run with an event; at a second time nothing happens."""
        if not self.journal.log.writable:
            return
        self._ended = True
        self._follow(wait=True)
        self.recorder.close()
        self.journal.close(event)

    def _write(self) -> float | None:
        """Logs the step whose calls were added. Returns: what it took, where that is not the time on the host."""
        rate = float("nan") if self._optimizer is None else float(self._optimizer.param_groups[0]["lr"])
        for record in self.recorder.records(self.journal.step + 1, time=self.journal.time, learning_rate=rate):
            self.journal.append(record)
        return self.recorder.cost()

    def _turn(self, recorded: bool) -> None:
        """The update's last call is over."""
        self._calls = 0
        self.journal.step += 1
        if recorded and self.pace.recorded(self.journal.step):
            spent, between = self.pace.times
            self.journal.event("every", every=self.pace.every, seconds=spent, between=between)
        if recorded and self._ranks is not None and self.pace.budgeted:
            self.pace.follow(*self._ranks.told(f"the pace after step {self.journal.step}", self.pace.planned))
        self._recording = self.pace.due(self.journal.step + 1)
        if self._recording:
            self.recorder.engine.watch()
        elif recorded:
            self.recorder.engine.rest()

    def _follow(self, *, wait: bool = False) -> None:
        """Logs what the optimizer made of the last recorded step."""
        effective = self.recorder.effective
        for record in self.recorder.afterwards(wait=wait):
            self.journal.append(record)
        if effective is not None:
            self.pace.elsewhere(effective.seconds)
            effective.seconds = 0.0
