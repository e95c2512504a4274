"""Reading what a loop hands to its probe: losses, weights and sample counts of the tasks, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from mtlviz.errors import ProbeError, unknown

Losses = Mapping[str, torch.Tensor | None] | Sequence[torch.Tensor | None] | torch.Tensor
Numbers = Mapping[str, Any] | Sequence[Any] | torch.Tensor | np.ndarray


def read_losses(losses: Losses, names: Sequence[str], *, per_sample: bool) -> list[torch.Tensor | None]:
    """The losses in the order of the tasks, () each, or (B,) where `per_sample`; None where a task is absent.

    Raises: ProbeError for what is no loss of these tasks.
    """
    found = [_loss(name, value, per_sample) for name, value in zip(names, _each("losses", losses, names), strict=True)]
    if per_sample:
        sizes = {len(loss) for loss in found if loss is not None}
        if len(sizes) > 1:
            raise ProbeError(
                f"per-sample losses must be of the same samples; they have {' and '.join(map(str, sorted(sizes)))} rows"
            )
    return found


def _loss(name: str, value: Any, per_sample: bool) -> torch.Tensor | None:
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        raise ProbeError(
            f"the loss of {name!r} must be a tensor that backward() works on, got {type(value).__name__} {value!r:.9}; "
            "hand it over before .item(), float() or .numpy(), or None where the task is absent"
        )
    if not value.requires_grad:
        raise ProbeError(
            f"the loss of {name!r} has no graph (requires_grad is False): was it detached, or made under no_grad()? "
            "Hand over the loss that backward() works on, or None where the task is absent"
        )
    if not value.is_floating_point():
        raise ProbeError(f"the loss of {name!r} must be real, got {value.dtype}")
    if per_sample:
        if value.dim() != 1:
            raise ProbeError(
                f"noise=True without features needs per-sample losses: (B,) for {name!r}, got {tuple(value.shape)}. "
                'Use reduction="none", or give features=z, the shared representation (batch first)'
            )
        return value
    if value.numel() != 1:
        raise ProbeError(
            f"the loss of {name!r} must be one number, got {tuple(value.shape)}; reduce it as you do for backward(): "
            ".mean() or .sum()"
        )
    return value.reshape(())


def read_features(features: Any) -> torch.Tensor | None:
    """Raises: ProbeError for features that are no tensor."""
    if features is None or isinstance(features, torch.Tensor):
        return features
    raise ProbeError(
        f"features must be the tensor z that the heads got, got {type(features).__name__}; where z is made of several "
        "tensors, leave features out, and whole gradients are taken"
    )


def read_counts(what: str, numbers: Numbers, names: Sequence[str]) -> np.ndarray:
    """(T,) whole numbers from 0; 0 for a task that is left out.

    Raises: ProbeError for what is no such number, and as `read_numbers`.
    """
    values = [float(value or 0) for value in read_numbers(what, numbers, names)]
    for name, value in zip(names, values, strict=True):
        if not (value >= 0 and value.is_integer()):
            raise ProbeError(f"{what} needs a whole number from 0 for {name!r}, got {value!r:.20}")
    return np.array(values, dtype=np.int64)


def read_numbers(what: str, numbers: Numbers, names: Sequence[str]) -> list[Any]:
    """A number (or a tensor of one) per task; None for a task that a mapping leaves out.

    Raises: ProbeError for another count, an unknown task or what is no number.
    """
    values = _each(what, numbers, names)
    for name, value in zip(names, values, strict=True):
        number = isinstance(value, Real | np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1)
        if value is not None and not number:
            raise ProbeError(f"{what} needs a number for {name!r}, got {value!r:.60}")
    return values


def _each(what: str, values: Any, names: Sequence[str]) -> list[Any]:
    """One value per task, from a mapping, a sequence or a tensor (T, ...)."""
    if isinstance(values, Mapping):
        for name in values:
            if name not in names:
                raise ProbeError(f"{what}: {unknown('task', name, names)}")
        return [values.get(name) for name in names]
    if isinstance(values, torch.Tensor | np.ndarray):
        if values.ndim < 1 or len(values) != len(names):
            raise ProbeError(f"{what} needs a value for each of the {len(names)} tasks, got {tuple(values.shape)}")
        return list(values.unbind(0)) if isinstance(values, torch.Tensor) else list(values)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ProbeError(f"{what} must be a mapping by task, a sequence or a tensor (T,), got {type(values).__name__}")
    if len(values) != len(names):
        raise ProbeError(f"{what} needs a value for each of {', '.join(names)}, in this order; got {len(values)}")
    return list(values)
