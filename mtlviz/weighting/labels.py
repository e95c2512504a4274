"""What methods are called that are to be compared: a label each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mtlviz.errors import WeightingError

if TYPE_CHECKING:  # importing a weighting imports numba
    from mtlviz.weighting.method import Weighting

ALL = "all"
"""Stands for every name that there is to choose and that is not there already."""

Methods = Mapping[str, "str | Weighting"] | Iterable["str | Weighting"]
"""{label: method}, or methods whose labels are their names."""


def listed(methods: Any, choices: Iterable[str] = ()) -> list[Any]:
    """The methods one by one, of one alone or of several; `ALL` stands for the `choices`."""
    one = isinstance(methods, str) or callable(methods) or not isinstance(methods, Iterable)
    given = [methods] if one else list(methods)
    named = [method for method in given if isinstance(method, str)]
    known = list(choices)
    rest = [name for name in known if name not in named]
    return [
        each for method in given for each in (rest if known and isinstance(method, str) and method == ALL else [method])
    ]


def labelled(asker: str, methods: Any, made: Callable[[Any], Any], choices: Iterable[str] = ()) -> dict[str, Any]:
    """What `made` makes of each method, by label: its name, or its repr where several have that name.

    methods: as `Methods`, or one alone. made: gives a method, or a text that says why there is none. asker: how the
    error begins.

    Raises: WeightingError for two methods of one label; what `made` raises.
    """
    if isinstance(methods, Mapping):
        found = [made(method) for method in methods.values()]
        labels = [str(label) for label in methods]
    else:
        given = listed(methods, choices)
        found = [made(method) for method in given]
        names = [method if isinstance(method, str) else str(method.name) for method in given]
        often = Counter(names)
        whole = zip(names, found, strict=True)
        labels = [name if often[name] == 1 or isinstance(one, str) else repr(one) for name, one in whole]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise WeightingError(
            f"{asker} was given {twice[0]} more than once. Name them apart with a mapping, {{label: weighting}}."
        )
    return dict(zip(labels, found, strict=True))
