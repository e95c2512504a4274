"""How trajectories become traces: bands of time that fade, and a mark where each ends or stands at a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.figures import theme
from mtlviz.figures.lines import Flags, Numbers

if TYPE_CHECKING:
    from mtlviz.pareto import Descent

FADING = (0.2, 0.38, 0.56, 0.78, 1.0)  # opacity of the bands of time, from early to late
NOWHERE = np.array([np.nan])  # a trace without any point has no entry in the legend
AHEAD = 0.12  # opacity of what comes after the step that is shown
WIDTH = 2.0
MARKS = {
    "on the front": "circle",
    "still moving": "triangle-up",
    "stuck": "x",
    "diverged": "diamond-open",
    "undefined": "square-open",
}
"""The form of a trajectory's end, by its verdict."""

Method = tuple[str, int]
"""The name that is shown, and the place in the house's colours."""


@dataclass(frozen=True, eq=False)
class Band:
    """The points of all methods in one stretch of time, as places among M × N × K.

    places (P,): -1 is the gap after a start. step (P,): NaN in a gap. splits (M + 1,): where each method's begin and
    end. opacity: how strong the lines are.
    """

    places: NDArray[np.intp]
    step: Numbers
    splits: NDArray[np.intp]
    opacity: float


@dataclass(frozen=True, eq=False)
class Path:
    """What of M × N trajectories of K points is drawn, in whichever plane.

    bands: from early to late; under a step that is shown, the last is what comes after. at (M, N): the place among K
    of the mark, -1 where there is no such point and the mark stands at the start. step (K,). verdict (M, N). moving
    (M, N): whether it goes on from there.
    """

    bands: tuple[Band, ...]
    at: NDArray[np.intp]
    step: NDArray[np.int64]
    verdict: NDArray[np.object_]
    moving: Flags

    @classmethod
    def of(cls, descent: Descent, step: float | None, kept: Flags, *, fading: bool = True) -> Path:
        """The path of a descent, whole or with a mark where it stands at `step`; all in one band without `fading`."""
        there: Flags = np.isfinite(descent.x[..., 0])
        verdict = descent.verdict
        final = len(descent.step) - 1
        now = final if step is None else int(np.clip(np.searchsorted(descent.step, step, "right") - 1, 0, final))
        past = len(FADING) if now == final else len(FADING) - 1
        edges = np.round(np.linspace(0, now, past + 1)).astype(int).tolist() if fading else [0] * past + [now]
        drawn = np.logical_and(there, kept)
        drawn[:, :, edges] = there[:, :, edges]  # neighbouring bands meet
        last = there.sum(axis=2) - 1  # NaN only follows the end
        drawn |= np.arange(final + 1) == last[..., None]
        end, far = last.copy(), verdict == "diverged"
        end[far] = _leaves(descent.problem.bounds, descent.x[far])
        edges += [final] * (now < final)
        opacity = FADING if now == final else (*FADING[1:], AHEAD)
        return cls(
            bands=_bands(drawn, descent.step, edges, opacity),
            at=np.minimum(end, now),
            step=descent.step,
            verdict=verdict,
            moving=np.asarray(last > now),
        )

    @property
    def shown(self) -> int:
        """The band that stands for a method in the legend: the strongest."""
        return int(np.argmax([band.opacity for band in self.bands]))


def _leaves(bounds: Sequence[tuple[float, float]], x: Numbers) -> NDArray[np.intp]:
    """The last place (...) at which trajectories (..., K, 2) lie in the plane that is shown, -1 where they never do."""
    (low1, high1), (low2, high2) = bounds
    inside = (x[..., 0] >= low1) & (x[..., 0] <= high1) & (x[..., 1] >= low2) & (x[..., 1] <= high2)
    return np.where(inside, np.arange(inside.shape[-1]), -1).max(axis=-1, initial=-1)


