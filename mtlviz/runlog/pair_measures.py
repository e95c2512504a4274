"""A measure of ordered pairs of tasks as a table with a row a step, brought up to date at the cost of the new rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.runlog.layout import Block, Column
from mtlviz.runlog.records import Floats, Integers
from mtlviz.runlog.store import Store, Table


class PairMeasure:
    """The measures of one name, of a task and another and of no layer: a row per recorded step, a column per pair.

    A pair without a value is NaN; of several the last counts. Measures of steps that the log does not hold have no
    position on the trajectory, and are left out. Rows that are there never change: where a measure of an earlier step
    comes late, all are gathered anew.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._generation: int | None = None
        self._anew = 0  # times that rows which were there have changed
        self._taken = 0  # rows of the measures
        self._waiting = np.empty(0, dtype=np.intp)  # those of them whose step may be read next
        self._table: Table | None = None

    def added(self, store: Store) -> Store:
        """The store with a further table, called as the measure is: step, position and value (rows, T·T)."""
        if self._table is None or self._generation != store.generation:
            self._generation = store.generation
            self._clear(store)
        self._take(store)
        assert self._table is not None
        whole = store.frozen()
        whole.tables[self._name] = self._table.frozen()
        whole.generation += self._anew  # both only grow, so this is new whenever rows are no longer what they were
        return whole

    def _clear(self, store: Store) -> None:
        T = len(store.info.tasks)
        self._table = Table((Column("step", "int"), Column("position", "int"), Column("value", "float", T * T)))
        self._taken, self._waiting = 0, np.empty(0, dtype=np.intp)

    def _take(self, store: Store) -> None:
        steps, measures = store["steps"], store["measures"]
        new = measures.block(self._taken, measures.rows)
        own = np.flatnonzero((new["name"] == self._name) & (new["layer"] == np.array(None))) + self._taken
        rows = np.append(self._waiting, own)
        early = measures["step"][rows] > (steps["step"][-1] if steps.rows else 0)
        block = self._pivoted(
            store, {name: measures[name][rows[~early]] for name in ("step", "task", "other", "value")}
        )
        assert self._table is not None
        known = self._table["step"]
        if len(known) and len(block["step"]) and block["step"][0] <= known[-1]:
            self._anew += 1
            self._clear(store)
            self._take(store)
            return
        self._taken, self._waiting = measures.rows, rows[early]
        self._table.extend(block)

    def _pivoted(self, store: Store, rows: Block) -> Block:
        """The rows of measures as rows of the table, in the order of their steps."""
        steps, T = store["steps"], len(store.info.tasks)
        place = _places(steps["step"], rows["step"])
        first, second = (_codes(store, rows[name]) for name in ("task", "other"))
        known = (place >= 0) & (first >= 0) & (second >= 0)
        numbers, row = np.unique(rows["step"][known], return_inverse=True)
        value = np.full((len(numbers), T * T), np.nan)
        value[row, (first * T + second)[known]] = rows["value"][known]
        return {"step": numbers, "position": steps["position"][_places(steps["step"], numbers)], "value": value}


def _places(steps: Integers, wanted: Integers) -> NDArray[np.intp]:
    """Where each of the wanted steps stands among the recorded ones, -1 where it does not."""
    place = np.searchsorted(steps, wanted)
    there = place < len(steps)
    there[there] = steps[place[there]] == wanted[there]
    return np.where(there, place, -1)


def _codes(store: Store, names: NDArray[Any]) -> NDArray[np.intp]:
    """The index of each task, -1 where there is none."""
    known = {task.name: index for index, task in enumerate(store.info.tasks)}
    return np.array([known.get(name, -1) for name in names], dtype=np.intp)


def squares(table: Table) -> Floats:
    """The values (rows, T, T): a row for the first task of a pair, a column for the second."""
    values = table["value"]
    T = round(values.shape[1] ** 0.5)
    return values.reshape(-1, T, T)
