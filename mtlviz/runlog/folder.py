"""A run's folder: `run.json`, which files belong to a run, and making room for a new one."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mtlviz.errors import RunLogError
from mtlviz.runlog import jsontext, lock
from mtlviz.runlog.info import SCHEMA, RunInfo, TaskInfo
from mtlviz.runlog.layout import TABLES

RUN = "run.json"
FORMAT = "mtlviz run"
CHECKPOINTS = "checkpoints"
_DRAFT = "run.json.new"
_STREAM = re.compile(rf"({'|'.join(TABLES)})\.(\d{{3,}})\.arrows")
_VERSIONS = ("mtlviz", "numpy", "pandas", "pyarrow", "torch")


def streams(folder: Path) -> dict[int, dict[str, Path]]:
    """The Arrow streams in a folder: segment -> table -> path."""
    found: dict[int, dict[str, Path]] = {}
    for name in sorted(os.listdir(folder)):
        match = _STREAM.fullmatch(name)
        if match:
            found.setdefault(int(match[2]), {})[match[1]] = folder / name
    return found


def stream(folder: Path, table: str, segment: int) -> Path:
    """The path of a table's stream."""
    return folder / f"{table}.{segment:03d}.arrows"


def make(folder: Path) -> None:
    """Make the folder, with its parents.

    Raises:
        RunLogError: where that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunLogError(
            f"Could not create the run folder {folder}: {error.strerror or error}. Choose a path where you may write."
        ) from error


def refuse_occupied(folder: Path, *, overwrite: bool) -> None:
    """Let only an empty folder pass, or, to overwrite, one that holds a run.

    Raises:
        RunLogError: saying what is there and what to do.
    """
    entries = set(os.listdir(folder)) - {lock.NAME, _DRAFT}  # what a creation that was cut short leaves behind
    if not entries:
        return
    if not _is_run(folder):
        raise RunLogError(
            f"{folder} is not empty and holds no run ({', '.join(sorted(entries)[:3])}"
            f"{', ...' if len(entries) > 3 else ''}); nothing in it was touched. Choose an empty or a new folder."
        )
    if not overwrite:
        raise RunLogError(
            f"{folder} already holds a run. To replace it: overwrite=True; to keep it: choose another folder; to go on "
            f"with it: resume=True in mv.start or mv.Probe; to read it: RunLog.open({str(folder)!r}); to append "
            f"records to it by hand: RunLog.resume({str(folder)!r}, first_step=n)."
        )


def clear(folder: Path) -> None:
    """Remove the run's own streams and checkpoints; any other file stays."""
    for tables in streams(folder).values():
        for path in tables.values():
            path.unlink()
    checkpoints = folder / CHECKPOINTS
    if checkpoints.is_symlink():
        checkpoints.unlink()
    elif checkpoints.is_dir():
        shutil.rmtree(checkpoints)


def info_json(info: RunInfo) -> dict[str, Any]:
    """What `run.json` says of a run info."""
    return {
        "problem": info.problem,
        "tasks": [{f.name: getattr(task, f.name) for f in fields(task)} for task in info.tasks],
        "layers": list(info.layers),
        "config": dict(info.config),
    }


def info_from_json(content: dict[str, Any]) -> RunInfo:
    """The run info that `info_json` told.

    Raises:
        KeyError, TypeError: where something is missing or of another kind.
    """
    return RunInfo(
        problem=content["problem"],
        tasks=tuple(TaskInfo(**task) for task in _listed(content, "tasks")),
        layers=tuple(_listed(content, "layers")),
        config=content["config"],
    )


def _listed(content: dict[str, Any], field: str) -> list[Any]:
    if not isinstance(content[field], list):  # a text is a sequence too, of characters
        raise TypeError(f"{field} needs a list, it is {content[field]!r}")
    return content[field]


def write_run(folder: Path, info: RunInfo) -> None:
    """Write `run.json` at once or not at all."""
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        **info_json(info),
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}},
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    draft = folder / _DRAFT
    draft.write_text(jsontext.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, folder / RUN)


