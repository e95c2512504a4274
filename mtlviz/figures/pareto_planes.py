"""What the two planes of a descent show beside the trajectories: landscape, Pareto set, front and weighted sums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mtlviz.figures import theme
from mtlviz.figures.lines import Numbers

if TYPE_CHECKING:
    from mtlviz.pareto import Descent, Landscape

CONTOURS = ("loss 1", "loss 2", "average")
LEVELS = 14  # contours; the same share of the plane lies between two neighbours
BEST = "#d99a00"  # the Pareto set, the front, and the best average on it: no method has this colour
FRONT_WIDTH = 8  # pixels: seen below every line that ends on it
FRONT_DRAWN = 201  # points of the front
FAR = 1.5  # of the front's range: losses further off it lie outside of the plane that is shown
PAD = 0.06  # of a range, on either side
LOW, HIGH = 0.75, 0.25  # opacity of the lowest and of the highest contour

Range = tuple[float, float]
Trace = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """The traces below and above the trajectories."""

    below: list[Trace]
    above: list[Trace]


def parameter_plane(descent: Descent, landscape: Landscape, contours: str, equal: Numbers) -> Scene:
    """Contours and Pareto set; starts, best average and the minima (K, 2) of the weighted sum."""
    problem = descent.problem
    x, y = _thin(problem.pareto_set)
    below = [_contour(landscape, contours), _line(x, y, "Pareto set", "Pareto set")]
    marks = [_equal(equal), _best(problem.best_average)]
    return Scene(below, [*marks, _starts(descent.starts)])


def loss_plane(descent: Descent, ranges: tuple[Range, Range], equal: Numbers) -> Scene:
    """Front and weighted-sum line; starts, best average and the minima (K, 2) of the weighted sum."""
    problem = descent.problem
    x, y = _thin(problem.front)
    there = problem.own_losses(equal)
    below = [_line(x, y, "Pareto set", "Pareto front"), _weighted_sum(there[0], problem.scale, ranges)]
    marks = [_equal(there), _best(problem.own_losses(problem.best_average))]
    return Scene(below, [*marks, _starts(problem.own_losses(descent.starts))])


def parameter_ranges(descent: Descent) -> tuple[Range, Range]:
    """The plane that the problem shows, and the starts."""
    bounds = np.array(descent.problem.bounds)
    places = descent.starts
    low, high = np.minimum(bounds[:, 0], places.min(axis=0)), np.maximum(bounds[:, 1], places.max(axis=0))
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def loss_ranges(descent: Descent) -> tuple[Range, Range]:
    """The front and the trajectories, but no further off the front than `FAR`: some begin where it would be a dot."""
    front = descent.problem.front
    losses = np.concatenate([descent.problem.own_losses(descent.starts), descent.losses.reshape(-1, 2)])
    ranges = []
    for t in range(2):
        low, high = float(front[:, t].min()), float(front[:, t].max())
        far = FAR * (high - low)
        # fmin and fmax pass over the NaN after an end.
        lowest, highest = np.fmin.reduce(losses[:, t], initial=low), np.fmax.reduce(losses[:, t], initial=high)
        low, high = max(float(lowest), low - far), min(float(highest), high + far)
        room = PAD * (high - low)
        ranges.append((low - room, high + room))
    return ranges[0], ranges[1]


@lru_cache(maxsize=12)  # by identity: who redraws with the same landscape gets the same array
def _levelled(landscape: Landscape, contours: str) -> Numbers:
    """The heights (n, n), from 0 to LEVELS, as shares of the plane that lie lower."""
    z = landscape.losses.mean(axis=2) if contours == "average" else landscape.losses[..., CONTOURS.index(contours)]
    heights = np.quantile(z, np.linspace(0.0, 1.0, LEVELS + 1))
    distinct, first = np.unique(heights, return_index=True)
    return np.interp(z, distinct, first.astype(np.float64))


def _contour(landscape: Landscape, contours: str) -> Trace:
    low, high = (theme.translucent(theme.NEUTRAL, opacity) for opacity in (LOW, HIGH))
    return {
        "type": "contour",
        "x": landscape.x1,
        "y": landscape.x2,
        "z": _levelled(landscape, contours),
        "contours": {"start": 1, "end": LEVELS - 1, "size": 1, "coloring": "lines"},
        "colorscale": [[0, low], [1, high]],
        "line": {"width": 1},
        "showscale": False,
        "hoverinfo": "skip",
    }


def _line(x: Numbers, y: Numbers, group: str, name: str) -> Trace:
    stroke = {"color": theme.translucent(BEST, 0.65), "width": FRONT_WIDTH, "simplify": False}
    trace: Trace = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": stroke, "legendgroup": group}
    return trace | {"name": "Pareto set and front", "showlegend": True, "hovertemplate": f"{name}<extra></extra>"}


def _weighted_sum(point: Numbers, scale: tuple[float, float], ranges: tuple[Range, Range]) -> Trace:
    """The line s₁L₁ + s₂L₂ = const through a point, as far as the axes show it."""
    along = np.array([scale[1], -scale[0]])
    box = np.array(ranges)
    reach = np.sort((box - point[:, None]) / along[:, None], axis=1)  # (2, 2): where it enters and leaves each range
    ends = point + np.array([[reach[:, 0].max()], [reach[:, 1].min()]]) * along
    says = f"all of this line: {scale[0]:.3g} L₁ + {scale[1]:.3g} L₂ = {float(point @ np.array(scale)):.4g}"
    return {
        "type": "scatter",
        "mode": "lines",
        "x": ends[:, 0],
        "y": ends[:, 1],
        "line": {"color": theme.NEUTRAL, "width": 1.5, "dash": "dash"},
        "name": "least s₁L₁ + s₂L₂",
        "meta": "losses only",
        "showlegend": True,
        "hovertemplate": f"{says}<br>nothing lies below it<extra></extra>",
    }


def _equal(points: Numbers) -> Trace:
    look = {"symbol": "diamond-open", "size": 16, "color": theme.NEUTRAL, "line": {"width": 2.5}}
    return _marks(points, "minimum of the weighted sum", look)


def _best(points: Numbers) -> Trace:
    look = {"symbol": "star", "size": 18, "color": BEST, "line": {"width": 1, "color": theme.NEUTRAL}}
    return _marks(points, "best average", look)


def _marks(points: Numbers, name: str, look: dict[str, Any]) -> Trace:
    trace: Trace = {"type": "scatter", "mode": "markers", "x": points[:, 0], "y": points[:, 1], "marker": look}
    trace |= {"name": name, "legendgroup": name, "showlegend": True}
    return trace | {"hovertemplate": f"{name}<br>(%{{x:.3g}}, %{{y:.3g}})<extra></extra>"}


def _starts(points: Numbers) -> Trace:
    ring = {"symbol": "circle-open", "size": 18, "color": theme.NEUTRAL, "line": {"width": 1.5}}
    trace: Trace = {"type": "scatter", "mode": "markers+text", "x": points[:, 0], "y": points[:, 1], "marker": ring}
    trace |= {"text": [str(n + 1) for n in range(len(points))], "textposition": "middle center", "showlegend": False}
    trace |= {"textfont": {"size": 11}, "name": "start"}
    return trace | {"hovertemplate": "start %{text}<br>(%{x:.3g}, %{y:.3g})<extra></extra>"}


def _thin(points: Numbers) -> tuple[Numbers, Numbers]:
    some = points[np.round(np.linspace(0, len(points) - 1, FRONT_DRAWN)).astype(int)]
    return some[:, 0], some[:, 1]
