"""Inter-task affinity: what a step along one task's gradient alone would do to the loss of each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch

from mtlviz.data.splits import Batch
from mtlviz.gradients.shared import SharedGradients, TaskGradients
from mtlviz.randomness import random_state, repeated
from mtlviz.runlog.records import Floats
from mtlviz.training.buffers import all_buffers, restore_all_buffers


class Lookahead:
    """Measures Z_{i→j} = 1 − L_j(θ − η g_i, φ_j) / L_j(θ, φ_j) of a step, for all tasks i and j of its batch.

    θ are the shared parameters, φ_j the head of task j, g_i the gradient that the step has of task i, η the present
    learning rate of each parameter's group. Above 0 a step along task i alone lowers the loss of task j. All losses are
    of the same batch under the same dropout, and from the same buffers, so that Z is 0 for η = 0.

    What is measured changes nothing: parameters and buffers are copied back, the random numbers of the user and of the
    run go on as they would have, and nothing is differentiated. It costs a pass forward of the batch for each of its
    tasks, and a copy of the shared parameters and of the buffers while it lasts. Forward hooks, and counters that
    modules and losses keep outside of buffers, see those passes.

    NaN where task i or j is absent, where the loss of j is not above 0, and where its loss after the step is not finite
    or cannot be computed, which a warning tells. A float32 loss knows changes of about 1e-7 of itself; a smaller Z is
    rounding.

    Source: Fifty, Amid, Zhao, Yu, Anil, Finn, NeurIPS 2021, arXiv 2109.04617, its definition of inter-task affinity.
    Differs: the authors' code looks ahead with the momentum of its SGD and divides by the learning rate; this is the
    plain gradient step of the equation, also for Adam and for methods that move the parameters themselves, and Z as it
    stands there. A task that learns from soft labels has the loss and gradient of those.
    """

    def __init__(self, engine: SharedGradients, device: torch.device) -> None:
        self._engine, self._device = engine, device
        self._buffers: dict[str, torch.Tensor] = {}
        self._drawn: list[torch.Tensor] = []

    def begin(self) -> None:
        """Remembers what the step's own pass forward starts from; called right before it."""
        self._buffers, self._drawn = all_buffers(self._engine.model), random_state(self._device)

    def affinities(
        self, batch: Batch, gradients: TaskGradients, losses: Floats, rates: Mapping[torch.nn.Parameter, float]
    ) -> Floats:
        """Z (T, T), a row per source i and a column per target j, of the step that `begin` announced.

        losses: (T,) of the batch, NaN where a task is absent. rates: η of each shared parameter.
        """
        engine, T = self._engine, len(losses)
        after = torch.full((T, T), torch.nan, dtype=torch.float64, device=self._device)
        parameters = [parameter.detach().clone() for parameter in engine.parameters]
        buffers = all_buffers(engine.model)
        alone = torch.eye(T, dtype=torch.float64, device=self._device)
        try:
            for source in np.flatnonzero(gradients.present):
                restore_all_buffers(engine.model, self._buffers)
                engine.move(gradients.weighted(alone[source]), rates)  # a formed Jacobian would round otherwise
                after[source] = self._losses(batch, int(source))
                self._put_back(parameters)
        finally:
            self._put_back(parameters)
            restore_all_buffers(engine.model, buffers)
            self._buffers = {}
        with np.errstate(all="ignore"):
            Z = 1 - after.cpu().numpy() / losses
        return np.where(np.isfinite(Z) & (losses > 0), Z, np.nan)

    def _losses(self, batch: Batch, source: int) -> torch.Tensor:
        """The losses (T,) at the parameters as they are now, NaN where they cannot be computed."""
        try:
            with repeated(self._drawn, self._device):
                return self._engine.losses(batch).double()
        except Exception as error:  # noqa: BLE001 - the user's own code, far off its way: that may not end a run
            task = self._engine.tasks[source].name
            warnings.warn(
                f"No affinity of task {task!r}: after a step along its gradient the losses cannot be computed "
                f"({type(error).__name__}: {error}). The run goes on; a smaller learning rate may help.",
                stacklevel=2,
            )
            return torch.full((len(self._engine.tasks),), torch.nan, dtype=torch.float64, device=self._device)

    def _put_back(self, parameters: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, before in zip(self._engine.parameters, parameters, strict=True):
                parameter.copy_(before)
