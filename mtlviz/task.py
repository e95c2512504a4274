"""A task: what it is called, how it is learned and how it is judged."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import torch

from mtlviz.errors import ProblemError, unknown
from mtlviz.metrics import Direction, Metric, metric_of
from mtlviz.soft_labels import KINDS, Loss, SoftForm, SoftLabels, SoftLoss, form_of


@dataclass(frozen=True)
class Task:
    """One task of a problem.

    name: unique within the problem; any text.
    loss: (outputs, targets) -> scalar, the mean over the labelled samples of the batch, such as `F.cross_entropy`.
        With `outputs=1` and targets of shape (N,), outputs arrive as (N,).
    metric: one of `mtlviz.metrics.METRICS`, or a function of arrays (outputs (N, ...), targets (N, ...)) -> float.
    outputs: the size of the head's last dimension.
    direction: "max" or "min", the way the metric gets better; known for named metrics.
    scale: what the loss is multiplied by, above 0; the loss that is trained and logged is the scaled one.
    soft: how outputs become soft labels in distillation: "multiclass" (softmax over dimension 1), "binary" or
        "multilabel" (sigmoid), "regression" (as they are), or `SoftLabels` of your own. It need not be said for torch's
        cross_entropy, binary_cross_entropy_with_logits, mse, l1, smooth_l1 and huber loss, as functions, modules or
        functools.partial of them.

    Raises: ProblemError for an empty name, a loss that cannot be called, outputs below 1, an unknown metric, a scale
    that is not a finite number above 0 or an unknown kind of soft labels.
    """

    name: str
    loss: Loss = field(kw_only=True)
    metric: str | Callable[..., float] = field(kw_only=True)
    outputs: int = field(kw_only=True)
    direction: Direction | None = field(default=None, kw_only=True)
    scale: float = field(default=1.0, kw_only=True)
    soft: str | SoftLabels | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ProblemError(f"a task needs a name that is not empty, got {self.name!r}")
        if not callable(self.loss):
            raise ProblemError(
                f"task {self.name!r}: loss must be a function (outputs, targets) -> scalar, got {self.loss!r}"
            )
        if isinstance(self.outputs, bool) or not isinstance(self.outputs, int) or self.outputs < 1:
            raise ProblemError(f"task {self.name!r}: outputs must be a whole number from 1, got {self.outputs!r}")
        if not isinstance(self.scale, Real) or not (math.isfinite(self.scale) and self.scale > 0):
            raise ProblemError(f"task {self.name!r}: scale must be a finite number above 0, got {self.scale!r}")
        if self.soft is not None and not isinstance(self.soft, SoftLabels) and self.soft not in KINDS:
            told = unknown("soft labels", self.soft, KINDS)
            raise ProblemError(f"task {self.name!r}: {told}, or give an mtlviz.SoftLabels")
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "direction", self.judge.direction)

    @property
    def judge(self) -> Metric:
        """The metric with its name, label and direction."""
        return metric_of(self.metric, self.direction, self.name)

    @property
    def loss_name(self) -> str:
        """What the log calls the loss."""
        loss = self.loss.hard if isinstance(self.loss, SoftLoss) else self.loss
        return getattr(loss, "__name__", type(loss).__name__)

    def value(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The task's scalar loss, times its scale, of outputs (N, ...) against targets (N, ...).

        Raises: ProblemError where outputs and targets do not fit the loss, or the loss is not a scalar.
        """
        outputs = squeezed(outputs, targets)
        try:
            loss: Any = self.loss(outputs, targets)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise self._misfit(outputs, targets, error) from error
        if not isinstance(loss, torch.Tensor) or loss.dim() != 0:
            came = _shape(loss) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise ProblemError(
                f"task {self.name!r}: {self.loss_name} must return a scalar tensor, the mean over the samples; "
                f"it returned {came}"
            )
        return loss if self.scale == 1 else self.scale * loss

    def check_fit(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Tries the loss of a head's outputs (N, ...), as `value` does, and what only a first look can afford.

        Raises: ProblemError also where the head's size is not `outputs`, or shapes fit each other only by broadcasting.
        """
        sizes = {1} if outputs.dim() < 2 else {outputs.shape[1], outputs.shape[-1]}  # (N, C, H, W) has C classes
        if self.outputs not in sizes:
            raise ProblemError(
                f"task {self.name!r} has outputs={self.outputs}, but its head returned {_shape(outputs)}"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size", category=UserWarning)  # it broadcasts
            try:
                self.value(outputs, targets)
            except UserWarning as warning:
                raise self._misfit(squeezed(outputs, targets), targets, warning) from warning

    @property
    def soft_form(self) -> SoftForm:
        """How outputs become soft labels. Raises: ProblemError where neither `soft` nor a known loss says it."""
        form = form_of(self.loss, self.soft)
        if form is None:
            raise ProblemError(
                f"task {self.name!r}: nobody knows the soft labels of {self.loss_name}; say soft= one of "
                f"{', '.join(KINDS)}, or give an mtlviz.SoftLabels"
            )
        return form

    def soft_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """What outputs (N, ...) say as soft labels (N, ...), floats without a graph; of outputs (N, 1) they are (N,).

        Raises: ProblemError where the task knows no soft labels, or cannot make them of these outputs.
        """
        form, outputs = self.soft_form, outputs.detach()
        if outputs.dim() == 2 and outputs.shape[1] == 1:
            outputs = outputs.squeeze(1)
        if outputs.dtype in (torch.float16, torch.bfloat16):  # which would round a probability to 3 digits
            outputs = outputs.float()
        try:
            labels: Any = form.labels(outputs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ProblemError(f"task {self.name!r}: no soft labels of outputs {_shape(outputs)}: {error}") from error
        if not isinstance(labels, torch.Tensor) or labels.shape[:1] != outputs.shape[:1]:
            came = _shape(labels) if isinstance(labels, torch.Tensor) else type(labels).__name__
            raise ProblemError(f"task {self.name!r}: soft labels need a row for each of {len(outputs)}, got {came}")
        if not labels.is_floating_point():
            raise ProblemError(f"task {self.name!r}: soft labels must be floats, got {_shape(labels)}")
        return labels.detach()

    def with_soft_loss(self) -> Task:
        """The same task with the same loss taken of soft labels (N, ...); NaN in them leaves a place out.

        Raises: ProblemError where the task knows no soft labels.
        """
        if isinstance(self.loss, SoftLoss):
            return self
        return replace(self, loss=SoftLoss(self.soft_form, self.loss))

    def hard_as_soft(self, targets: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """True targets (N, ...) in the form of soft labels, by which the soft loss is the supervised one.

        like: outputs or soft labels of the same samples. Integer classes become one-hot, smoothed where the loss
        smooths them; NaN where a target carries no label.

        Raises: ProblemError where the task knows no soft labels, or the shapes do not fit.
        """
        try:
            return self.soft_form.hard(targets, like.detach())
        except (RuntimeError, ValueError) as error:
            raise ProblemError(f"task {self.name!r}: {error}") from error

    def _misfit(self, outputs: torch.Tensor, targets: torch.Tensor, why: Exception) -> ProblemError:
        return ProblemError(
            f"task {self.name!r}: {self.loss_name} failed on outputs {_shape(outputs)} and targets {_shape(targets)}: "
            f"{str(why).rstrip('.')}. Does the head (outputs={self.outputs}) fit the loss and its targets?"
        )


def squeezed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Outputs (N, 1) as (N,) where the targets are (N,), so that no loss broadcasts them to (N, N)."""
    return outputs.squeeze(1) if outputs.dim() == 2 and outputs.shape[1] == 1 and targets.dim() == 1 else outputs


def _shape(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
