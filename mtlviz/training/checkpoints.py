"""Checkpoints of a run, in memory or in its folder: tensors and plain values, written whole or not at all."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mtlviz.data.problem import Problem
from mtlviz.errors import RunLogError, unknown
from mtlviz.models.shared_trunk import SharedTrunk
from mtlviz.runlog.folder import CHECKPOINTS
from mtlviz.runlog.log import RunLog
from mtlviz.training.buffers import restore_buffers
from mtlviz.training.packing import digest, packed, unpacked

if TYPE_CHECKING:
    from mtlviz.training.run import Run

_STEP = re.compile(r"step-(\d{9,})\.pt")
_DRAFT = ".new"


class Checkpoints(Protocol):
    """Where a training keeps its states, to go back to them."""

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keeps a copy of the state after `step` updates: nested mappings and lists of tensors and plain values.

        Numpy arrays and numbers may be in it too. Raises: RunLogError naming the place of any other value.
        """

    def load(self, step: int) -> dict[str, Any]:
        """The state that was saved: a copy, its tensors on the CPU. Raises: RunLogError where there is none to load."""

    def prune(self, keep: Collection[int]) -> None:
        """Drops the states of all steps but these; soft labels stay."""

    def steps(self) -> list[int]:
        """The steps of the states that are kept, in order."""

    def save_soft(self, task: str, step: int, labels: torch.Tensor) -> None:
        """Keeps a copy of the soft labels (N, ...) that the state of `step` gave for a task's training set."""

    def load_soft(self, task: str, step: int) -> torch.Tensor:
        """The soft labels that were saved, a copy on the CPU. Raises: RunLogError where there are none to load."""


class InMemory(Checkpoints):
    """Checkpoints for as long as the process lives, as copies on the CPU; several threads may ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[int, dict[str, Any]] = {}
        self._soft: dict[tuple[str, int], torch.Tensor] = {}

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """See `Checkpoints`."""
        copied = packed(state)
        with self._lock:
            self._states[step] = copied

    def load(self, step: int) -> dict[str, Any]:
        """See `Checkpoints`."""
        with self._lock:
            state, there = self._states.get(step), sorted(self._states)
        if state is None:
            raise RunLogError(f"There is no checkpoint of step {step}; there are {there}.")
        return unpacked(state)

    def prune(self, keep: Collection[int]) -> None:
        """See `Checkpoints`."""
        with self._lock:
            self._states = {step: state for step, state in self._states.items() if step in keep}

    def steps(self) -> list[int]:
        """See `Checkpoints`."""
        with self._lock:
            return sorted(self._states)

    def save_soft(self, task: str, step: int, labels: torch.Tensor) -> None:
        """See `Checkpoints`."""
        self._soft[task, step] = packed(labels)

    def load_soft(self, task: str, step: int) -> torch.Tensor:
        """See `Checkpoints`."""
        if (task, step) not in self._soft:
            raise RunLogError(f"There are no soft labels of the task {task!r} from step {step}.")
        return self._soft[task, step].clone()


class InFolder(Checkpoints):
    """Checkpoints in the folder of a run: `checkpoints/step-000000200.pt`, `soft-0-000000200.pt`.

    A file is there whole or not at all, also after a crash: it is written beside its place, brought to the disk, and
    moved there. Any torch reads it with `torch.load(path, weights_only=True)["state"]`.

    folder: of the run. tasks: their names, in the order of the run. flush: called before a state is saved, so that the
    log holds every row up to it; may be set later.

    Raises, in all methods: RunLogError naming the file that cannot be written or read.
    """

    def __init__(self, folder: Path, *, tasks: Sequence[str], flush: Callable[[], None] | None = None) -> None:
        self.folder, self.tasks, self.flush = folder / CHECKPOINTS, tuple(tasks), flush

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """See `Checkpoints`."""
        whole = packed(state)
        if self.flush is not None:
            self.flush()
        _write(self.path(step), whole)

    def load(self, step: int) -> dict[str, Any]:
        """See `Checkpoints`."""
        return unpacked(_read(self.path(step)))

    def prune(self, keep: Collection[int]) -> None:
        """See `Checkpoints`; what writers left that were killed goes too."""
        gone = [self.path(step) for step in self.steps() if step not in keep]
        for path in [*gone, *self.folder.glob(f"*{_DRAFT}")]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RunLogError(f"Could not remove {path}: {error.strerror or error}.") from error

    def steps(self) -> list[int]:
        """See `Checkpoints`."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunLogError(f"Could not read {self.folder}: {error.strerror or error}.") from error
        return sorted(int(match[1]) for match in map(_STEP.fullmatch, names) if match)

    def save_soft(self, task: str, step: int, labels: torch.Tensor) -> None:
        """See `Checkpoints`."""
        _write(self.soft_path(task, step), packed(labels))

    def load_soft(self, task: str, step: int) -> torch.Tensor:
        """See `Checkpoints`."""
        return _read(self.soft_path(task, step))

    def path(self, step: int) -> Path:
        """The file of a state."""
        return self.folder / f"step-{step:09d}.pt"

    def soft_path(self, task: str, step: int) -> Path:
        """The file of soft labels; the task by its number, since a name may be no name for a file."""
        return self.folder / f"soft-{self.tasks.index(task)}-{step:09d}.pt"


