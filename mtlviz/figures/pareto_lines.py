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
AHEAD = 0.12  # opacity of what comes after the step that is shown
WIDTH = 2.0
MARKS = {
    "on the front": "circle",
    "still moving": "triangle-up",
    "stuck": "x",
    "diverged": "diamond-open",
    "undefined": "circle-x-open",
}
"""The form of a trajectory's end, by its verdict."""

Method = tuple[str, int]
"""The name that is shown, and the place in the house's colours."""


@dataclass(frozen=True, eq=False)
class Path:
    """What of M × N trajectories of K points is drawn, in whichever plane.

    step (K,). edges: the places among the K points where a band of time begins, and the last of the last band.
    opacity: of each band. kept (M, N, K): the points that are drawn. at (M, N): the place of the mark, -1 where a
    trajectory has no point and the mark stands at its start. verdict (M, N). moving (M, N): whether it goes on.
    """

    step: NDArray[np.int64]
    edges: tuple[int, ...]
    opacity: tuple[float, ...]
    kept: Flags
    at: NDArray[np.intp]
    verdict: NDArray[np.object_]
    moving: Flags

    @classmethod
    def of(cls, descent: Descent, step: float | None, kept: Flags | None) -> Path:
        """The path of a descent, whole or with a mark where it stands at `step`."""
        there: Flags = np.isfinite(descent.x[..., 0])
        last = there.sum(axis=2) - 1  # NaN only follows the end
        final = len(descent.step) - 1
        now = final if step is None else int(np.clip(np.searchsorted(descent.step, step, "right") - 1, 0, final))
        whole = step is None or now == final
        past = len(FADING) if whole else len(FADING) - 1
        edges = np.round(np.linspace(0, now, past + 1)).astype(int)
        opacity = FADING if whole else (*FADING[1:], AHEAD)
        drawn = there.copy() if kept is None else np.logical_and(there, kept)
        drawn[:, :, edges] = there[:, :, edges]  # neighbouring bands meet
        at = np.minimum(last, now)
        return cls(
            step=descent.step,
            edges=(*edges.tolist(), *(() if whole else (final,))),
            opacity=opacity,
            kept=drawn,
            at=at,
            verdict=descent.verdicts["verdict"].to_numpy(dtype=object).reshape(at.shape),
            moving=np.asarray(last > now),
        )

    @property
    def shown(self) -> int:
        """The band that stands for a method in the legend: the strongest."""
        return int(np.argmax(self.opacity))


def pens(methods: tuple[str, ...], colours: Mapping[str, int] | None) -> list[Method]:
    """The shown name and the place in the house's colours of each method."""
    known = dict(colours) if colours is not None else {}
    after = max(known.values(), default=-1) + 1
    places = [known.get(method, after + place) for place, method in enumerate(methods)]
    return list(zip(theme.short_names(methods), places, strict=True))


def bands(path: Path, points: Numbers, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A line per method and band of time, with a gap between starts; points (M, N, K, 2)."""
    data = []
    for m, (name, place) in enumerate(methods):
        for band, opacity in enumerate(path.opacity):
            low, high = path.edges[band], path.edges[band + 1] + 1
            x, y, step = _joined(path, points[m], m, slice(low, high if high - low > 1 else low))
            stroke = {"color": theme.translucent(theme.colour(place), opacity), "dash": theme.dash(place)}
            trace: dict[str, Any] = {"type": "scatter", "mode": "lines", "name": name, "legendgroup": name}
            trace |= {"x": x, "y": y, "customdata": step, "line": stroke | {"width": WIDTH}}
            trace |= {"hovertemplate": f"{name}, step %{{customdata:,.0f}}<br>(%{{x:.3g}}, %{{y:.3g}})<extra></extra>"}
            data.append(trace | {"showlegend": band == path.shown})
    return data


def ends(path: Path, points: Numbers, starts: Numbers, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A mark per trajectory, a trace per method: its verdict at its end, or a dot where it stands; starts (N, 2)."""
    data = []
    for m, (name, place) in enumerate(methods):
        at = path.at[m]
        where = np.where((at < 0)[:, None], starts, points[m, np.arange(len(at)), at])
        forms = ["circle" if goes else MARKS[end] for goes, end in zip(path.moving[m], path.verdict[m], strict=True)]
        words = [
            f"{name}, start {n + 1}<br>"
            + (f"step {path.step[at[n]]:,}" if path.moving[m, n] else f"{end} at step {path.step[max(at[n], 0)]:,}")
            for n, end in enumerate(path.verdict[m])
        ]
        sizes = [8 if goes else 10 for goes in path.moving[m]]
        marker = {"color": theme.colour(place), "size": sizes, "symbol": forms, "opacity": 1, "line": {"width": 0}}
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "name": name, "legendgroup": name}
        trace |= {"x": where[:, 0], "y": where[:, 1], "text": words, "marker": marker, "showlegend": False}
        data.append(trace | {"hovertemplate": "%{text}<br>(%{x:.3g}, %{y:.3g})<extra></extra>"})
    return data


def verdict_entries(path: Path) -> list[dict[str, Any]]:
    """An entry of the legend for each form of a mark, shown where some trajectory has it."""
    ended = set(path.verdict[~path.moving])
    look = {"color": theme.NEUTRAL, "size": 10}
    empty = {"type": "scatter", "mode": "markers", "x": np.array([np.nan]), "y": np.array([np.nan])}
    return [
        empty | {"name": verdict, "marker": look | {"symbol": form}, "showlegend": verdict in ended}
        for verdict, form in MARKS.items()
    ]


def _joined(path: Path, points: Numbers, m: int, span: slice) -> tuple[Numbers, Numbers, Numbers]:
    """x, y and step of one method's drawn points in a stretch of time, with a NaN after each start."""
    some = points[:, span]
    N, k = some.shape[:2]
    chosen = np.ones((N, k + 1), dtype=bool)
    chosen[:, :k] = path.kept[m, :, span]
    padded = np.full((N, k + 1, 3), np.nan)
    padded[:, :k, :2] = some
    padded[:, :k, 2] = path.step[span]
    flat = padded[chosen]
    return flat[:, 0], flat[:, 1], flat[:, 2]
