"""What an aggregator is: a method that sees the task gradients themselves and gives the direction of the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from mtlviz.gradients.shared import TaskGradients
from mtlviz.runlog.records import Floats
from mtlviz.weighting.kernels import Mask
from mtlviz.weighting.method import Method


@dataclass(frozen=True)
class StepView:
    """What an aggregator sees of one step.

    losses: (T,) and gramian: (T, T), on the host, NaN where a task is absent. present: (T,) on the host.
    gradients: of the batch, on the device; its Jacobian (T, P) is the engine's own and must not be changed.
    layers: the columns of the Jacobian that belong to each layer. another: gradients of a further, independent batch, a
    new one at each call; their Jacobian is valid until the next.
    representation: (T, T) Gramian of the gradients of the shared representation, on the host, where one was asked for.
    """

    losses: Floats
    gramian: Floats
    present: Mask
    gradients: TaskGradients
    layers: Mapping[str, slice]
    another: Callable[[], TaskGradients]
    representation: Floats | None = None


class Combined(NamedTuple):
    """How the task gradients are combined: weights (T,), and the direction (P,) where it is not Jᵀw, else None."""

    weights: Floats
    direction: torch.Tensor | None = None


class Reading(NamedTuple):
    """A number that an aggregator adds to the log, as a measure `name`: of a task, and of a layer or the whole."""

    name: str
    task: int
    layer: str | None
    value: float


class Aggregator(Method, ABC, abstract=True):
    """A method that combines the rows of the Jacobian (T, P) on its device.

    Its direction need not be a combination Jᵀw. The log then keeps the weights whose combination comes nearest, and a
    measure "outside_span" says how much of the direction's length no weights explain.
    """

    leaves_out: bool = False  # whether it balances the present tasks alone, also where others have gradients
    moves: bool = False  # whether it steps the shared parameters itself: θ ← θ − lr · direction, no optimizer

    @abstractmethod
    def combine(self, view: StepView) -> Combined:
        """The weights and the direction of this step; steps the state."""

    def observe(self, losses: torch.Tensor) -> None:
        """Told the losses (T,) of the same batch after the update, where `needs` names "losses_after"."""

    def readings(self) -> Iterable[Reading]:
        """What the log should keep besides; asked after a step."""
        return ()

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """Numbers of its own for the run's optimizer to learn."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """The state, of plain values and tensors."""
        return {"method": self.name}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""


def nearest_weights(view: StepView, direction: torch.Tensor) -> Floats:
    """The w (T,) of least length that minimises ‖direction − Jᵀw‖, 0 where a task is absent.

    With r_t = ‖g_t‖ and C the Gramian of the unit gradients, r w = C⁺ (J d / r).
    """
    weights = np.zeros(len(view.present))
    tasks = np.flatnonzero(view.present & (np.nan_to_num(np.diag(view.gramian)) > 0))
    if len(tasks):
        products = _products(view, direction).cpu().numpy()[tasks]
        r = np.sqrt(np.diag(view.gramian)[tasks])
        cosines = view.gramian[np.ix_(tasks, tasks)] / r[:, None] / r
        weights[tasks] = np.linalg.lstsq(cosines, products / r, rcond=1e-12)[0] / r
    return weights


def outside_span(view: StepView, combined: Combined) -> float:
    """‖d − Jᵀw‖ / ‖d‖ of a combination with a direction of its own; 0 where the direction is 0."""
    direction = combined.direction
    if direction is None:
        return 0.0
    weights = torch.from_numpy(combined.weights).to(direction.device)
    parts = [
        direction[span].double() - weights @ view.gradients.jacobian[:, span].double() for span in view.layers.values()
    ]
    length = float(direction.double().norm())
    return float(torch.cat(parts).norm()) / length if length else 0.0


def _products(view: StepView, direction: torch.Tensor) -> torch.Tensor:
    """J d (T,) in float64, layer by layer, so that there is never a copy of the whole Jacobian."""
    jacobian = view.gradients.jacobian
    each = [jacobian[:, span].double() @ direction[span].double() for span in view.layers.values()]
    return torch.stack(each).sum(dim=0)
