"""What the functions of transfer ask of their numbers, and how they say so."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtlviz.errors import TransferError


def whole(name: str, value: Any, least: int) -> int:
    """The value as an int. Raises: TransferError, with this name, where it is no whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise TransferError(f"{name} must be a whole number from {least}, got {value!r}")
    return int(value)


def within(name: str, value: Any, low: float, high: float) -> float:
    """The value as a float. Raises: TransferError, with this name, where it is no number in [low, high]."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (number and low <= value <= high and np.isfinite(value)):
        span = f"from {low:g}" if np.isinf(high) else f"from {low:g} to {high:g}"
        raise TransferError(f"{name} must be a finite number {span}, got {value!r}")
    return float(value)
