"""Soft labels: what a task's outputs say in place of its true labels, and the losses that take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

MISSING = -100  # an integer target without a label, as in torch's ignore_index; a float target says NaN
KINDS = ("multiclass", "binary", "multilabel", "regression")

_KIND_OF: dict[Any, str] = {
    F.cross_entropy: "multiclass",
    nn.CrossEntropyLoss: "multiclass",
    F.binary_cross_entropy_with_logits: "multilabel",
    nn.BCEWithLogitsLoss: "multilabel",
    F.mse_loss: "regression",
    nn.MSELoss: "regression",
    F.l1_loss: "regression",
    nn.L1Loss: "regression",
    F.smooth_l1_loss: "regression",
    nn.SmoothL1Loss: "regression",
    F.huber_loss: "regression",
    nn.HuberLoss: "regression",
}
_SETTINGS = ("weight", "pos_weight", "ignore_index", "label_smoothing", "reduction")


@dataclass(frozen=True)
class SoftLabels:
    """Soft labels of a user's own, for a task whose loss mtlviz does not know.

    labels: outputs (N, ...) -> soft labels (N, ...), floats. With `outputs=1` outputs arrive as (N,).
    loss: (outputs, soft labels) -> scalar, the mean over the samples; the task's own loss where it is left out.
    """

    labels: Callable[[torch.Tensor], torch.Tensor]
    loss: Loss | None = None


@dataclass(frozen=True)
class SoftForm:
    """How a task's outputs become soft labels, and what its true targets look like beside them.

    kind: one of `KINDS`, or None for `SoftLabels` of a user's own. ignored: the class that the loss ignores.
    smoothing: how much the loss smooths true labels.
    """

    kind: str | None
    labels: Callable[[torch.Tensor], torch.Tensor]
    loss: Loss
    ignored: int = MISSING
    smoothing: float = 0.0

    def missing(self, targets: torch.Tensor) -> torch.Tensor:
        """Which elements of true targets (N, ...) carry no label, as booleans of the same shape."""
        if targets.is_floating_point():
            return torch.isnan(targets)
        return (targets == MISSING) | (targets == self.ignored)

    def hard(self, targets: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """True targets (N, ...) in the form of soft labels `like`: one-hot along dimension 1 where that has classes.

        NaN where a target carries no label. Raises: ValueError where the two do not fit.
        """
        if like.dim() == 2 and like.shape[1] == 1 and targets.dim() == 1:
            like = like.squeeze(1)
        missing = self.missing(targets)
        if targets.shape == like.shape:
            labels = targets.to(like.dtype)
            if self.smoothing and labels.dim() > 1:
                labels = (1 - self.smoothing) * labels + self.smoothing / labels.shape[1]
            return labels.masked_fill(missing, torch.nan)
        if targets.is_floating_point() or like.dim() < 2 or targets.shape != (*like.shape[:1], *like.shape[2:]):
            raise ValueError(f"true targets {tuple(targets.shape)} do not fit soft labels {tuple(like.shape)}")
        rest = self.smoothing / like.shape[1]
        classes = targets.masked_fill(missing, 0).long().unsqueeze(1)
        labels = torch.full_like(like, rest).scatter_(1, classes, 1 - self.smoothing + rest)
        return labels.masked_fill(missing.unsqueeze(1), torch.nan)


@dataclass(frozen=True)
class SoftLoss:
    """The loss of a task that learns soft labels; `hard` is the loss of its true ones."""

    form: SoftForm
    hard: Loss = field(repr=False)

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The scalar loss of outputs (N, ...) against soft labels (N, ...); whole numbers are true labels."""
        if not labels.is_floating_point():
            return self.hard(outputs, labels)  # of a validation split, whose fit is tried too
        return self.form.loss(outputs, labels.to(outputs.dtype))


