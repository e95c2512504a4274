"""Runs on a Dask cluster: sent whole, done one at a time by each worker, into a folder that all machines share."""

from __future__ import annotations

import pickle
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle  # type: ignore[import-untyped]
import joblib
from distributed import KilledWorker
from joblib._dask import DaskDistributedBackend

from mtlviz.errors import MtlvizError
from mtlviz.experiments.plan import code
from mtlviz.experiments.workers import Call, unsendable

_ONE_RUN = threading.Lock()  # the runs of a process would share torch's random numbers


@contextmanager
def sent(backend: DaskDistributedBackend, calls: Sequence[Call], needs: str) -> Iterator[Iterator[Any]]:
    """joblib's tasks for the cluster of `backend`, while a sign lies in the folder that its workers must find there.

    Raises: ProblemError where something cannot be sent; MtlvizError where a worker cannot do any run, or died.
    """
    if threads := max(backend.client.nthreads().values(), default=1) - 1:
        warnings.warn(
            f"a worker of the Dask cluster has {threads + 1} threads, but does one run at a time: the others are idle. "
            "Start workers with one thread each: LocalCluster(threads_per_worker=1), or `dask worker --nthreads 1`",
            stacklevel=2,
        )
    place = calls[0].folder.parent
    sign = place / f".shared-{uuid4().hex}"
    sign.touch()
    telling = _Telling(client=backend.client, scatter=backend._scatter or None, **_options(backend))
    try:
        with joblib.parallel_config(backend=telling):
            yield (
                joblib.delayed(_opened)(index, _sealed(call, needs), sign, code()) for index, call in enumerate(calls)
            )
    except KilledWorker as error:
        raise MtlvizError(
            f"workers of the Dask cluster died again and again while they trained one run ({error.last_worker.address} "
            f"was the last). Were they killed for memory? What is finished is kept: call {needs} again, with workers "
            "that have more of it"
        ) from error
    finally:
        sign.unlink(missing_ok=True)


def _options(backend: DaskDistributedBackend) -> dict[str, Any]:
    return {"wait_for_workers_timeout": backend.wait_for_workers_timeout, **backend.submit_kwargs}


def _sealed(call: Call, needs: str) -> bytes:
    """A call as bytes, so that what cannot be sent, or not be read, is told instead of waited for."""
    try:
        return cloudpickle.dumps((call.do, call.arguments))
    except Exception as error:  # the user's own objects may raise anything
        raise unsendable(needs, error) from error


def _opened(index: int, parcel: bytes, sign: Path, version: str) -> tuple[int, str | None]:
    """Does a call on a worker. Raises: MtlvizError where this worker could do no other one either."""
    with _ONE_RUN:
        here = f"a worker of the Dask cluster, on {socket.gethostname()},"
        if not sign.exists():
            raise MtlvizError(
                f"{here} does not see the folder {sign.parent} of the runs. Give folder=..., a path that is the same "
                "shared folder on all machines"
            )
        if version != code():
            raise MtlvizError(
                f"{here} has another mtlviz ({code()}) than this process ({version}). Install the same on all machines"
            )
        try:
            do, arguments = pickle.loads(parcel)
        except Exception as error:  # whatever the user's own modules raise
            raise MtlvizError(
                f"{here} could not read a run: {type(error).__name__}: {error}. Install on all machines what the "
                "problem, its methods and its optimizer are made of, or define it in the notebook"
            ) from error
        return index, do(*arguments)


class _Failed:
    """In place of the result of a task that Dask gave up."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Telling(DaskDistributedBackend):
    """The backend that tells joblib also of tasks that Dask gave up, as those of killed workers: it waits for ever."""

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        future = super().submit(func, callback)

        def tell(ended: Any) -> None:
            if callback is not None and not ended.cancelled() and ended.exception() is not None:
                callback(_Failed(ended.exception()))

        future.add_done_callback(tell)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, _Failed):
            raise out.error
        return super().retrieve_result_callback(out)
