"""TorchJD's weightings, aggregators and scalarizers as aggregators of mtlviz."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, get_args

import numpy as np
import torch
import torchjd
from torchjd.aggregation import Aggregator as PeerAggregator
from torchjd.aggregation import MoDoWeighting, SDMGradWeighting, WeightedAggregator
from torchjd.aggregation import Weighting as PeerWeighting
from torchjd.linalg import Matrix, PSDMatrix
from torchjd.scalarization import Scalarizer

from mtlviz.errors import WeightingError
from mtlviz.gradients.aggregator import Aggregator, Combined, StepView, nearest_weights
from mtlviz.interop.torchjd.states import bring_back, place, state_of
from mtlviz.randomness import derived_seed, seeded
from mtlviz.weighting.method import Heads


def adapted(given: object, *, epoch: Callable[[], int]) -> Aggregator:
    """A TorchJD weighting, aggregator or scalarizer as an aggregator of mtlviz; it works on a copy, from the start.

    As in TorchJD's own examples, a weighting's weights and a scalarizer's gradient weigh the losses on the heads too;
    with an aggregator the heads get the gradient of Σ L_t, as from `mtl_backward`. MoDo and SDMGrad get J₁ J₂ᵀ of two
    batches that are independent of each other and of the step's own, on which the update is made (batch normalisation
    counts all three).

    epoch: tells the steps after which a scalarizer's `step()` is called (TorchJD's DWA counts epochs).

    Raises: WeightingError for anything else of TorchJD, and for a weighting of which nobody can tell what it reads.
    """
    if isinstance(given, Scalarizer):
        return _OfScalarizer(copy.deepcopy(given), epoch)
    if isinstance(given, PeerWeighting):
        return _OfWeighting(copy.deepcopy(given), _reads(given))
    if isinstance(given, WeightedAggregator):
        return _OfWeighting(copy.deepcopy(given.weighting), "jacobian", shown=given)
    if isinstance(given, PeerAggregator):
        return _OfAggregator(copy.deepcopy(given))
    raise WeightingError(f"weighting must be a Weighting, an Aggregator or a Scalarizer of TorchJD, got {given!r}")


def _reads(weighting: Any) -> str:
    """What a TorchJD weighting is a function of: "gramian", "crossed" (J₁ J₂ᵀ of two batches) or "jacobian".

    Several weightings for the Jacobian take a square Gramian for one without a word, so their declared type decides.
    """
    if isinstance(weighting, (MoDoWeighting, SDMGradWeighting)):
        return "crossed"
    for cls in type(weighting).__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            if PSDMatrix in get_args(base):
                return "gramian"
            if Matrix in get_args(base):
                return "jacobian"
    if hasattr(weighting, "fn"):  # a composition, weighting << fn, whose fn makes the statistic of a matrix
        return "jacobian"
    if isinstance(getattr(weighting, "weighting", None), PeerWeighting):  # CR-MOGM smooths another
        return _reads(weighting.weighting)
    raise WeightingError(
        f"nobody can tell whether {type(weighting).__name__} reads a Gramian or a Jacobian; derive it from "
        "Weighting[PSDMatrix] or Weighting[Matrix] (torchjd.linalg)"
    )


_ALL = (
    "a labelled sample of every task in every batch: use larger batches, and no schedule in which tasks wait "
    "(Sequential, Continual), where no batch has them all"
)


class _Adapted(Aggregator, abstract=True):
    """What the adapters share: random numbers of the step's own, a state to forget, and tasks that are away."""

    def __init__(self, given: Any, shown: object = None) -> None:
        self.given, self._shown = given, repr(given if shown is None else shown)
        self.name = f"torchjd.{type(given if shown is None else shown).__name__}"
        self._stateful = [part for part in given.modules() if isinstance(part, torchjd.Stateful)]
        self._placed = False
        self.reset()

    def settings(self) -> dict[str, Any]:
        """The object, as it describes itself."""
        return {"torchjd": self._shown}

    def reset(self, seed: int = 0) -> None:
        """Resets the object, and its random numbers."""
        self._seed, self._calls = seed, 0
        for part in self._stateful:
            part.reset()

    @property
    def leaves_out(self) -> bool:  # type: ignore[override]
        """Whether it balances the present tasks alone: one with a state per task cannot."""
        return not self._stateful

    def state_dict(self) -> dict[str, Any]:
        """The object's own state, and how often it was asked. Raises: WeightingError for what cannot be kept."""
        own = state_of(self.given, self.name)
        return {"method": self.name, "calls": self._calls, "placed": self._placed, "object": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`. Raises: WeightingError for the state of another method."""
        if state.get("method") != self.name:
            raise WeightingError(f"{self.name} cannot go on from the state of {state.get('method')!r}")
        self._calls, self._placed = int(state["calls"]), bool(state["placed"])
        bring_back(self.given, state["object"])

    def _call(self, view: StepView, statistic: torch.Tensor) -> torch.Tensor:
        """What the object says of its statistic."""
        if not self._placed:
            place(self.given, statistic)
            self._placed = True
        try:
            with seeded(derived_seed(self._seed, self._calls), statistic.device):
                self._calls += 1
                return self.given(statistic)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            away = "" if view.present.all() else f" A task is absent from this batch; numbers per task need {_ALL}."
            raise WeightingError(f"{self.name} failed on {tuple(statistic.shape)}: {error}{away}") from error

    def _rows(self, view: StepView) -> torch.Tensor:
        """The tasks that are present (n,), on the device of the gradients."""
        if self._stateful and not view.present.all():
            raise WeightingError(
                f"{self.name} keeps a state per task and needs {_ALL}; or use a weighting of mtlviz, which keeps the "
                "state of a task that is away"
            )
        return torch.from_numpy(np.flatnonzero(view.present)).to(view.gradients.losses.device)

    def _spread(self, view: StepView, weights: torch.Tensor) -> np.ndarray:
        whole = np.zeros(len(view.present))
        whole[view.present] = weights.detach().double().cpu().numpy()
        return whole


class _OfWeighting(_Adapted):
    name, needs = "torchjd", frozenset({"jacobian"})
    heads: Heads = "weighted"

    def __init__(self, given: Any, reads: str, shown: object = None) -> None:
        super().__init__(given, shown)
        self._reads = reads
        if shown is not None:  # it is an aggregator's
            self.heads = "sum"

    def combine(self, view: StepView) -> Combined:
        rows = self._rows(view)
        if len(rows) == 0:
            return Combined(np.zeros(len(view.present)))
        if self._reads == "gramian":
            present = np.flatnonzero(view.present)
            statistic = torch.from_numpy(view.gramian[np.ix_(present, present)].copy())
        elif self._reads == "jacobian":
            statistic = view.gradients.jacobian[rows].clone()
        else:
            statistic = self._crossed(view).to(view.gradients.jacobian)
        return Combined(self._spread(view, self._call(view, statistic)))

    def _crossed(self, view: StepView) -> torch.Tensor:
        """J₁ J₂ᵀ (T, T) in float64."""
        factors = []
        for _ in range(2):
            other = view.another()
            if not all(other.present):
                raise WeightingError(
                    f"{self.name} needs a labelled sample of every task in two further batches; use larger ones"
                )
            factors.append(other.jacobian.to(torch.float64, copy=True))  # the next batch takes its place
        return factors[0] @ factors[1].T


class _OfAggregator(_Adapted):
    name, needs, heads = "torchjd", frozenset({"jacobian"}), "sum"

    def combine(self, view: StepView) -> Combined:
        rows = self._rows(view)
        if len(rows) == 0:
            return Combined(np.zeros(len(view.present)))
        direction = self._call(view, view.gradients.jacobian[rows].clone()).detach()
        return Combined(nearest_weights(view, direction), direction)


class _OfScalarizer(_Adapted):
    name, needs, heads = "torchjd", frozenset({"losses"}), "weighted"

    def __init__(self, given: Any, epoch: Callable[[], int]) -> None:
        super().__init__(given)
        self._epoch = epoch() if hasattr(given, "step") else 0
        if hasattr(given, "update"):  # FAMO looks at the losses after the step
            self.needs = frozenset({"losses", "losses_after"})

    def combine(self, view: StepView) -> Combined:
        rows = self._rows(view)
        if len(rows) == 0:
            return Combined(np.zeros(len(view.present)))
        values = view.gradients.losses.detach()[rows].requires_grad_()
        own = [p for p in self.given.parameters() if p.requires_grad]
        with torch.enable_grad():
            value = self._call(view, values)
            weights, *grads = torch.autograd.grad(value, [values, *own], allow_unused=True)
        for parameter, grad in zip(own, grads, strict=True):
            parameter.grad = grad
        if self._epoch and self._calls % self._epoch == 0:
            self.given.step()
        return Combined(self._spread(view, weights if weights is not None else torch.zeros_like(values)))

    def observe(self, losses: torch.Tensor) -> None:
        self.given.update(losses)

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        return self.given.parameters()