def form_of(loss: Loss, soft: str | SoftLabels | None) -> SoftForm | None:
    """How the outputs of a task with this loss become soft labels; None where nobody said and the loss is not known.

    A loss of torch keeps its settings. Class weights and `pos_weight` weigh each sample by what its soft labels weigh
    on average, so that the loss of a one-hot label is the supervised one and the gradient vanishes where the outputs
    are the soft labels themselves. `label_smoothing` is left to the true labels: soft ones are smooth.
    The absolute error is the exception: its gradient has full size wherever another batch rounds outputs otherwise.
    """
    if isinstance(loss, SoftLoss):
        return loss.form
    if isinstance(soft, SoftLabels):
        return SoftForm(None, soft.labels, loss if soft.loss is None else soft.loss)
    known, settings = _known(loss)
    kind = known if soft is None else soft
    if kind is None:
        return None
    if known != kind and {known, kind} != {"binary", "multilabel"}:
        settings = {}
    reduction = settings.get("reduction", "mean")
    if kind == "regression":
        return SoftForm(kind, _as_they_are, loss)
    if kind != "multiclass":
        weight, pos_weight = settings.get("weight"), settings.get("pos_weight")
        soft_loss = partial(_binary, weight=weight, pos_weight=pos_weight, reduction=reduction)
        return SoftForm(kind, torch.sigmoid, soft_loss)
    return SoftForm(
        kind,
        _softmax,
        partial(_multiclass, weight=settings.get("weight"), reduction=reduction),
        ignored=settings.get("ignore_index", MISSING),
        smoothing=settings.get("label_smoothing", 0.0),
    )


def _known(loss: Any) -> tuple[str | None, dict[str, Any]]:
    """The kind of a loss of torch, None for any other, and the settings it was given."""
    settings: dict[str, Any] = {}
    while isinstance(loss, partial) and not loss.args:
        settings = loss.keywords | settings
        loss = loss.func
    if isinstance(loss, nn.Module):
        settings = {name: getattr(loss, name) for name in _SETTINGS if hasattr(loss, name)} | settings
        return _KIND_OF.get(type(loss)), settings
    return next((kind for known, kind in _KIND_OF.items() if known is loss), None), settings


def _softmax(outputs: torch.Tensor) -> torch.Tensor:
    return torch.softmax(outputs, dim=1)


def _as_they_are(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.clone()


def _multiclass(
    outputs: torch.Tensor, labels: torch.Tensor, *, weight: torch.Tensor | None, reduction: str
) -> torch.Tensor:
    """Cross-entropy of logits (N, C, ...) against probabilities (N, C, ...); a NaN leaves its place out."""
    labels, known = _without_nan(outputs, labels)
    if weight is None:
        share = known.all(dim=1).to(outputs.dtype)  # (N, ...)
    else:
        share = (labels * weight.view(-1, *[1] * (labels.dim() - 2))).sum(dim=1)
    total = (-(labels * torch.log_softmax(outputs, dim=1)).sum(dim=1) * share).sum()
    return total if reduction == "sum" else total / share.sum()


def _binary(
    outputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    weight: torch.Tensor | None,
    pos_weight: torch.Tensor | None,
    reduction: str,
) -> torch.Tensor:
    """Binary cross-entropy of logits (N, ...) against probabilities (N, ...); a NaN leaves its place out."""
    labels, known = _without_nan(outputs, labels)
    terms = F.binary_cross_entropy_with_logits(outputs, labels, weight=weight, reduction="none") * known
    if pos_weight is not None:
        terms = terms * (1 + (pos_weight - 1) * labels)
    return terms.sum() if reduction == "sum" else terms.sum() / known.sum()


def _without_nan(outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels with 0 for NaN, and where there was a number. Raises: ValueError where shapes differ."""
    if labels.shape != outputs.shape:
        raise ValueError(f"soft labels {tuple(labels.shape)} do not fit outputs {tuple(outputs.shape)}")
    known = ~torch.isnan(labels)
    return labels.masked_fill(~known, 0.0), known
