"""Six questions that a teacher would ask, each with the settings of the Pareto lab that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mtlviz.errors import ParetoError, unknown
from mtlviz.pareto import problem_of
from mtlviz.widgets.descents import Settings


@dataclass(frozen=True)
class Preset:
    """A question, the arguments of `ParetoLab` that answer it, and what to look for, as plain text."""

    question: str
    look: str
    settings: Mapping[str, Any]

    def as_settings(self) -> Settings:
        """The settings of its descent."""
        given = dict(self.settings)
        problem = problem_of(given["problem"], given["scale"])
        starts = given.get("starts", problem.usual_starts)
        return Settings(given["methods"], problem, starts, given["steps"], given["lr"], given.get("optimizer", "adam"))


_RING = ((2.6, 0.3), (2.2, 2.2), (0.7, 2.7), (-1.0, 2.7), (-2.6, 0.8), (-2.2, -2.0), (-0.3, -2.7), (1.8, -2.2))

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "conflict": Preset(
            "What does conflict do to equal weights?",
            "Start 3, in the valley on the right: across it the two gradients point against each other, and equal "
            "weights are still on its floor when imtl_g and nash_mtl have long reached the front; pcgrad and cagrad "
            "are in it too. From the other starts equal weights arrive, all at one place: the open diamond, not the "
            "star of the best average. The conflict column counts the steps on the front too, where the gradients are "
            "always opposite: nash_mtl is highest there because it arrives first.",
            {
                "methods": ("equal", "pcgrad", "cagrad", "imtl_g", "nash_mtl"),
                "problem": "toy",
                "scale": (0.1, 1.0),
                "steps": 10_000,
                "lr": 5e-3,
            },
        ),
        "hundredfold": Preset(
            "What happens when one loss is a hundred times as large?",
            "Equal weights and cagrad go close to the minimum of the large loss from every start. mgda leans the other "
            "way, to the loss with the short gradients. nash_mtl ends where it would end at scale 1, but for start 2, "
            "which lies exactly between the two bowls. Drag the scale of loss 1 back to 1 and see who moves.",
            {
                "methods": ("equal", "mgda", "cagrad", "nash_mtl"),
                "problem": "quadratics",
                "scale": (100.0, 1.0),
                "steps": 10_000,
                "lr": 1e-3,
            },
        ),
        "concave": Preset(
            "Why does a weighted sum miss a concave front?",
            "On the right, the dashed line of the weighted sum touches the front only near its ends, and there equal "
            "weights stop, from all five starts. Drag the scale of a loss: the line tips over, and from a factor of 10 "
            "on all stop at one end; at a factor of 2 some stay at the other, in a local minimum. Never between, but "
            "for a start exactly on the line x2 = -x1 at equal scales, which ends on a saddle in the middle. mgda "
            "stops between from every start, nash_mtl from two. For the average that is no gain: on this front, the "
            "middle is worse than the ends.",
            {
                "methods": ("equal", "mgda", "nash_mtl"),
                "problem": "fonseca_fleming",
                "scale": (1.0, 1.0),
                "steps": 10_000,
                "lr": 1e-3,
            },
        ),
        "scale_free": Preset(
            "Which methods do not care about the scale of a loss?",
            "Loss 1 counts a hundredfold. Drag its scale down to 1, and on to 0.01: equal, cagrad, pcgrad and mgda end "
            "elsewhere; nash_mtl, imtl_g, gls and famo end where they did. The first four take a loss's unit for its "
            "importance.",
            {
                "methods": ("equal", "mgda", "pcgrad", "cagrad", "gls", "famo", "imtl_g", "nash_mtl"),
                "problem": "fonseca_fleming",
                "scale": (100.0, 1.0),
                "steps": 10_000,
                "lr": 1e-3,
            },
        ),
        "where_mgda_stops": Preset(
            "Where does MGDA stop on the front, and what decides it?",
            "All eight starts reach the front and stop where they meet it, for there MGDA's update vanishes: the start "
            "decides. Equal weights go on to one point. Drag a start around the front, then the scale of a loss: "
            "some of the places where MGDA stops move as well, since it bends the way to the front.",
            {
                "methods": ("mgda", "equal"),
                "problem": "quadratics",
                "scale": (1.0, 1.0),
                "starts": _RING,
                "steps": 10_000,
                "lr": 1e-3,
            },
        ),
        "optimizer": Preset(
            "What do the optimizer and the learning rate change?",
            "With SGD, nash_mtl alone reaches the front from all five starts. mgda's update is no longer than the "
            "shorter gradient, so that it creeps, and arrives from two. Choose adam, which brings every update to "
            "about the same length: all arrive from everywhere, but for equal weights. Back at SGD, a learning rate of "
            "0.05 helps mgda too, but not out of the valley of start 3.",
            {
                "methods": ("equal", "mgda", "imtl_g", "nash_mtl", "emtl"),
                "problem": "toy",
                "scale": (0.1, 1.0),
                "steps": 20_000,
                "lr": 5e-3,
                "optimizer": "sgd",
            },
        ),
    }
)
"""Question by question, in the order in which they are best asked."""


def preset_of(name: str) -> Preset:
    """The preset of that name. Raises: ParetoError for an unknown one, listing the choices."""
    if name not in PRESETS:
        raise ParetoError(unknown("preset", name, PRESETS))
    return PRESETS[name]