def _bands(drawn: Flags, step: NDArray[np.int64], edges: Sequence[int], opacity: Sequence[float]) -> tuple[Band, ...]:
    """The bands of the points (M, N, K) that are drawn, between neighbouring edges, both included."""
    M, N, K = drawn.shape
    flat = np.flatnonzero(drawn)
    row, place = np.divmod(flat, K)
    found = []
    for low, high, strength in zip(edges[:-1], edges[1:], opacity, strict=True):
        some = (place >= low) & (place <= high) & (low < high)
        mine, own = flat[some], row[some]
        gaps = np.flatnonzero(np.diff(own)) + 1
        steps = np.insert(step[place[some]].astype(np.float64), gaps, np.nan)
        splits = np.searchsorted(np.insert(own, gaps, own[gaps - 1]), np.arange(M + 1) * N)
        found.append(Band(np.insert(mine, gaps, -1), steps, splits, strength))
    return tuple(found)


def pens(methods: tuple[str, ...], colours: Mapping[str, int] | None) -> list[Method]:
    """The shown name and the place in the house's colours of each method."""
    known = dict(colours) if colours is not None else {}
    after = max(known.values(), default=-1) + 1
    places = [known.get(method, after + place) for place, method in enumerate(methods)]
    return list(zip(theme.short_names(methods), places, strict=True))


def bands(path: Path, points: Numbers, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A line per method and band of time, with a gap between starts; points (M, N, K, 2)."""
    rows = points.reshape(-1, 2)
    drawn = []
    for band in path.bands:
        x, y = np.where(band.places >= 0, rows[band.places].T, np.nan)
        drawn.append((x, y, band))
    data, strongest = [], path.bands[path.shown]
    for m, (name, place) in enumerate(methods):
        for x, y, band in drawn:
            low, high = band.splits[m : m + 2]
            columns = (x[low:high], y[low:high], band.step[low:high]) if low < high else (NOWHERE,) * 3
            trace = dict(zip(("x", "y", "customdata"), columns, strict=True))
            stroke = {"color": theme.translucent(theme.colour(place), band.opacity), "dash": theme.dash(place)}
            trace |= {"type": "scatter", "mode": "lines", "name": name, "legendgroup": name}
            trace |= {"line": stroke | {"width": WIDTH}, "showlegend": band is strongest}
            hover = f"{name}, step %{{customdata:,.0f}}<br>(%{{x:.3g}}, %{{y:.3g}})<extra></extra>"
            data.append(trace | {"hovertemplate": hover})
    return data


def ends(path: Path, points: Numbers, starts: Numbers, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A mark per trajectory, a trace per method: its verdict at its end, or a dot where it stands; starts (N, 2)."""
    data = []
    for m, (name, colour) in enumerate(methods):
        at = path.at[m]
        where = np.where((at < 0)[:, None], starts, points[m, np.arange(len(at)), at])
        forms = ["circle" if goes else MARKS[end] for goes, end in zip(path.moving[m], path.verdict[m], strict=True)]
        words = [
            f"{name}, start {n + 1}<br>"
            + ("" if path.moving[m, n] else f"{end}, ")
            + f"step {path.step[max(at[n], 0)]:,}"
            for n, end in enumerate(path.verdict[m])
        ]
        # Around the number of a start and beside each other, where methods do not even begin.
        sizes = [
            8 if goes else 10 if place >= 0 else 24 + 4 * m for goes, place in zip(path.moving[m], at, strict=True)
        ]
        look = {"color": theme.colour(colour), "opacity": 1, "line": {"width": 1.5, "color": theme.colour(colour)}}
        marker = look | {"size": sizes, "symbol": forms}
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "name": name, "legendgroup": name}
        trace |= {"x": where[:, 0], "y": where[:, 1], "text": words, "marker": marker, "showlegend": False}
        data.append(trace | {"hovertemplate": "%{text}<br>(%{x:.3g}, %{y:.3g})<extra></extra>"})
    return data


def verdict_entries(path: Path) -> list[dict[str, Any]]:
    """An entry of the legend for each form of a mark, shown where some trajectory has it in the end."""
    ended = set(path.verdict.ravel())
    look = {"color": theme.NEUTRAL, "size": 10, "line": {"width": 1.5, "color": theme.NEUTRAL}}
    empty = {"type": "scatter", "mode": "markers", "x": NOWHERE, "y": NOWHERE}
    return [
        empty | {"name": verdict, "marker": look | {"symbol": form}, "showlegend": verdict in ended}
        for verdict, form in MARKS.items()
    ]
