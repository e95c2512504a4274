"""Task gradients of further batches, independent of the step's own, for methods that need several."""

from __future__ import annotations

from collections.abc import Mapping

from mtlviz.data.parts import part_of
from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.gradients.ranks import Ranks
from mtlviz.gradients.shared import SharedGradients, TaskGradients
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.randomness import derived_seed, seeded


class FurtherBatches:
    """Draws and differentiates batches of its own at each step that asks; nothing is made before the first."""

    def __init__(
        self,
        model: SharedTrunk,
        problem: Problem,
        *,
        batch_size: int,
        seed: int,
        shares: Mapping[str, float] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._model, self._problem, self._batch_size, self._seed = model, problem, batch_size, seed
        self._shares, self._ranks = shares, ranks
        self._samplers: list[BatchSampler] = []
        self._engine: SharedGradients | None = None
        self._step, self._drawn = 0, 0

    def of(self, step: int) -> TaskGradients:
        """The gradients of the next further batch of this step; their Jacobian is valid until the next call."""
        if step != self._step:
            self._step, self._drawn = step, 0
        if self._drawn == len(self._samplers):
            seed = derived_seed(self._seed, self._drawn)
            train, sampling = self._problem.train, self._problem.sampling
            sampler = BatchSampler(train, batch_size=self._batch_size, seed=seed, sampling=sampling)
            if self._shares is not None:
                sampler.set_shares(1, self._shares)
            self._samplers.append(sampler)
        if self._engine is None:
            self._engine = SharedGradients(self._model, self._problem.tasks, jacobian=True, ranks=self._ranks)
        sampler, device = self._samplers[self._drawn], self._engine.parameters[0].device
        self._drawn += 1
        batch, numbers = sampler.batch(step), [self._seed, step, self._drawn]
        if self._ranks is not None:
            batch = part_of(batch, self._ranks.rank, self._ranks.size)
            numbers += [self._ranks.rank] if self._ranks.rank else []  # dropout of its own
        with seeded(derived_seed(*numbers), device):
            return self._engine.of(batch.to(device))
