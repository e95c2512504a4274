"""What several functions ask of their arguments, and how they say so."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtlviz.errors import ParetoError


def several(name: str, values: Any, example: Any) -> tuple[Any, ...]:
    """The values of a list. Raises: ParetoError, with this name, for no list, an empty one, or a text."""
    try:
        listed = tuple(values) if not isinstance(values, (str, bytes)) else ()
    except TypeError:
        listed = ()
    if not listed:
        raise ParetoError(f"{name} needs one value or more in a list, such as {example!r}; came {values!r}")
    return listed


def checked_margin(margin: Any) -> float:
    """The margin as a float. Raises: ParetoError for something that is no number from 0 to 1."""
    number = isinstance(margin, (int, float, np.integer, np.floating)) and not isinstance(margin, bool)
    if not (number and 0.0 <= margin <= 1.0):
        raise ParetoError(f"margin must be in [0, 1], a share of the spread along the front; got {margin!r}")
    return float(margin)


def check_seed(seed: Any) -> None:
    """Raises: ParetoError for something that is no whole number from 0."""
    if not (is_whole(seed) and seed >= 0):
        raise ParetoError(f"seed must be a whole number from 0, got {seed!r}")


def is_whole(value: Any) -> bool:
    """Whether the value is a whole number, which True is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
