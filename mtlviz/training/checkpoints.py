"""Checkpoints of a run, in memory or in its folder: tensors and plain values, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mtlviz.errors import RunLogError
from mtlviz.runlog.folder import CHECKPOINTS

_NUMPY = "$numpy"  # {"$numpy": tensor}: an array, which files of tensors and plain values have no word for
_STEP = re.compile(r"step-(\d{9,})\.pt")
_DRAFT = ".new"
_PLAIN = (type(None), bool, int, float, str)
_MAPPINGS = (dict, OrderedDict, Counter)  # torch's loader of weights knows these; schedulers count their milestones


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
    """Checkpoints for as long as the process lives, as copies on the CPU."""

    def __init__(self) -> None:
        self._states: dict[int, dict[str, Any]] = {}
        self._soft: dict[tuple[str, int], torch.Tensor] = {}

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """See `Checkpoints`."""
        self._states[step] = packed(state)

    def load(self, step: int) -> dict[str, Any]:
        """See `Checkpoints`."""
        if step not in self._states:
            raise RunLogError(f"There is no checkpoint of step {step}; there are {self.steps()}.")
        return unpacked(self._states[step])

    def prune(self, keep: Collection[int]) -> None:
        """See `Checkpoints`."""
        self._states = {step: state for step, state in self._states.items() if step in keep}

    def steps(self) -> list[int]:
        """See `Checkpoints`."""
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


def packed(value: Any, place: str = "") -> Any:
    """A copy of nested mappings, lists and tuples that holds nothing but tensors on the CPU and plain values.

    Raises: RunLogError naming the place of anything else, as in "optimizer.state.0.step".
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.device.type == "meta" or value.is_quantized:
            raise _refused(f"a tensor of layout {value.layout} on {value.device}", place)
        return value.detach().cpu().clone()
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return value.item()
    if isinstance(value, np.ndarray):
        try:
            return {_NUMPY: torch.from_numpy(np.array(value, order="C"))}
        except TypeError:
            raise _refused(f"an array of {value.dtype}", place) from None
    if isinstance(value, Mapping):
        items = {_key(key, place): packed(item, _inside(place, key)) for key, item in value.items()}
        return _alike(value, items) if type(value) in _MAPPINGS else items
    if isinstance(value, list | tuple):
        row = [packed(item, _inside(place, number)) for number, item in enumerate(value)]
        return tuple(row) if isinstance(value, tuple) else row
    raise _refused(f"a {type(value).__name__}", place)


def unpacked(value: Any) -> Any:
    """A copy of what was packed, with arrays as arrays again."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        if value.keys() == {_NUMPY}:
            return value[_NUMPY].clone().numpy()
        return _alike(value, {key: unpacked(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(unpacked(item) for item in value)
    return value


def _alike(mapping: Any, items: dict[Any, Any]) -> Any:
    """Items in a mapping of the same kind, with what a module's own state says of its versions."""
    made = type(mapping)(items)
    if isinstance(mapping, OrderedDict) and hasattr(mapping, "_metadata"):
        made._metadata = packed(mapping._metadata)
    return made


def _key(key: object, place: str) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    if type(key) not in _PLAIN or key == _NUMPY:
        raise _refused(f"the key {key!r}", place)
    return key


def _inside(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _refused(what: str, place: str) -> RunLogError:
    return RunLogError(
        f"A checkpoint holds tensors, numbers, texts, and lists and mappings of them; {place or 'the state'} is or has "
        f"{what}."
    )


def _write(path: Path, content: Any) -> None:
    buffer = io.BytesIO()  # torch hides what the disk says in an error of its own
    torch.save({"state": content, "digest": _digest(content)}, buffer)
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
    if _digest(content["state"]) != content["digest"]:  # torch.load takes flipped bits for numbers
        raise RunLogError(f"Could not read {path}: it is damaged, its numbers are not those that were written.")
    return content["state"]


def _digest(content: Any) -> str:
    """A fingerprint of every number, text and key."""
    found = hashlib.blake2b(digest_size=16)
    _add_to(found, content)
    return found.hexdigest()


def _add_to(found: hashlib.blake2b, content: Any) -> None:
    if isinstance(content, torch.Tensor):
        found.update(f"{content.dtype} {tuple(content.shape)}".encode())
        found.update(content.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(content, Mapping | list | tuple):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        found.update(f"{type(content).__name__} {len(content)}".encode())
        for key, item in items:
            found.update(repr(key).encode())
            _add_to(found, item)
    else:
        found.update(repr(content).encode("utf-8", "surrogatepass"))
