"""The border of the log: checks each record once and writes it as a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import RunLogError
from mtlviz.runlog import jsontext
from mtlviz.runlog.derived import triangle
from mtlviz.runlog.layout import Block
from mtlviz.runlog.records import PHASES, Event, Measure, Record, Step, Validation
from mtlviz.runlog.store import Store

_PHASES_KEPT = 1024


class Rows:
    """Writes records into a store; a record that does not fit raises and leaves the store as it was."""

    def __init__(self, store: Store, *, first_step: int = 1) -> None:
        info = store.info
        self._store = store
        self._names = {task.name for task in info.tasks}
        self._layers = set(info.layers)
        T, K = len(info.tasks), len(info.layers)
        self._shape, self._square, self._cube = (T,), (T, T), (K, T, T)
        self._upper = triangle(T).flat
        self._codes: dict[tuple[str, ...], NDArray[np.int8]] = {}
        self._first_step = first_step
        self._last = {
            table: int(store[table]["step"][-1]) if store[table].rows else 0 for table in ("validations", "events")
        }
        steps = store["steps"]
        self._last_step = max(int(steps["step"][-1]) if steps.rows else 0, first_step - 1)
        self._writers: dict[type, Callable[[Any], None]] = {
            Step: self._step,
            Validation: self._validation,
            Event: self._event,
            Measure: self._measure,
        }

    def add(self, record: Record) -> None:
        """Check a record and append its row.

        Raises:
            RunLogError: naming what does not fit.
        """
        write = self._writers.get(type(record))
        if write is None:
            raise RunLogError(
                f"A log takes Step, Validation, Event and Measure records; this is a {type(record).__name__}."
            )
        try:
            write(record)
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise RunLogError(f"{self._title(record)}: a value does not fit its field: {error}") from error

    def _step(self, record: Step) -> None:
        losses, weights, gramian, samples = record.losses, record.weights, record.gramian, record.samples
        shape = self._shape
        if not (
            losses.shape == shape
            and weights.shape == shape
            and samples.shape == shape
            and gramian.shape == self._square
            and (record.layers is None or (self._layers and record.layers.shape == self._cube))
        ):
            self._misshapen(record)
        step, position = index(record.step), index(record.position)
        if not (step > self._last_step and 0 < position <= step):
            self._misplaced(record, step, position)
        codes = self._codes.get(record.phases)
        if codes is None:
            codes = self._phase_codes(record)
        table = self._store["steps"]
        row = table.rows
        table.grow(row + 1)
        arrays = table.arrays
        arrays["step"][row] = step
        arrays["position"][row] = position
        arrays["time"][row] = record.time
        arrays["learning_rate"][row] = record.learning_rate
        arrays["losses"][row] = losses
        arrays["weights"][row] = weights
        arrays["gramian"][row] = gramian.take(self._upper)
        arrays["samples"][row] = samples
        arrays["phases"][row] = codes
        if record.layers is not None:
            upper = record.layers.reshape(len(self._layers), -1).take(self._upper, axis=1)
            self._store["layers"].extend(
                {"step": np.array([step]), "position": np.array([position]), "gramians": upper.reshape(1, -1)}
            )
        table.rows = row + 1
        self._last_step = step

    def _validation(self, record: Validation) -> None:
        step, position = self._place("validations", record)
        self._known(record, "task", record.task, self._names)
        self._write(
            "validations",
            {
                "step": step,
                "position": position,
                "task": record.task,
                "metric": _text(record.metric),
                "value": float(record.value),
            },
        )
        self._last["validations"] = step

    def _event(self, record: Event) -> None:
        step, position = self._place("events", record)
        if record.task is not None:
            self._known(record, "task", record.task, self._names)
        if not isinstance(record.detail, Mapping):
            raise TypeError(f"detail needs a mapping, a {type(record.detail).__name__} came")
        if record.kind == "rewind" and not _goes_back(record.detail):
            raise RunLogError(
                f'{self._title(record)}: a rewind needs the position it goes back to, detail={{"to": p}} with an '
                f"integer p >= 0; its detail is {dict(record.detail)!r}."
            )
        self._write(
            "events",
            {
                "step": step,
                "position": position,
                "task": record.task,
                "kind": _text(record.kind),
                "detail": jsontext.dumps(record.detail),
            },
        )
        self._last["events"] = step

    def _measure(self, record: Measure) -> None:
        step = index(record.step)
        if step < 0:
            raise RunLogError(f"{self._title(record)}: step must be 0 or more.")
        for field in ("task", "other", "layer"):
            value = getattr(record, field)
            if value is not None:
                self._known(record, field, value, self._layers if field == "layer" else self._names)
        self._write(
            "measures",
            {
                "step": step,
                "name": _text(record.name),
                "task": record.task,
                "other": record.other,
                "layer": record.layer,
                "value": float(record.value),
            },
        )

    def _write(self, table: str, row: dict[str, object]) -> None:
        target = self._store[table]
        target.grow(target.rows + 1)
        for name, value in row.items():
            target.arrays[name][target.rows] = value
        target.rows += 1

    def _place(self, table: str, record: Validation | Event) -> tuple[int, int]:
        step, position = index(record.step), index(record.position)
        least = max(self._last[table], self._first_step - 1)
        if not (step >= least and 0 <= position <= step):
            raise RunLogError(
                f"{self._title(record)}: needs step >= {least}, the step reached so far, and 0 <= position <= step; "
                f"came with step {step}, position {position}."
            )
        return step, position

    def _phase_codes(self, record: Step) -> NDArray[np.int8]:
        phases = tuple(record.phases)
        if len(phases) != self._shape[0] or not set(phases) <= set(PHASES):
            raise RunLogError(
                f"{self._title(record)}: phases needs one of {', '.join(PHASES)} for each of the {self._shape[0]} "
                f"tasks; came as {phases!r}."
            )
        if len(self._codes) >= _PHASES_KEPT:
            self._codes.clear()
        codes = np.array([PHASES.index(phase) for phase in phases], dtype=np.int8)
        self._codes[phases] = codes
        return codes

    def _misshapen(self, record: Step) -> None:
        wanted = {"losses": self._shape, "weights": self._shape, "samples": self._shape, "gramian": self._square}
        for field, shape in wanted.items():
            came = getattr(record, field).shape
            if came != shape:
                raise RunLogError(
                    f"{self._title(record)}: {field} needs the shape {shape} of the log's tasks "
                    f"({self._task_names()}); came with {tuple(came)}."
                )
        if not self._layers:
            raise RunLogError(
                f"{self._title(record)} carries layer Gramians, but the log was created without layers: "
                "give RunInfo(layers=...) their names."
            )
        assert record.layers is not None
        raise RunLogError(
            f"{self._title(record)}: layers needs the shape {self._cube} of the log's layers "
            f"({', '.join(self._store.info.layers)}) and tasks; came with {tuple(record.layers.shape)}."
        )

    def _misplaced(self, record: Step, step: int, position: int) -> None:
        raise RunLogError(
            f"{self._title(record)}: needs step > {self._last_step}, the last one recorded, and 1 <= position <= step; "
            f"came with step {step}, position {position}. To go back on the trajectory keep counting steps, let "
            "position go back, and append a rewind event."
        )

    def _known(self, record: Record, field: str, value: object, names: set[str]) -> None:
        if value not in names:
            known = ", ".join(self._store.info.layers) if names is self._layers else self._task_names()
            raise RunLogError(f"{self._title(record)}: {field} {value!r} is none of the log's: {known or 'none'}.")

    def _task_names(self) -> str:
        return ", ".join(task.name for task in self._store.info.tasks)

    @staticmethod
    def _title(record: Record) -> str:
        return f"{type(record).__name__} at step {record.step!r}"


def fits(table: str, block: Block, store: Store) -> bool:
    """Whether rows that were read could have been appended: what `Rows` asks of a record, over whole columns."""
    step, info = block["step"], store.info
    names = {task.name for task in info.tasks}
    if table == "measures":
        return bool((step >= 0).all()) and (
            set(block["task"]) | set(block["other"]) <= names | {None} and set(block["layer"]) <= {*info.layers, None}
        )
    before = store[table]["step"][-1:]
    least, ahead = (1, 1) if table in ("steps", "layers") else (0, 0)
    position = block["position"]
    if not (
        (np.diff(np.concatenate([before, step])) >= ahead).all()
        and (least <= position).all()
        and (position <= step).all()
    ):
        return False
    if table == "steps":
        phases = block["phases"]
        return bool(((phases >= 0) & (phases < len(PHASES))).all())
    if table == "validations":
        return set(block["task"]) <= names
    if table == "events":
        return set(block["task"]) <= names | {None} and all(
            _detailed(kind, text) for kind, text in zip(block["kind"], block["detail"], strict=True)
        )
    return True


def _detailed(kind: str, text: str) -> bool:
    try:
        detail = jsontext.loads(text)
    except ValueError:
        return False
    return isinstance(detail, dict) and (kind != "rewind" or _goes_back(detail))


def _goes_back(detail: Any) -> bool:
    to = detail.get("to")
    return isinstance(to, int) and not isinstance(to, bool) and to >= 0


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was needed, a {type(value).__name__} came")
    value.encode()  # lone surrogates cannot be stored: better told now than when the log is flushed
    return value
