"""What a run log shows: arrays and frames of its rows at one moment."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mtlviz.errors import RunLogError
from mtlviz.runlog import arguments, derived
from mtlviz.runlog.info import RunInfo, TaskInfo
from mtlviz.runlog.pair_measures import PairMeasure, squares
from mtlviz.runlog.records import PHASES, Floats, Integers
from mtlviz.runlog.store import Store

if TYPE_CHECKING:  # pandas takes 0.5 s to import, which a log that is only written never needs
    import pandas as pd

    from mtlviz.runlog.summary import Summary

_LARGEST_CACHED = 5_000_000  # rows of a frame that is kept for the next time it is asked for
_MOST_SUMMARIES = 12


class History:
    """The reading side of a run log: every property tells of the moment at which it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[str, tuple[object, Any]] = {}
        self._summaries: dict[tuple[str, int], Summary] = {}
        self._thinning = threading.Lock()
        self._affinity = PairMeasure("affinity")

    def _now(self) -> Store:
        """All rows of this moment."""
        return self._store.frozen()

    @property
    def info(self) -> RunInfo:
        """What the run is: problem, tasks, layers, configuration."""
        return self._store.info

    @property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """The tasks, in the order of every array."""
        return self.info.tasks

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def segments(self) -> int:
        """How many segments the run has: 1, and 1 more for each time it was resumed."""
        return self._now().segments

    def __len__(self) -> int:
        """Number of recorded steps that are not superseded."""
        return self._now()["steps"].rows

    def rows(self, table: str) -> int:
        """Rows of a stored table ("steps", "layers", "validations", "events", "measures") that are not superseded."""
        return self._now()[table].rows

    @property
    def last_step(self) -> int:
        """The last recorded step; 0 before the first."""
        step = self._now()["steps"]["step"]
        return int(step[-1]) if len(step) else 0

    @property
    def time(self) -> float:
        """Seconds since the run began, at the last recorded step; 0 before the first."""
        time = self._now()["steps"]["time"]
        return float(time[-1]) if len(time) else 0.0

    @property
    def recorded_steps(self) -> Integers:
        """(S,) the number of each recorded step, in the order of every array. Read-only."""
        return _read_only(self._now()["steps"]["step"])

    @property
    def discarded(self) -> derived.Flags:
        """(S,) whether a rewind threw the step away."""
        from mtlviz.runlog import frames

        store = self._now()
        table = store["steps"]
        return derived.discarded(table["step"], table["position"], frames.rewinds(store))

    @property
    def held(self) -> derived.Flags:
        """(S, T) whether the task learns from soft labels.

        It then has the mean of the weights of the others, which the weighting balances; but where all tasks learn from
        them, and with a method that cannot leave one out (GradDrop, AdaTask, TorchJD's with a state, one of your own),
        all are balanced.
        """
        return self._now()["steps"]["phases"] == PHASES.index("distilled")

    @property
    def losses(self) -> Floats:
        """(S, T) losses, in step order; NaN where a task is absent. Read-only."""
        return _read_only(self._now()["steps"]["losses"])

    @property
    def weights(self) -> Floats:
        """(S, T) weights as the weighting returned them. Read-only."""
        return _read_only(self._now()["steps"]["weights"])

    @property
    def gramians(self) -> Floats:
        """(S, T, T) Gramians of the shared gradients; made anew at each call, so keep them while you need them."""
        return derived.gramians(self._now()["steps"]["gramian"], len(self.tasks))

    @property
    def shares(self) -> Floats:
        """(S, T) shares of the update, w_t (G w)_t / wᵀGw; NaN where a task is absent or the update is zero."""
        table = self._now()["steps"]
        return derived.updates(table["weights"], table["gramian"])[0]

    @property
    def layer_gramians(self) -> tuple[Integers, Floats]:
        """Steps (R,) at which layer Gramians were recorded, and those Gramians (R, K, T, T)."""
        table, T, K = self._now()["layers"], len(self.tasks), len(self.info.layers)
        upper = table["gramians"].reshape(table.rows, K, T * (T + 1) // 2)
        return table["step"].copy(), derived.gramians(upper, T)

    @property
    def affinities(self) -> tuple[Integers, Floats]:
        """Steps (R,) at which inter-task affinity was measured, and it (R, T, T): a row a source, a column a target.

        NaN where a task is absent or it is undefined; see `mtlviz.training.affinity.Lookahead`. Read-only.
        """
        with self._thinning:
            table = self._affinity.added(self._now())["affinity"]
        return _read_only(table["step"]), _read_only(squares(table))

    def gramian_at(self, index: int | Integers) -> Floats:
        """(T, T) Gramian of the step at `index`, or (n, T, T) of those at the indices (n,), as in `gramians[index]`.

        Raises:
            IndexError: where there is no such step.
            RunLogError: where `index` is neither an integer nor an array of integers.
        """
        return derived.gramians(self._now()["steps"]["gramian"][arguments.indices(index)], len(self.tasks))

    # ---- frames

    @property
    def steps(self) -> pd.DataFrame:
        """A row per step and task: clocks, phase, samples, loss, weight, grad_norm, relative_rate, learning_rate."""
        return self._frame("steps")

    @property
    def pairs(self) -> pd.DataFrame:
        """A row per step and pair of tasks: dot, cosine, conflict (NA where a task is absent)."""
        return self._frame("pairs")

    @property
    def layers(self) -> pd.DataFrame:
        """A row per step, layer and pair of tasks, where layer Gramians were recorded."""
        return self._frame("layers")

    @property
    def totals(self) -> pd.DataFrame:
        """A row per step: rate_variance, conflict_rate, update_norm, learning_rate."""
        return self._frame("totals")

    @property
    def validations(self) -> pd.DataFrame:
        """A row per validation: metric and value of a task."""
        return self._frame("validations")

    @property
    def events(self) -> pd.DataFrame:
        """A row per event: task (missing for the run itself), kind and detail, a dict."""
        return self._frame("events")

    @property
    def measures(self) -> pd.DataFrame:
        """A row per measure: name, task, other, layer, value."""
        return self._frame("measures")

    def thin(self, n: int = 2000, table: str = "steps") -> pd.DataFrame:
        """The run in at most n buckets of consecutive rows: what a view draws, at a cost of the new rows only.

        A row per bucket and key: the key columns (steps: task; pairs: task_a, task_b; layers: layer, task_a, task_b;
        affinity: source, target; totals: none), then step_first, step_last, position_first, position_last, time_last,
        discarded, and of each quantity q the columns q_first, q_last, q_min, q_max, q_sum (0 where there is none) and
        q_count, of its finite values. No bucket holds discarded and surviving rows, nor rows from before and after a
        rewind.

        Args:
            n: most buckets; there are at least n / 2 once there are more rows. A run with more rewinds than that has
                a bucket per stretch; a table of so many keys that n buckets make over 2 million rows has fewer.
            table: "steps" (loss, weight, grad_norm, relative_rate, share, samples), "pairs" and "layers" (cosine,
                conflict), "affinity" (affinity) or "totals" (rate_variance, conflict_rate, update_norm,
                learning_rate).

        Raises:
            RunLogError: where n is no integer of 1 or more, or there is no such table.
        """
        from mtlviz.runlog import frames, summary

        if not arguments.is_count(n) or not isinstance(table, str) or table not in summary.KINDS:
            raise RunLogError(
                f"thin needs n of 1 or more, an integer, and one of the tables {', '.join(summary.KINDS)}; came with "
                f"n={n!r}, table={table!r}."
            )
        with self._thinning:
            store = self._now()
            store = self._affinity.added(store) if table == "affinity" else store
            kept = self._summaries.pop((table, n), None) or summary.Summary(table, n)
            self._summaries[table, n] = kept  # the newest last
            if len(self._summaries) > _MOST_SUMMARIES:
                del self._summaries[next(iter(self._summaries))]
            return kept.frame(store, frames.rewinds(store))

    def to_parquet(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write each table, as its frame shows it, to `folder/<table>.parquet`; details become JSON text.

        Returns:
            The files written.

        Raises:
            RunLogError: where a file is there already and `overwrite` is False, or cannot be written.
        """
        from mtlviz.runlog import export

        return export.to_parquet(History(self._now()), arguments.path(folder, "to_parquet"), overwrite=overwrite)

    def to_csv(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write each table, as its frame shows it, to `folder/<table>.csv`; details become JSON text.

        Returns:
            The files written.

        Raises:
            RunLogError: where a file is there already and `overwrite` is False, or cannot be written.
        """
        from mtlviz.runlog import export

        return export.to_csv(History(self._now()), arguments.path(folder, "to_csv"), overwrite=overwrite)

    def _frame(self, table: str) -> pd.DataFrame:
        from mtlviz.runlog import frames

        store = self._now()
        source = store["steps" if table in ("pairs", "totals") else table]
        version = (store.generation, source.rows, store["events"].rows)
        cached = self._cache.get(table)
        if cached is None or cached[0] != version:
            frame = frames.FRAMES[table](store, frames.rewinds(store))
            # Each caller gets its own dicts, and a frame that fills the memory is not held on to.
            if table == "events" or len(frame) > _LARGEST_CACHED:
                self._cache.pop(table, None)
                return frame
            cached = self._cache[table] = (version, frame)
        return cached[1].copy(deep=False)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    view = values.view()
    view.flags.writeable = False
    return view
