"""One update of a training: batch, task gradients, weights and step, and the records that tell of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from mtlviz.data.parts import part_of
from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch
from mtlviz.errors import NonFiniteError, WeightingError
from mtlviz.gradients.aggregator import Aggregator, Combined, StepView, outside_span
from mtlviz.gradients.ranks import Ranks
from mtlviz.gradients.shared import SharedGradients, TaskGradients
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.randomness import derived_seed, seeded
from mtlviz.runlog.records import Floats, Measure, Record, Step
from mtlviz.training.affinity import Lookahead
from mtlviz.training.buffers import restore_buffers, unsaved_buffers
from mtlviz.training.combining import Function, cancelling, combination
from mtlviz.training.distillation import Annealed
from mtlviz.training.further_batches import FurtherBatches
from mtlviz.training.nonfinite import not_finite, not_finite_head
from mtlviz.weighting import Method, Weighting
from mtlviz.weighting.kernels import Mask


class Updater:
    """Steps a model over the batches of a problem; everything random is a function of seed and position.

    Nothing of a batch, of dropout or of a further batch needs a stored state to be repeated after a rewind.

    ranks: processes that each compute every R-th row of a batch, with dropout of their own, and step alike.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        model: SharedTrunk,
        weighting: Method | Function,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        sampler: BatchSampler,
        device: torch.device,
        seed: int,
        layers_every: int,
        affinity_every: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.weighting, self.device, self.seed = model, weighting, device, seed
        self.optimizer, self.scheduler, self.layers_every = optimizer, scheduler, layers_every
        needs = weighting.needs if isinstance(weighting, Method) else frozenset()
        asked = {name: name in needs for name in ("representation", "jacobian")}
        self._ranks = ranks
        self.gradients = SharedGradients(model, problem.tasks, **asked, ranks=ranks)
        self.affinity_every, self._lookahead = affinity_every, Lookahead(self.gradients, device)
        self._observes = "losses_after" in needs
        self._names = tuple(task.name for task in problem.tasks)
        self.learn(problem, sampler)

    def learn(
        self,
        problem: Problem,
        sampler: BatchSampler,
        *,
        shares: Mapping[str, float] | None = None,
        annealed: Annealed | None = None,
    ) -> None:
        """Goes on with other targets and losses for the same tasks, and other parts of a batch for each."""
        self.sampler, self._annealed = sampler, annealed
        self.gradients.tasks = problem.tasks
        size, seed = sampler.batch_size, derived_seed(self.seed, 4)
        self._further = FurtherBatches(
            self.model, problem, batch_size=size, seed=seed, shares=shares, ranks=self._ranks
        )

    def state_dict(self) -> dict[str, Any]:
        """What a rewind brings back, not copied: all that the updates to come depend on, but for the position."""
        method = self.weighting.state_dict() if isinstance(self.weighting, (Weighting, Aggregator)) else None
        return {
            "model": self.model.state_dict(),
            "buffers": unsaved_buffers(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "weighting": method,
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`, which may hold more."""
        self.model.load_state_dict(state["model"])
        restore_buffers(self.model, state["buffers"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if isinstance(self.weighting, (Weighting, Aggregator)):
            self.weighting.load_state_dict(state["weighting"])
        self.sampler.load_state_dict(state["sampler"])

    def update(
        self, step: int, position: int, phases: Sequence[str], *, clock: Callable[[], float], warmth: float = 1.0
    ) -> Generator[Record, None, None]:
        """The update that makes `step` updates done, `position` on the surviving trajectory, and its records.

        phases: (T,) of the tasks; one that waits is not in the batch. clock: tells the seconds since the run began.
        warmth: what the learning rate is multiplied by in this update.

        Raises: NonFiniteError for a loss or gradient that is not finite; WeightingError for weights nobody can use.
        """
        with seeded(self._dropout(position), self.device):
            batch = self._batch(position)
            if self._records_affinity(position):
                self._lookahead.begin()
            gradients = self.gradients.of(batch)
        present = np.array(gradients.present)
        losses, layers, gramian, of_z = self._numbers(step, gradients, present)
        another = partial(self._further.of, position)
        view = StepView(losses, gramian, present, gradients, self.gradients.layer_spans(), another, of_z)
        held = np.array([phase == "distilled" for phase in phases])
        combined = combination(self.weighting, view, step=step, tasks=self._names, held=held)
        learning_rate = float(self.optimizer.param_groups[0]["lr"]) * warmth
        affinities = self._affinities(step, position, batch, gradients, losses, warmth)
        self._move(gradients, combined, warmth, cancels=combined.direction is None and cancelling(view, combined))
        yield Step(
            step=step,
            position=position,
            time=clock(),
            losses=losses,
            weights=combined.weights,
            gramian=gramian,
            samples=np.array([batch.samples(name) for name in self._names]),
            learning_rate=learning_rate,
            phases=tuple(phases),
            layers=layers if self._records_layers(position) else None,
        )
        yield from affinities
        if self._observes:
            self._show_losses_after(step, position, batch, present)
        yield from self._further_words(step, position, view, combined)

    def _numbers(
        self, step: int, gradients: TaskGradients, present: Mask
    ) -> tuple[Floats, Floats, Floats, Floats | None]:
        """Losses (T,), layer Gramians (K, T, T), their sum and the Gramian of those of z, if any; NaN for absent tasks.

        Raises: NonFiniteError.
        """
        losses, layers, head_peak, of_z = self._on_host(gradients)
        gramian = layers.sum(axis=0)
        broken = not_finite(step, self._names, losses, gramian, present)
        if broken is None and not np.isfinite(head_peak):
            broken = not_finite_head(step, self._names, gradients)
        if broken is not None:
            raise broken
        absent = ~present
        losses[absent] = np.nan
        for matrix in (gramian, *layers):
            matrix[absent, :] = np.nan
            matrix[:, absent] = np.nan
        return losses, layers, gramian, of_z

    def _batch(self, position: int) -> Batch:
        batch = self.sampler.batch(position)
        batch = batch if self._annealed is None else self._annealed.mixed(batch, position)
        if self._ranks is not None:
            batch = part_of(batch, self._ranks.rank, self._ranks.size)
        return batch.to(self.device)

    def _dropout(self, position: int) -> int:
        """The seed of what an update draws in passing forward; rank 0 draws as a single process does."""
        own = [self._ranks.rank] if self._ranks is not None and self._ranks.rank else []
        return derived_seed(self.seed, 2, position, *own)

    def _records_layers(self, position: int) -> bool:
        return self.layers_every > 0 and position % self.layers_every == 0

    def _records_affinity(self, position: int) -> bool:
        return self.affinity_every > 0 and position % self.affinity_every == 0

    def _affinities(
        self, step: int, position: int, batch: Batch, gradients: TaskGradients, losses: Floats, warmth: float
    ) -> list[Measure]:
        """The measures "affinity" of this step, one of each ordered pair of tasks in the batch, where it has any."""
        if not self._records_affinity(position):
            return []
        rates = {p: float(group["lr"]) * warmth for group in self.optimizer.param_groups for p in group["params"]}
        Z = self._lookahead.affinities(batch, gradients, losses, rates)
        present = np.flatnonzero(gradients.present)
        return [
            Measure(step=step, name="affinity", value=float(Z[i, j]), task=self._names[i], other=self._names[j])
            for i in present
            for j in present
        ]

    def _further_words(self, step: int, position: int, view: StepView, combined: Combined) -> Iterator[Record]:
        if combined.direction is not None:
            yield Measure(step=step, name="outside_span", value=outside_span(view, combined))
        if self._records_layers(position) and isinstance(self.weighting, Aggregator):
            for name, task, layer, value in self.weighting.readings():
                yield Measure(step=step, name=name, value=value, task=self._names[task], layer=layer)

    def _move(self, gradients: TaskGradients, combined: Combined, warmth: float, *, cancels: bool) -> None:
        """Steps the parameters: all by the optimizer, or the shared ones by a method that moves them itself.

        cancels: the weighted gradients nearly cancel, so that their sum needs float64.
        """
        heads = self.weighting.heads if isinstance(self.weighting, Method) else "weighted"
        weights = torch.from_numpy(combined.weights).to(self.device, non_blocking=True)
        self.gradients.set_grad(gradients, weights, heads=heads, direction=combined.direction, exact=cancels)
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        if warmth != 1:
            for group in groups:
                group["lr"] = group["lr"] * warmth
        if isinstance(self.weighting, Aggregator) and self.weighting.moves and combined.direction is not None:
            own = {p: float(group["lr"]) for group in groups for p in group["params"]}
            for parameter in self.gradients.parameters:
                parameter.grad = None
            self.gradients.move(combined.direction, own)
        self.optimizer.step()
        if warmth != 1:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        if self.scheduler is not None:
            self.scheduler.step()

    def _show_losses_after(self, step: int, position: int, batch: Batch, present: Mask) -> None:
        """Tells the method the losses of the same batch, under the same dropout, at the new parameters."""
        with seeded(self._dropout(position), self.device):
            losses = self.gradients.losses(batch)
        on_host = losses.double().cpu().numpy()
        for name, loss in zip(np.array(self._names)[present], on_host[present], strict=True):
            if not np.isfinite(loss):
                said = f"task {name!r}: its loss is {loss} after the update of step {step}; training stopped there"
                raise NonFiniteError(said, str(name))
        try:
            if isinstance(self.weighting, Weighting):
                self.weighting.observe(on_host)
            elif isinstance(self.weighting, Aggregator):
                self.weighting.observe(losses)
        except WeightingError as error:
            tasks = ", ".join(self._names)
            raise WeightingError(f"{error} (after the update of step {step}; the tasks are {tasks})") from error

    def _on_host(self, gradients: TaskGradients) -> tuple[Floats, Floats, float, Floats | None]:
        """Losses (T,), layer Gramians (K, T, T), the peak of the head gradients and the Gramian of those of z, if any.

        All in one copy from the device.
        """
        tasks = len(self._names)
        parts = [gradients.losses.double(), self.gradients.head_peak(gradients).reshape(1)]
        of_z = gradients.representation
        parts += [self.gradients.layer_gramians(gradients).flatten(), *([] if of_z is None else [of_z.flatten()])]
        whole = torch.cat(parts).cpu()
        if self._ranks is not None:
            self._ranks.tell_(whole)  # so that all weigh by the very same numbers
        packed = whole.numpy()
        cube = packed[tasks + 1 :].reshape(-1, tasks, tasks)
        cube = (cube + cube.transpose(0, 2, 1)) / 2
        layers, last = (cube, None) if of_z is None else (cube[:-1], cube[-1])
        return packed[:tasks], layers, float(packed[tasks]), last
