"""Many runs at once, in processes of their own: progress, the error of each, and what is said where one dies."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from mtlviz.errors import MtlvizError, ProblemError

_GLANCE = 0.5  # seconds between looks at whether the parent is there


@dataclass(frozen=True)
class Call:
    """A run to do: `do(*arguments)` returns its folder and the error that ended it, if any."""

    told: str  # what it is called where it fails
    do: Callable[..., tuple[Path, str | None]]
    arguments: tuple[Any, ...]


def done(calls: Sequence[Call], *, jobs: int, bar: tqdm, needs: str, work: str) -> dict[Path, str | None]:
    """Does the calls on `jobs` processes, -1 for one a core; the error of each by its folder, None where it has none.

    bar: is moved on with every call that is done. needs: the public function, to be called again. work: what it does,
    as "the comparison".

    Raises: ProblemError where something cannot be sent to another process, MtlvizError where a process died.
    """
    told: Mapping[int, str] = {index: call.told for index, call in enumerate(calls)}
    errors: dict[Path, str | None] = {}
    processes = min(joblib.effective_n_jobs(jobs), len(calls))
    if processes > 1:
        bar.set_description(f"starting {processes} processes")
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    results = parallel(joblib.delayed(_numbered)(index, call.do, call.arguments) for index, call in enumerate(calls))
    try:
        with closing(results):
            for index, folder, error in results:
                errors[folder] = error
                bar.set_description("")
                bar.update()
                if error is not None:
                    bar.write(f"{told[index]} failed: {error}")
    except pickle.PicklingError as error:
        reason = [line for line in str(error.__cause__ or error).splitlines() if line.strip('"')][-1]
        raise ProblemError(
            f"{needs} could not send the problem, a method or the optimizer to another process ({reason}). "
            "Train in this process with jobs=1, or leave out what cannot be copied"
        ) from error
    except BrokenExecutor as error:
        raise MtlvizError(
            f"a process of {work} died ({str(error).splitlines()[0]}) Was it killed for memory? What is "
            f"finished is kept: call {needs} again, with fewer jobs"
        ) from error
    return errors


def checked_jobs(jobs: object) -> int:
    """How many processes. Raises: ValueError for anything else than a number of them, or -1 for one a core."""
    if isinstance(jobs, bool) or not isinstance(jobs, (int, np.integer)) or jobs == 0:
        raise ValueError(f"jobs must be a number of processes, or -1 for one a core; got {jobs!r}")
    return int(jobs)


def settle(parent: int) -> None:
    """Makes this process a worker of `parent`, unless it is that one: a single thread, and an end with its parent."""
    if os.getpid() != parent:
        torch.set_num_threads(1)
        _end_with(parent)


def _numbered(
    index: int, do: Callable[..., tuple[Path, str | None]], arguments: tuple[Any, ...]
) -> tuple[int, Path, str | None]:
    return index, *do(*arguments)


@cache
def _end_with(parent: int) -> None:
    """Ends this process once its parent is gone: a worker of a comparison that was killed would train on for nobody.

    Workers that are nobody's children here, such as those of a Dask cluster, are left alone.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE)
        os._exit(1)

    if os.getppid() == parent:
        threading.Thread(target=watch, name="mtlviz parent", daemon=True).start()
