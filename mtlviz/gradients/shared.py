"""Per-task gradients on the shared parameters: one pass forward, one backward a task, and no second backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from mtlviz.data.parts import Part
from mtlviz.data.splits import Batch
from mtlviz.errors import ProblemError
from mtlviz.gradients.blocks import Block, Rows
from mtlviz.gradients.chain import Passed, chain_of
from mtlviz.gradients.heads import Headed, Heads
from mtlviz.gradients.layers import spans_of
from mtlviz.gradients.layerwise import Layerwise
from mtlviz.gradients.ranks import Ranks
from mtlviz.gradients.task_gradients import TaskGradients
from mtlviz.gradients.whole_batch import gathered, pays
from mtlviz.gradients.whole_heads import of_all, of_part
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.task import Task

__all__ = ["SharedGradients", "TaskGradients"]


class SharedGradients:
    """Computes `TaskGradients` of a model, its Gramians, and sets `.grad` from weights.

    The graph is cut at the shared representation z: one backward through all heads gives ∂L_t/∂z for every task, and
    one vector-Jacobian product a task carries it through the trunk: by hand where that is a chain of Linear layers and
    activations, else by autograd, layer by layer (`Layerwise`). A layer keeps what is cheaper, the tasks' rows of the
    Jacobian or the factors of these; both give Gramian and weighted gradient, so that there need be no Jacobian.

    representation: also give the Gramian of the gradients of z. jacobian: it will be asked for, so keep it as it is
    taken. ranks: processes that compute a `Part` of each batch each; what is given is then of the whole batch, and the
    same in all of them.
    """

    def __init__(
        self,
        model: SharedTrunk,
        tasks: Sequence[Task],
        *,
        representation: bool = False,
        jacobian: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.tasks, self.representation, self._whole = model, tuple(tasks), representation, jacobian
        self._ranks, self._engine = ranks, Layerwise(model.trunk, weighted=True, ranks=ranks)
        self.parameters, self.layers = self._engine.parameters, self._engine.layers
        if len({(p.dtype, p.device) for p in self.parameters}) > 1:
            raise ProblemError("the shared parameters must have one dtype and one device")
        self._layer_spans = list(spans_of(self._engine.parts).values())
        self._spans = _spans([p.numel() for p in self.parameters])
        self._heads = Heads(model, [task.name for task in self.tasks])
        plain = type(model).routed is SharedTrunk.routed and type(model).represent is SharedTrunk.represent
        self._chain = chain_of(model.trunk, self._engine.parts) if plain else None
        self._by_hand: tuple[int, int] | None = None  # layers by factors and by rows in the last batch

    @property
    def name(self) -> str:
        """What it did with the layers of the last batch."""
        if self._by_hand is None:
            return self._engine.name
        return "by hand ({} ghost, {} rows)".format(*self._by_hand)

    @property
    def held(self) -> int:
        """Bytes of the memory that it writes rows into, the same from batch to batch."""
        return self._engine.held

    def of(self, batch: Batch) -> TaskGradients:
        """Losses and gradients of the tasks that `batch` labels; its tensors are on the model's device.

        Raises: ProblemError for a loss that is no scalar, does not fit its head, or reaches no shared parameter.
        """
        if self._chain is not None and self._chain.takes(batch.inputs):
            passed = self._chain.forward(batch.inputs)
            heads = self._headed(batch, passed.z, batch.rows)
            return self._made(heads, passed.z, *self._through_chain(passed, heads))
        with self._engine.tape.running():
            z, rows = self.model.routed(batch.inputs, batch.rows)
        if not z.requires_grad:
            raise ProblemError("the trunk's output does not depend on its parameters (is it computed under no_grad?)")
        heads = self._headed(batch, z, rows)
        return self._made(heads, z, *self._through_trunk(z, heads))

    def _headed(self, batch: Batch, z: torch.Tensor, rows: Mapping[str, torch.Tensor | slice]) -> Headed:
        """What the heads say: of a part of a batch, what it adds to the whole."""
        heads = self._heads(self.tasks, z, rows, batch.targets)
        if self._ranks is None:
            return heads
        return of_part(heads, self._shares(batch), z.detach())

    def _shares(self, batch: Batch) -> list[float | None]:
        """(T,) which share of a task's samples is here; None where it is absent everywhere."""
        assert isinstance(batch, Part), "every rank has its part of a batch"
        return [batch.share(task.name) if batch.samples(task.name) else None for task in self.tasks]

    def _made(self, heads: Headed, z: torch.Tensor, blocks: Sequence[Block], used: tuple[bool, ...]) -> TaskGradients:
        present = tuple(row is not None for row in heads.cotangents)
        shared: torch.Tensor | Sequence[Block] = blocks
        if not any(present):
            shared = torch.zeros(len(present), self._spans[-1].stop, dtype=self._engine.dtype, device=z.device)
        elif all(present) and all(isinstance(block, Rows) for block in blocks):
            shared = self._engine.rows(len(present), self._spans[-1].stop)  # where the blocks are, side by side
        of_z = _gramian_of(heads.cotangents, z) if self.representation else None
        if self._ranks is not None:
            own = [(t, p) for t, there in enumerate(present) if there for p in self._own(t)]
            heads, of_z = of_all(heads, own, self._ranks, of_z)
        return TaskGradients(heads.losses, present, shared, heads.grads, used, of_z)

    def _through_chain(self, passed: Passed, heads: Headed) -> tuple[Sequence[Block], tuple[bool, ...]]:
        """Blocks of the tasks that are present, and which parameters they reach."""
        assert self._chain is not None
        there = [row for row in heads.cotangents if row is not None]
        if not there:
            return (), (False,) * len(self.parameters)
        B, n, layers = passed.z.shape[0], len(there), self._engine.parts
        ghosts, places = self._chain.ghosts(B, n, whole=self._whole), [B]
        if self._ranks is not None:
            places = self._ranks.meet("the layers of the trunk", places)[:, 0].tolist()
            ghosts = [not self._whole and pays(layer, places, n, weighted=True) for layer in layers]
        self._by_hand = sum(ghosts), len(ghosts) - sum(ghosts)
        size = sum(layer.size for layer, ghost in zip(layers, ghosts, strict=True) if not ghost)
        D, rows = torch.stack(there) if heads.together is None else heads.together, self._engine.rows(n, size)
        blocks = self._chain.blocks(passed, D, ghosts, rows)
        if self._ranks is not None:
            self._ranks.sum_(rows)
            blocks = gathered(blocks, layers, [places if ghost else () for ghost in ghosts], n, self._ranks)
        return blocks, (True,) * len(self.parameters)

    def _through_trunk(self, z: torch.Tensor, heads: Headed) -> tuple[Sequence[Block], tuple[bool, ...]]:
        """Blocks of the tasks that are present, and which parameters they reach; adds the gradients of alignments."""
        self._by_hand = None
        there = [(t, row) for t, row in enumerate(heads.cotangents) if row is not None]
        if not there:
            self._engine.tape.clear()
            return (), (False,) * len(self.parameters)
        own = [self.model.alignment_parameters(self.tasks[t].name) for t, _ in there]
        found = self._engine.measured([(z, row) for _, row in there], retain=False, own=own, whole=self._whole)
        for (t, _), grads in zip(there, found.own, strict=True):
            heads.grads.update((parameter, (t, grad)) for parameter, grad in grads.items())
        return found.blocks, found.used

    def losses(self, batch: Batch) -> torch.Tensor:
        """The losses (T,) of the batch at the present parameters, NaN where a task is absent; no gradients."""
        own = self._own_losses(batch)
        if self._ranks is None:
            return own
        known = [torch.nan if share is None else share for share in self._shares(batch)]
        shares = torch.tensor(known, dtype=own.dtype, device=own.device)
        return self._ranks.sum_(torch.where(shares == 0, 0.0, own * shares))

    def _own_losses(self, batch: Batch) -> torch.Tensor:
        losses = torch.full((len(self.tasks),), torch.nan, dtype=self._engine.dtype, device=self._engine.device)
        with torch.no_grad():
            z, rows = self.model.routed(batch.inputs, batch.rows)
            for number, task in enumerate(self.tasks):
                if task.name in rows:
                    output = self.model.output(task.name, z[rows[task.name]])
                    losses[number] = task.value(output, batch.targets[task.name])
        return losses

    def layer_gramians(self, gradients: TaskGradients) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the K layers; their sum is the Gramian of the trunk."""
        return gradients.gramians(self._layer_spans)

    def _own(self, number: int) -> list[nn.Parameter]:
        """What trains for a task alone: its head, and its alignment."""
        return [*self._heads.own(number), *self.model.alignment_parameters(self.tasks[number].name)]

    def layer_spans(self) -> dict[str, slice]:
        """Each layer's columns of the Jacobian."""
        return dict(zip(self.layers, self._layer_spans, strict=True))

    def move(self, direction: torch.Tensor, rates: Mapping[nn.Parameter, float]) -> None:
        """θ ← θ − rate · direction for the shared parameters, each with the learning rate of its own group."""
        with torch.no_grad():
            for parameter, span in zip(self.parameters, self._spans, strict=True):
                parameter.sub_(rates.get(parameter, 0.0) * direction[span].view_as(parameter))

    def head_peak(self, gradients: TaskGradients) -> torch.Tensor:
        """The largest entry of all head gradients, a float64 scalar: NaN or infinite where one of them is."""
        grads = [grad for _, grad in gradients.heads.values()]
        if not grads:
            return torch.zeros((), dtype=torch.float64, device=gradients.losses.device)
        return torch.nn.utils.get_total_norm(grads, norm_type=torch.inf).double()

    def set_grad(
        self,
        gradients: TaskGradients,
        weights: torch.Tensor,
        *,
        heads: str,
        direction: torch.Tensor | None = None,
        exact: bool = False,
    ) -> None:
        """Sets `.grad`: Jᵀw on the shared parameters; on the heads that of Σ L_t ("sum") or Σ w_t L_t ("weighted").

        weights: (T,) float64. direction: (P,) in place of Jᵀw. exact: sum Jᵀw in float64. A parameter
        that no present task reaches gets None, as after `backward()`.
        """
        if direction is None:
            direction = gradients.weighted(weights, exact=exact)
        for parameter, span, used in zip(self.parameters, self._spans, gradients.used, strict=True):
            parameter.grad = direction[span].view_as(parameter) if used else None
        for number in range(len(self.tasks)):
            for parameter in self._own(number):
                parameter.grad = None
        for parameter, (number, grad) in gradients.heads.items():
            parameter.grad = grad if heads == "sum" else grad * weights[number].to(grad.dtype)


def _gramian_of(cotangents: Sequence[torch.Tensor | None], z: torch.Tensor) -> torch.Tensor:
    """(T, T) float64 inner products of the gradients of z; zeros where a task is absent."""
    rows = torch.stack([torch.zeros_like(z) if row is None else row for row in cotangents]).flatten(1).double()
    return rows @ rows.T


def _spans(sizes: Sequence[int]) -> list[slice]:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return [slice(a, b) for a, b in pairwise(starts)]
