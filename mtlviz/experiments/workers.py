"""Many runs at once, in processes of their own, here or on a Dask cluster: progress, errors, and what dies."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from mtlviz.errors import MtlvizError, ProblemError

_GLANCE = 0.5  # seconds between looks at whether the parent is there
_TOKEN = uuid4().hex  # of this process and of those that it forks


@dataclass(frozen=True)
class Process:
    """A process, told from all others, also from one with the same number on another machine."""

    pid: int
    host: str
    token: str

    @classmethod
    def this(cls) -> Process:
        """The process that runs this."""
        return cls(os.getpid(), socket.gethostname(), _TOKEN)


@dataclass(frozen=True)
class Call:
    """A run to do: `do(*arguments)` trains into `folder`, and returns the error that ended it, if any."""

    told: str  # what it is called where it fails
    folder: Path
    do: Callable[..., str | None]
    arguments: tuple[Any, ...]


def done(calls: Sequence[Call], *, jobs: int, bar: tqdm, needs: str, work: str) -> dict[Path, str | None]:
    """Does the calls on `jobs` processes, -1 for one a core; the error of each by its folder, None where it has none.

    Within `joblib.parallel_config(backend="dask")` the workers of the cluster do them, unless `jobs` is 1.

    bar: is moved on with every call that is done. needs: the public function, to be called again. work: what it does,
    as "the comparison".

    Raises: ProblemError where something cannot be sent to another process, MtlvizError where a process died, or a
    worker of a cluster cannot do any run.
    """
    errors: dict[Path, str | None] = {}
    if not calls:
        return errors
    with _somewhere(calls, jobs, needs) as tasks:
        processes = min(joblib.effective_n_jobs(jobs), len(calls))
        if processes > 1:
            bar.set_description(f"starting {processes} processes")
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        results = parallel(tasks)
        try:
            with closing(results):
                for index, error in results:
                    call = calls[index]
                    errors[call.folder] = error
                    bar.set_description("")
                    bar.update()
                    if error is not None:
                        bar.write(f"{call.told} failed: {error}")
        except pickle.PicklingError as error:
            raise unsendable(needs, error) from error
        except BrokenExecutor as error:
            raise MtlvizError(
                f"a process of {work} died ({str(error).splitlines()[0]}) Was it killed for memory? What is "
                f"finished is kept: call {needs} again, with fewer jobs"
            ) from error
    return errors


@contextmanager
def _somewhere(calls: Sequence[Call], jobs: int, needs: str) -> Iterator[Iterator[Any]]:
    """joblib's tasks for the backend that is active: a Dask cluster, or processes of this machine."""
    backend, _ = joblib.parallel.get_active_backend()
    if type(backend).__name__ != "DaskDistributedBackend":
        yield (joblib.delayed(_numbered)(index, call.do, call.arguments) for index, call in enumerate(calls))
    elif jobs == 1:
        with joblib.parallel_config(backend="sequential"):
            yield (joblib.delayed(_numbered)(index, call.do, call.arguments) for index, call in enumerate(calls))
    else:
        from mtlviz.experiments.cluster import sent  # which needs Dask

        with sent(backend, calls, needs) as tasks:
            yield tasks


def unsendable(needs: str, error: BaseException) -> ProblemError:
    """The error for something that pickle refuses."""
    reason = [line for line in str(error.__cause__ or error).splitlines() if line.strip('"')][-1]
    return ProblemError(
        f"{needs} could not send the problem, a method or the optimizer to another process ({reason}). "
        "Train in this process with jobs=1, or leave out what cannot be copied"
    )


def checked_jobs(jobs: object) -> int:
    """How many processes. Raises: ValueError for anything else than a number of them, or -1 for one a core."""
    if isinstance(jobs, bool) or not isinstance(jobs, (int, np.integer)) or jobs == 0:
        raise ValueError(f"jobs must be a number of processes, or -1 for one a core; got {jobs!r}")
    return int(jobs)


def settle(parent: Process) -> None:
    """Makes this process a worker of `parent`, unless it is that one: a single thread, and an end with its parent."""
    if Process.this() != parent:
        torch.set_num_threads(1)
        _end_with(parent)


def _numbered(index: int, do: Callable[..., str | None], arguments: tuple[Any, ...]) -> tuple[int, str | None]:
    return index, do(*arguments)


@cache
def _end_with(parent: Process) -> None:
    """Ends this process once its parent is gone: a worker of a comparison that was killed would train on for nobody.

    Workers that are nobody's children here, such as those of a Dask cluster, are left alone.
    """

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(_GLANCE)
        os._exit(1)

    if parent.host == socket.gethostname() and os.getppid() == parent.pid:
        threading.Thread(target=watch, name="mtlviz parent", daemon=True).start()