def best_model(run: str | PathLike[str] | Run, problem: Problem, task: str) -> SharedTrunk:
    """The problem's model as it was at a task's best validation in a run, in evaluation mode, on the CPU.

    Where the run converged on the task, that is the checkpoint which it went back to, else the best one that is kept.

    run: its folder, or the run itself where it keeps checkpoints; it may still train. problem: with the trunk and heads
    of the run.

    Raises: RunLogError where the run keeps no checkpoint of a validation of the task, or one of another model;
    ValueError for an unknown task, or for what is no run or no problem.
    """
    if isinstance(run, RunLog) and run.path is not None:
        run = run.path
    if isinstance(run, str | PathLike):
        log = RunLog.open(run)
        checkpoints: Checkpoints | None = InFolder(Path(run), tasks=log.names)
    elif hasattr(run, "training"):
        log, checkpoints = run.log, run.training.checkpoints
    else:
        raise ValueError(f"best_model needs the folder of a run, or the run itself; got {type(run).__name__}")
    if not isinstance(problem, Problem):
        raise ValueError(f"best_model needs the problem that the run trained, got {type(problem).__name__}")
    place = f"the run in {log.path}" if log.path is not None else "this run"
    if task not in log.names:
        raise ValueError(f"{unknown('task', task, log.names)} ({place})")
    state = None if checkpoints is None else _best_state(log, task, checkpoints)
    if state is None:
        raise RunLogError(f"No checkpoint of a validation of the task {task!r} is kept by {place}.")
    model = copy.deepcopy(problem.model).cpu()
    try:
        model.load_state_dict(state["model"])
        restore_buffers(model, state["buffers"])
    except RuntimeError as error:
        raise RunLogError(f"The problem's model is not that of {place}: {error}") from error
    return model.eval()


_CHOICES = 10  # a run drops a few checkpoints a validation: none takes long enough to lose so many choices


def _best_state(log: RunLog, task: str, checkpoints: Checkpoints) -> dict[str, Any] | None:
    """The state of a task's best validation. A run that trains may drop a checkpoint after it was chosen."""
    for _ in range(_CHOICES):
        step = _best_step(log, task, checkpoints.steps())
        if step is None:
            return None
        try:
            return checkpoints.load(step)
        except RunLogError as error:
            if step in checkpoints.steps():
                raise
            gone = error
    raise gone


def _best_step(log: RunLog, task: str, kept: Collection[int]) -> int | None:
    """The step of a task's best validation of which the checkpoint is kept; the first of equal ones."""
    events, table = log.events, log.validations
    for detail in events.loc[(events["kind"] == "convergence") & (events["task"] == task), "detail"].tolist():
        if detail["best_step"] in kept:
            return int(detail["best_step"])
    own = table[(table["task"] == task) & ~table["discarded"] & table["step"].isin(list(kept))]
    values = own["value"].to_numpy(np.float64)
    if not np.isfinite(values).any():
        return None
    sign = 1.0 if log.tasks[log.names.index(task)].direction == "max" else -1.0
    return int(own["step"].iloc[int(np.where(np.isfinite(values), sign * values, -np.inf).argmax())])


def _write(path: Path, content: Any) -> None:
    buffer = io.BytesIO()  # torch hides what the disk says in an error of its own
    torch.save({"state": content, "digest": digest(content)}, buffer)
    draft = path.with_name(path.name + _DRAFT)
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            with open(draft, "wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        _sync(path.parent)
    except OSError as error:
        raise RunLogError(
            f"Could not write {path}: {error.strerror or error}. Free space, or choose a path where you may write; the "
            "run goes on from its last checkpoint with mv.start(..., log=..., resume=True)."
        ) from error


def _sync(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _read(path: Path) -> Any:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RunLogError(f"Could not read {path}: {error.strerror or error}.") from error
    except Exception as error:  # on bytes that are no file of its own, torch raises nearly anything
        raise RunLogError(f"Could not read {path}: it is damaged ({type(error).__name__}).") from error
    if not isinstance(content, dict) or content.keys() != {"state", "digest"}:
        raise RunLogError(f"Could not read {path}: it was not written by mtlviz.")
    if digest(content["state"]) != content["digest"]:  # torch.load takes flipped bits for numbers
        raise RunLogError(f"Could not read {path}: it is damaged, its numbers are not those that were written.")
    return content["state"]
