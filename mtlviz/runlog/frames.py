"""The run's tables as pandas frames, with the derived quantities as ordinary columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.runlog import derived, jsontext
from mtlviz.runlog.records import PHASES, Floats, Integers
from mtlviz.runlog.store import Store

Rewinds = tuple[Integers, Integers]
Columns = dict[str, Any]


def rewinds(store: Store) -> Rewinds:
    """The steps of the run's rewinds (R,) and the positions they went back to (R,)."""
    events = store["events"]
    rows = np.flatnonzero(events["kind"] == "rewind")
    to = [jsontext.loads(text)["to"] for text in events["detail"][rows]]
    return events["step"][rows], np.array(to, dtype=np.int64)


def steps(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per step and task."""
    table, T = store["steps"], len(store.info.tasks)
    norm = derived.norms(table["gramian"], T)
    rows = table.rows
    return _frame(
        {
            **{name: np.repeat(values, T) for name, values in _clocks(store, "steps", back).items()},
            "time": np.repeat(table["time"], T),
            "task": categories(np.tile(np.arange(T, dtype=np.int16), rows), _tasks(store)),
            "phase": categories(table["phases"].ravel(), PHASES),
            "samples": table["samples"].flatten(),
            "loss": table["losses"].flatten(),
            "weight": table["weights"].flatten(),
            "grad_norm": norm.ravel(),
            "relative_rate": derived.relative_rates(table["losses"], norm, table["phases"]).ravel(),
            "learning_rate": np.repeat(table["learning_rate"], T),
        }
    )


def pairs(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per step and pair of tasks a < b."""
    table, T = store["steps"], len(store.info.tasks)
    index = derived.triangle(T)
    dot = derived.dots(table["gramian"], T)
    cosine = derived.cosines(dot, derived.norms(table["gramian"], T))
    return _frame(
        {
            **{name: np.repeat(values, len(index.a)) for name, values in _clocks(store, "steps", back).items()},
            **_pair_columns(store, table.rows),
            **_dot_columns(dot, cosine),
        }
    )


def layers(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per step, layer and pair of tasks a < b, where layer Gramians were recorded."""
    table, T, K = store["layers"], len(store.info.tasks), len(store.info.layers)
    index = derived.triangle(T)
    upper = table["gramians"].reshape(table.rows, K, len(index.flat))
    norm, dot = derived.norms(upper, T), derived.dots(upper, T)  # (R, K, T), (R, K, pairs)
    each = K * len(index.a)
    layer = np.tile(np.repeat(np.arange(K, dtype=np.int32), len(index.a)), table.rows)
    return _frame(
        {
            **{name: np.repeat(values, each) for name, values in _clocks(store, "layers", back).items()},
            "layer": categories(layer, store.info.layers),
            **_pair_columns(store, table.rows * K),
            **_dot_columns(dot, derived.cosines(dot, norm)),
            "norm_a": norm[..., index.a].ravel(),
            "norm_b": norm[..., index.b].ravel(),
        }
    )


def validations(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per validation."""
    table = store["validations"]
    return _frame(
        {
            **_clocks(store, "validations", back),
            "task": _named(table["task"], _tasks(store)),
            "metric": _texts(table["metric"]),
            "value": table["value"].copy(),
        }
    )


def events(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per event; `detail` is a dict of its own for each caller."""
    table = store["events"]
    detail = np.empty(table.rows, dtype=object)
    detail[:] = [jsontext.loads(text) for text in table["detail"]]
    return _frame(
        {
            "step": table["step"].copy(),
            "position": table["position"].copy(),
            "task": _named(table["task"], _tasks(store)),
            "kind": _texts(table["kind"]),
            "detail": detail,
        }
    )


def measures(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per measure."""
    table = store["measures"]
    return _frame(
        {
            "step": table["step"].copy(),
            "name": _texts(table["name"]),
            "task": _named(table["task"], _tasks(store)),
            "other": _named(table["other"], _tasks(store)),
            "layer": _named(table["layer"], store.info.layers),
            "value": table["value"].copy(),
        }
    )


def totals(store: Store, back: Rewinds) -> pd.DataFrame:
    """A row per step: the quantities of the whole update."""
    table, T = store["steps"], len(store.info.tasks)
    upper = table["gramian"]
    rates = derived.relative_rates(table["losses"], derived.norms(upper, T), table["phases"])
    return _frame(
        {
            **{name: values.copy() for name, values in _clocks(store, "steps", back).items()},
            "time": table["time"].copy(),
            "rate_variance": derived.rate_variances(rates),
            "conflict_rate": derived.conflict_rates(derived.dots(upper, T)),
            "update_norm": derived.updates(table["weights"], upper)[1],
            "learning_rate": table["learning_rate"].copy(),
        }
    )


FRAMES = {
    "steps": steps,
    "pairs": pairs,
    "layers": layers,
    "validations": validations,
    "events": events,
    "measures": measures,
    "totals": totals,
}


def categories(codes: NDArray[Any], names: Iterable[str]) -> pd.Categorical:
    """Indices into `names` (-1: none) as an ordered categorical: the order carries each task's colour."""
    return pd.Categorical.from_codes(codes, categories=_index(names), ordered=True)  # type: ignore[call-overload]


def _clocks(store: Store, name: str, back: Rewinds) -> Columns:
    table = store[name]
    step, position = table["step"], table["position"]
    return {
        "step": step.copy(),
        "position": position.copy(),
        "discarded": derived.discarded(step, position, back),
    }


def _pair_columns(store: Store, times: int) -> Columns:
    index, names = derived.triangle(len(store.info.tasks)), _tasks(store)
    return {
        "task_a": categories(np.tile(index.a.astype(np.int16), times), names),
        "task_b": categories(np.tile(index.b.astype(np.int16), times), names),
    }


def _dot_columns(dot: Floats, cosine: Floats) -> Columns:
    flat = dot.ravel()
    conflict = pd.arrays.BooleanArray(flat < 0, np.isnan(flat))
    return {"dot": flat, "cosine": cosine.ravel(), "conflict": conflict}


def _tasks(store: Store) -> tuple[str, ...]:
    return tuple(task.name for task in store.info.tasks)


def _named(values: NDArray[Any], names: Iterable[str]) -> pd.Categorical:
    return pd.Categorical(values, categories=_index(names), ordered=True)


def _index(names: Iterable[str]) -> pd.Index:
    return pd.Index(list(names), dtype="str")


def _texts(values: NDArray[Any]) -> Any:
    return pd.array(values, dtype="str")


def _frame(columns: Columns) -> pd.DataFrame:
    # Every column is fresh memory already, so pandas need not copy it once more.
    return pd.DataFrame(columns, copy=False)
