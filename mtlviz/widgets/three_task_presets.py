"""Six questions to the three-task picture, each with the setting that answers it and what to look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mtlviz.errors import TransferError, unknown
from mtlviz.transfer import ThreeTask

USUAL = ThreeTask()
_FIRST, _SECOND, _THIRD = USUAL.clouds


@dataclass(frozen=True)
class Setting:
    """A question, the picture that answers it, and what to look for, as plain text."""

    question: str
    look: str
    picture: ThreeTask


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "picture": Setting(
            "Why does task 2 help task 1, while task 3 hurts it?",
            "Tasks 2 and 3 have one boundary, 15° off that of task 1. Task 2's points lie across it: they rule out the "
            "wildest directions and leave the rest to task 1, which scatters less. Task 3's points lie along it and "
            "fix the direction for both: task 1 hardly scatters any more, but is 15° off.",
            USUAL,
        ),
        "across": Setting(
            "What if the points of task 3 lay across the boundary too?",
            "The boundary of task 3 is what it was, only its points are spread the other way: now it helps as task 2 "
            "does. Stretch its cloud along the boundary again and watch its dots gather at the dashed line.",
            replace(USUAL, clouds=(_FIRST, _SECOND, replace(_THIRD, along=_SECOND.along, across=_SECOND.across))),
        ),
        "swapped": Setting(
            "Is it the task that hurts, or where its points lie?",
            "Tasks 2 and 3 have changed their spreads, and with them their parts: with 2 hurts, with 3 helps.",
            replace(
                USUAL,
                clouds=(
                    _FIRST,
                    replace(_SECOND, along=_THIRD.along, across=_THIRD.across),
                    replace(_THIRD, along=_SECOND.along, across=_SECOND.across),
                ),
            ),
        ),
        "one_boundary": Setting(
            "What if all three had the same boundary?",
            "Then nobody is pulled aside, and task 3, whose points say most precisely where the boundary runs, helps "
            "most. Turn task 1's boundary away step by step: with 3 turns from help to harm long before with 2.",
            replace(USUAL, boundary=USUAL.shared_boundary),
        ),
        "more_of_2": Setting(
            "Does more of task 2 help more?",
            "With 200 points task 2 is sure of the direction too, and pulls task 1 most of the way to its own: what "
            "task 1 gains in steadiness it loses in aim. Take points away again: about 60 help most.",
            replace(USUAL, samples=(8, 200, 24)),
        ),
        "enough": Setting(
            "What if task 1 had points enough of its own?",
            "With 20 points instead of 8 task 1 hardly scatters, so that task 2 has nothing left to help with. Task 3 "
            "costs more than before: there is more to lose. From about 100 points on it costs next to nothing.",
            replace(USUAL, samples=(20, 24, 24)),
        ),
    }
)
"""Question by question, in the order in which they are best asked."""


def setting_of(name: str) -> Setting:
    """The setting of that name. Raises: TransferError for an unknown one, listing the choices."""
    if name not in SETTINGS:
        raise TransferError(unknown("preset", name, SETTINGS))
    return SETTINGS[name]
