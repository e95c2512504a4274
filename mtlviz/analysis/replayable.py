"""Which methods a log can replay, under which labels, and why not the others."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mtlviz.errors import WeightingError, unknown
from mtlviz.weighting import METHODS, labels, named
from mtlviz.weighting.labels import ALL, Methods

if TYPE_CHECKING:  # importing a weighting takes a second that a log without replay need not spend
    from mtlviz.weighting.method import Weighting

TAKEN = "taken"
"""The method that stands for the run's own weights."""

LOGGED = frozenset({"losses", "gramian"})
UNLOGGED = {
    "mgda_ub": "representation",
    "famo": "losses_after",
    "graddrop": "jacobian",
    "adatask": "jacobian",
}
"""The methods that no log can replay, and what they need; known here without importing them, two of them with torch."""

_INPUTS = {
    "representation": "the Gramian of the shared representation",
    "losses_after": "the losses of the same batch after the update",
    "jacobian": "the task gradients themselves",
}


def refused(needs: Iterable[str]) -> str | None:
    """Return, in words, what a method of these needs would have to find in a log and does not; None where it does."""
    missing = [_INPUTS.get(need, need) for need in sorted(set(needs) - LOGGED)]
    return f"it needs {' and '.join(missing)}, which no log holds" if missing else None


def labelled(methods: Methods | str | Weighting) -> tuple[dict[str, Weighting], dict[str, str]]:
    """Return fresh copies of the methods by label, and why those that cannot be replayed are refused, by label.

    Raises:
        WeightingError: something that is no method, an unknown name, or two methods of one label.
    """
    fresh: dict[str, Weighting | str] = labels.labelled("replay", methods, _fresh, _replayable())
    if TAKEN in fresh:
        raise WeightingError(f"replay calls the run's own weights {TAKEN!r}: give that method another label.")
    found = {label: method for label, method in fresh.items() if not isinstance(method, str)}
    return found, {label: why for label, why in fresh.items() if isinstance(why, str)}


def raise_failures(failures: Mapping[str, str], others: Iterable[str], cause: Exception | None) -> NoReturn:
    """Raise one error for all methods that cannot be replayed.

    Args:
        failures: what is wrong, in whole sentences, by label.
        others: the labels of the methods that can.
        cause: what the first of them failed with.
    """
    rest = ", ".join(others)
    advice = f" Leave {', '.join(failures)} out" + (f"; these can be replayed: {rest}." if rest else ".")
    raise WeightingError(" ".join(failures.values()) + advice) from cause


def _replayable() -> list[str]:
    return [name for name in METHODS if name not in UNLOGGED]


def _fresh(method: Any) -> Weighting | str:
    """Return a copy of a method, or one from its name; the reason where it needs what no log holds.

    Raises:
        WeightingError: it is none.
    """
    from mtlviz.weighting.method import Method, Weighting  # here, since it imports numba

    if isinstance(method, str):
        if method in UNLOGGED:
            return _refusal(method, {UNLOGGED[method]})
        if method not in METHODS:
            raise WeightingError(f"replay: {unknown('weighting', method, (ALL, *_replayable()))}")
        method = named(method)
    if isinstance(method, Method) and (refused(method.needs) or not isinstance(method, Weighting)):
        return _refusal(method.name, method.needs)
    if isinstance(method, type) and issubclass(method, Method):
        raise WeightingError(f"replay needs names or Weighting instances; make one of the class: {method.__name__}().")
    if not isinstance(method, Weighting):
        wrap = (
            " Wrap the function as the kernel of a class of your own: see mv.weighting.Weighting."
            if callable(method)
            else ""
        )
        raise WeightingError(f"replay needs names or Weighting instances; came {method!r}.{wrap}")
    return copy.deepcopy(method)


def _refusal(name: str, needs: Iterable[str]) -> str:
    reason = refused(needs) or "it gives a direction and no weights"
    return f"replay cannot answer for {name}: {reason}. Train with it instead: mv.start(problem, weighting={name!r})."
