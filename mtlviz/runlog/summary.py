"""Summaries of a growing table in a bounded number of buckets, brought up to date at the cost of the new rows only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.runlog import derived
from mtlviz.runlog.frames import Rewinds, categories
from mtlviz.runlog.records import Floats
from mtlviz.runlog.store import Store

STATISTICS = ("first", "last", "min", "max", "sum", "count")
_LARGEST = 2_000_000  # rows of a summary's frame: bounds the memory of wide tables (many tasks, pairs and layers)
_CHUNK = 1 << 20  # values derived at a time, so that catching up with a long run takes little memory

Rows = NDArray[np.int64]
Stats = tuple[Floats, ...]  # one array per statistic, (buckets, C) each


class Kind:
    """What is summarised of a table: `quantities` times `keys` makes C columns."""

    def __init__(
        self,
        quantities: tuple[str, ...],
        values: Callable[[Store, slice], Floats],
        keys: Callable[[Store], dict[str, Any]],
        source: str = "steps",
    ) -> None:
        self.quantities = quantities
        self.values = values  # of some rows: (rows, quantities · keys), quantity by quantity
        self.keys = keys  # key columns of one bucket
        self.source = source


def _task_values(store: Store, rows: slice) -> Floats:
    table, T = store["steps"], len(store.info.tasks)
    losses, weights, upper = table["losses"][rows], table["weights"][rows], table["gramian"][rows]
    norm = derived.norms(upper, T)
    rates = derived.relative_rates(losses, norm, table["phases"][rows])
    shares = derived.updates(weights, upper)[0]
    return np.concatenate([losses, weights, norm, rates, shares, table["samples"][rows]], axis=1)


def _pair_values(store: Store, rows: slice) -> Floats:
    upper, T = store["steps"]["gramian"][rows], len(store.info.tasks)
    dot = derived.dots(upper, T)
    return np.concatenate([derived.cosines(dot, derived.norms(upper, T)), derived.conflicts(dot)], axis=1)


def _layer_values(store: Store, rows: slice) -> Floats:
    T, K = len(store.info.tasks), len(store.info.layers)
    upper = store["layers"]["gramians"][rows].reshape(-1, K, T * (T + 1) // 2)
    dot = derived.dots(upper, T)  # (rows, K, pairs)
    cosine, flat = derived.cosines(dot, derived.norms(upper, T)), (len(upper), -1)
    return np.concatenate([cosine.reshape(flat), derived.conflicts(dot).reshape(flat)], axis=1)


def _total_values(store: Store, rows: slice) -> Floats:
    table, T = store["steps"], len(store.info.tasks)
    upper = table["gramian"][rows]
    rates = derived.relative_rates(table["losses"][rows], derived.norms(upper, T), table["phases"][rows])
    return np.stack(
        [
            derived.rate_variances(rates),
            derived.conflict_rates(derived.dots(upper, T)),
            derived.updates(table["weights"][rows], upper)[1],
            table["learning_rate"][rows],
        ],
        axis=1,
    )


def _names(store: Store) -> tuple[str, ...]:
    return tuple(task.name for task in store.info.tasks)


def _task_keys(store: Store) -> dict[str, Any]:
    return {"task": (np.arange(len(store.info.tasks)), _names(store))}


def _pair_keys(store: Store) -> dict[str, Any]:
    index = derived.triangle(len(store.info.tasks))
    return {"task_a": (index.a, _names(store)), "task_b": (index.b, _names(store))}


def _layer_keys(store: Store) -> dict[str, Any]:
    index, K = derived.triangle(len(store.info.tasks)), len(store.info.layers)
    return {
        "layer": (np.repeat(np.arange(K), len(index.a)), store.info.layers),
        "task_a": (np.tile(index.a, K), _names(store)),
        "task_b": (np.tile(index.b, K), _names(store)),
    }


def _affinity_values(store: Store, rows: slice) -> Floats:
    values: Floats = store["affinity"]["value"][rows]
    return values


def _ordered_pair_keys(store: Store) -> dict[str, Any]:
    T, names = len(store.info.tasks), _names(store)
    source, target = np.divmod(np.arange(T * T), max(T, 1))
    return {"source": (source, names), "target": (target, names)}


KINDS = {
    "steps": Kind(("loss", "weight", "grad_norm", "relative_rate", "share", "samples"), _task_values, _task_keys),
    "pairs": Kind(("cosine", "conflict"), _pair_values, _pair_keys),
    "layers": Kind(("cosine", "conflict"), _layer_values, _layer_keys, source="layers"),
    "totals": Kind(("rate_variance", "conflict_rate", "update_norm", "learning_rate"), _total_values, lambda store: {}),
    "affinity": Kind(("affinity",), _affinity_values, _ordered_pair_keys, source="affinity"),
}


class Summary:
    """The summary of one table in at most `n` buckets.

    The rows fall into stretches: a new one begins where surviving rows follow discarded ones or the other way round,
    and where the position goes back. Each stretch is cut into buckets of `width` rows (its last one may hold fewer),
    and `width` is the smallest power of two that gives at most n buckets. So when the width doubles, neighbours merge,
    and what was computed of a row is never computed again, unless a rewind or a resumed segment changes the past.
    """

    def __init__(self, table: str, n: int) -> None:
        self._kind = KINDS[table]
        self._n = n
        self._basis: tuple[object, ...] | None = None
        self._frame: pd.DataFrame | None = None

    def frame(self, store: Store, back: Rewinds) -> pd.DataFrame:
        """A row per bucket and key, of all rows in the store."""
        clock = store[self._kind.source]
        basis = (store.generation, back[0].tobytes(), back[1].tobytes())
        if basis != self._basis:
            self._basis = basis
            self._clear(store)
        if self._frame is None or clock.rows > self._rows:
            if self._columns:
                self._take(store, back, clock.rows)
            self._frame = self._built(store, back)
        return self._frame.copy(deep=False)

    def _clear(self, store: Store) -> None:
        keys = self._kind.keys(store)
        self._keys = {name: codes for name, (codes, _) in keys.items()}
        self._names = {name: names for name, (_, names) in keys.items()}
        self._per_bucket = len(next(iter(self._keys.values()))) if keys else 1
        self._columns = self._per_bucket * len(self._kind.quantities)
        self._most = max(1, min(self._n, _LARGEST // max(1, self._per_bucket)))
        self._rows = 0
        self._width = 1
        self._stretches = np.zeros(0, dtype=np.int64)  # first row of each
        self._starts = np.zeros(0, dtype=np.int64)  # first row of each bucket
        self._stats: Stats = tuple(np.empty((0, self._columns)) for _ in STATISTICS)  # room for more than the buckets
        self._frame = None

    def _take(self, store: Store, back: Rewinds, rows: int) -> None:
        """Fold in the rows from those known up to `rows`."""
        known = len(self._starts)
        self._stretches = np.append(self._stretches, self._borders(store, back, self._rows, rows))
        while self._width < rows and self._count(rows) > self._most:
            self._width *= 2
        starts = self._cut(rows)
        if known:
            groups = np.searchsorted(self._starts, starts[starts < self._rows])
            if len(groups) < known:
                merged = _reduced(tuple(stat[:known] for stat in self._stats), groups)
                known = len(groups)
                self._put(slice(0, known), merged)
        chunk = max(1, _CHUNK // max(self._columns, len(store.info.tasks) ** 2))
        for begin in range(self._rows, rows, chunk):
            end = min(begin + chunk, rows)
            inside = starts[np.searchsorted(starts, begin) : np.searchsorted(starts, end)] - begin
            continues = not len(inside) or inside[0] > 0
            values = self._kind.values(store, slice(begin, end))
            new = _reduced(_of_rows(values), np.append(0, inside) if continues else inside)
            if continues:
                both = tuple(np.stack([old[known - 1], more[0]]) for old, more in zip(self._stats, new, strict=True))
                self._put(slice(known - 1, known), _reduced(both, np.zeros(1, dtype=np.int64)))
                new = tuple(stat[1:] for stat in new)
            self._put(slice(known, known + len(new[0])), new)
            known += len(new[0])
        self._starts, self._rows = starts, rows

    def _borders(self, store: Store, back: Rewinds, begin: int, end: int) -> Rows:
        """The rows from `begin` up to `end` that begin a stretch."""
        clock, first = store[self._kind.source], max(0, begin - 1)
        step, position = clock["step"][first:end], clock["position"][first:end]
        flags = derived.discarded(step, position, back)
        cuts = np.flatnonzero((flags[1:] != flags[:-1]) | (position[1:] < position[:-1])) + first + 1
        return cuts if begin else np.append(0, cuts)

    def _lengths(self, rows: int) -> Rows:
        return np.diff(np.append(self._stretches, rows))

    def _count(self, rows: int) -> int:
        return int((-(-self._lengths(rows) // self._width)).sum())

    def _cut(self, rows: int) -> Rows:
        """The first row of each bucket."""
        pieces = zip(self._stretches, self._lengths(rows), strict=True)
        return np.concatenate([np.arange(start, start + length, self._width) for start, length in pieces])

    def _put(self, place: slice, stats: Stats) -> None:
        room = len(self._stats[0])
        if place.stop > room:
            room = max(place.stop, min(2 * room, self._most), 16)
            self._stats = tuple(_grown(stat, room) for stat in self._stats)
        for stat, values in zip(self._stats, stats, strict=True):
            stat[place] = values

    def _built(self, store: Store, back: Rewinds) -> pd.DataFrame:
        kind, buckets, each = self._kind, len(self._starts), self._per_bucket
        clock, steps = store[kind.source], store["steps"]
        first = self._starts
        last = np.append(first[1:], self._rows)[:buckets] - 1
        step, position = clock["step"], clock["position"]
        index = np.searchsorted(steps["step"], step[last])  # another table's rows may be read before their step's
        time = np.append(steps["time"], np.nan)[index] if kind.source != "steps" else steps["time"][last]
        clocks = {
            "step_first": step[first],
            "step_last": step[last],
            "position_first": position[first],
            "position_last": position[last],
            "time_last": time,
            "discarded": derived.discarded(step[first], position[first], back),
        }
        columns: dict[str, Any] = {
            name: categories(np.tile(codes, buckets), self._names[name]) for name, codes in self._keys.items()
        }
        columns |= {name: np.repeat(values, each) for name, values in clocks.items()}
        for place, quantity in enumerate(kind.quantities):
            for name, stat in zip(STATISTICS, self._stats, strict=True):
                values = stat[:buckets, place * each : (place + 1) * each].flatten()
                columns[f"{quantity}_{name}"] = values.astype(np.int64) if name == "count" else values
        return pd.DataFrame(columns, copy=False)


def _of_rows(values: Floats) -> Stats:
    """Each row of `values` (rows, C) as a bucket of its own; what is not finite counts as missing."""
    finite = np.isfinite(values)
    seen = values if finite.all() else np.where(finite, values, np.nan)
    return seen, seen, seen, seen, np.where(finite, values, 0.0), finite.astype(np.float64)


def _reduced(stats: Stats, starts: Rows) -> Stats:
    """Put neighbouring buckets (m, C) together; each group begins at one of `starts` and ends before the next."""
    first, last, least, most, total, count = stats
    m = len(first)
    rows, ends = np.arange(m)[:, None], np.append(starts[1:], m) - 1
    missing = count == 0
    if missing.any():
        lead = np.minimum.reduceat(np.where(missing, m, rows), starts, axis=0)
        trail = np.maximum.reduceat(np.where(missing, -1, rows), starts, axis=0)
        first = np.where(lead == m, np.nan, np.take_along_axis(first, np.minimum(lead, m - 1), axis=0))
        last = np.where(trail == -1, np.nan, np.take_along_axis(last, trail, axis=0))
    else:
        first, last = first[starts], last[ends]
    return (
        first,
        last,
        np.fmin.reduceat(least, starts, axis=0),
        np.fmax.reduceat(most, starts, axis=0),
        np.add.reduceat(total, starts, axis=0),
        np.add.reduceat(count, starts, axis=0),
    )


def _grown(values: Floats, rows: int) -> Floats:
    larger = np.empty((rows, *values.shape[1:]))
    larger[: len(values)] = values
    return larger
