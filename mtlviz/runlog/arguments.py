"""Checks what a caller asks of a run log before anything is opened: paths, counts, indices, what the run is about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtlviz.errors import RunLogError
from mtlviz.runlog.info import RunInfo


class Described(Protocol):
    """Anything that can tell what its run is: an `mtlviz.Problem`, for one."""

    def run_info(self, config: dict[str, Any] | None) -> RunInfo:
        """What a log remembers of a run of this problem."""
        ...


def path(value: object, needed: str) -> Path:
    """A path of the file system.

    Raises:
        RunLogError: naming what is `needed`, for anything else.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if isinstance(text, str) and "\0" not in text:
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            pass
        else:
            return Path(text)
    raise RunLogError(f"{needed} needs a path, a text or a pathlib.Path; came with {value!r}.")


def is_count(value: object) -> bool:
    """Whether it is an integer of 1 or more; True and 2.0 are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def indices(value: object) -> int | NDArray[np.integer[Any]]:
    """An integer, or an array of integers.

    Raises:
        RunLogError: for anything else, masks and slices among them.
    """
    array = np.asarray(value) if isinstance(value, int | np.integer | list | tuple | np.ndarray) else None
    if array is None or array.dtype.kind not in "iu" or array.ndim > 1:
        raise RunLogError(
            f"gramian_at needs the index of a step, an integer, or an array (n,) of them; came {value!r}."
        )
    return array if array.ndim else int(array)


def run_info(problem: object, config: object) -> RunInfo:
    """What the run is about.

    Raises:
        RunLogError: where `problem` is no problem, or `config` no mapping.
    """
    if config is not None and not isinstance(config, Mapping):
        raise RunLogError(f"config needs a mapping of JSON values, or None; came with {config!r}.")
    if isinstance(problem, RunInfo):
        return problem if config is None else replace(problem, config=config)
    describe = getattr(problem, "run_info", None)
    info = describe(None if config is None else dict(config)) if callable(describe) else problem
    if not isinstance(info, RunInfo):
        raise RunLogError(f"A log needs a Problem or a RunInfo, to know its tasks; came with {info!r}.")
    return info