def read_run(folder: Path) -> RunInfo:
    """What `run.json` says.

    Raises:
        RunLogError: where there is no such folder, no run, one of a newer schema, or one that cannot be read.
    """
    path = folder / RUN
    if not folder.exists():
        raise RunLogError(f"There is no folder {folder}. Give the path of a run's folder, the one that holds {RUN}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RunLogError(
            f"{folder} is no run: it has no {RUN}. Give the path of the folder that RunLog.create or mv.start wrote."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunLogError(
            f"Could not read {path}: {error}. Restore it, or read the .arrows files with pyarrow."
        ) from error
    try:
        _check_schema(json.loads(text), path)  # what a newer schema means by its values is not known here
        return checked(info_from_json(jsontext.loads(text)))
    except (RunLogError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, _ForeignRunError):
            raise
        raise RunLogError(
            f"Could not understand {path}: {_said(error)} Restore it from a copy, or read the .arrows files with "
            "pyarrow."
        ) from error


class _ForeignRunError(RunLogError):
    """A `run.json` of something else, or of a newer mtlviz."""


def _check_schema(content: Any, path: Path) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _ForeignRunError(
            f"{path.parent} is no run: its {RUN} was not written by mtlviz. Give the path of a run's folder."
        )
    schema, versions = content["schema"], content.get("versions")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise ValueError(f"its schema needs to be a number of 1 or more; it is {schema!r}")
    if schema > SCHEMA:
        raise _ForeignRunError(
            f"{path} has schema {schema}, written by mtlviz "
            f"{versions.get('mtlviz') if isinstance(versions, dict) else 'of an unknown version'}; this mtlviz reads "
            f"schema {SCHEMA} and older. Update it: pip install -U mtlviz."
        )


def _said(error: Exception) -> str:
    text = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
    return text if text.endswith(".") else f"{text}."


def checked(info: RunInfo) -> RunInfo:
    """The run info, as it will be read back from `run.json`.

    Raises:
        RunLogError: where tasks or layers are missing, unnamed or named twice, a field is of another kind, a text
            cannot be stored, or the configuration is no JSON.
    """
    _check_kinds(info)
    for what, names in (("tasks", [task.name for task in info.tasks]), ("layers", list(info.layers))):
        if not all(isinstance(name, str) and name for name in names):
            raise RunLogError(f"A log needs {what} with a name each; came with {names!r}.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RunLogError(f"A log needs {what} of different names; {', '.join(twice)} came more than once.")
    if not info.tasks:
        raise RunLogError("A log needs at least one task; the run info has none.")
    for task in info.tasks:
        if task.direction not in ("max", "min"):
            raise RunLogError(f'Task {task.name} needs the direction "max" or "min"; came with {task.direction!r}.')
    try:
        return info_from_json(jsontext.loads(jsontext.dumps(info_json(info))))
    except TypeError as error:
        raise RunLogError(
            f"The run's configuration must be JSON values (numbers, texts, lists, mappings): {error}."
        ) from error


def _check_kinds(info: RunInfo) -> None:
    for what, items, kind in (("tasks", info.tasks, TaskInfo), ("layers", info.layers, str)):
        if not isinstance(items, list | tuple) or not all(isinstance(item, kind) for item in items):
            raise RunLogError(f"A log needs {what} with a name each, a tuple of {kind.__name__}; came with {items!r}.")
    if not isinstance(info.config, Mapping):
        raise RunLogError(f"The run's configuration must be JSON values in a mapping; came with {info.config!r}.")
    texts = [("problem", info.problem), *(("layer", layer) for layer in info.layers)]
    for task in info.tasks:
        texts += [("task", task.name), ("metric", task.metric), ("loss", task.loss)]
        if not (task.outputs is None or isinstance(task.outputs, int | np.integer)) or not isinstance(
            task.samples, Mapping
        ):
            raise RunLogError(
                f"Task {task.name!r} needs a number of outputs (or None) and a mapping of samples per split; came with "
                f"{task.outputs!r} and {task.samples!r}."
            )
    for what, text in texts:
        if not isinstance(text, str):
            raise RunLogError(f"A log needs a text for each {what}, with a name each; came with {text!r}.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RunLogError(
                f"The {what} {text!r} cannot be stored: it holds half a character (a lone surrogate). Rename it."
            ) from None


def _is_run(folder: Path) -> bool:
    try:
        content = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
