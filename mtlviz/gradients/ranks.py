"""Processes that train one model together (torchrun): what they must agree on, and sums over all of them."""

from __future__ import annotations

import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mtlviz.errors import ProblemError

PATIENCE = 60.0  # seconds after which a process says what it waits for
LIMIT = 1800.0  # seconds after which it gives up, as torch does

Value = TypeVar("Value")


class Ranks:
    """The R processes of a group, seen from one of them.

    Everything here is called by all of them, in the same order. Plain numbers go through a group of its own (gloo), so
    that a process which is elsewhere in its loop is waited for and named, and none of its own sums is mistaken for one
    of these; they keep no device waiting. Tensors of a GPU go through the group that was given.

    group: of torch.distributed; None for all processes.
    Raises: ProblemError where the others do not come.
    """

    def __init__(self, group: Any = None) -> None:
        self._given = dist.group.WORLD if group is None else group
        if not isinstance(self._given, dist.ProcessGroup):
            raise ProblemError(f"group must be a process group of torch.distributed, got {group!r:.60}")
        self.rank, self.size = dist.get_rank(self._given), dist.get_world_size(self._given)
        if self.rank < 0:
            raise ProblemError("this process does not belong to the group; give group=False for it to be alone")
        members = dist.get_process_group_ranks(self._given)
        self._first, self._lost = members[0], ""  # once the others are lost, no message can be told from another
        with _patient(f"{len(members) - 1} other processes to begin (each of them must make its own, as this one did)"):
            self._own = dist.new_group(
                members, backend="gloo", timeout=timedelta(seconds=LIMIT), use_local_synchronization=True
            )

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes the log."""
        return self.rank == 0

    def meet(self, where: str, numbers: Sequence[int] = (), *, error: BaseException | None = None) -> NDArray[np.int64]:
        """(R, n) whole numbers of all processes, as many of each, once all of them are here.

        where: the place in the run. error: what keeps this process from going on.

        Raises: the error itself; ProblemError where another process has one, is elsewhere, or does not come.
        """
        place = zlib.crc32(where.encode())
        every = self._numbers(where, [place, error is not None, *numbers])
        if (every[:, 0] != place).any() or every[:, 1].any():
            self._differ(where, error)
        return every[:, 2:]

    def some(self, where: str, flags: Sequence[bool], *, error: BaseException | None = None) -> list[bool]:
        """(n,) which flags are set by at least one process. Raises: as `meet`."""
        return [bool(each) for each in self.meet(where, flags, error=error).max(axis=0)]

    def told(self, where: str, make: Callable[[], Value]) -> Value:
        """What rank 0 makes, on all of them. Raises: as `meet`."""
        made, error = attempt(make) if self.leads else (None, None)
        self.meet(where, error=error)
        box: list[Any] = [made]
        dist.broadcast_object_list(box, src=self._first, group=self._own)
        return box[0]

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, in place; half precision is added in single."""
        if tensor.numel() == 0:
            return tensor
        wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.contiguous()
        dist.all_reduce(wide, group=self._for(wide))
        return tensor if wide is tensor else tensor.copy_(wide)

    def gathered(self, tensor: torch.Tensor) -> torch.Tensor:
        """(R, ...) what all processes have, of one shape."""
        every = tensor.new_empty(self.size, *tensor.shape)
        dist.all_gather(list(every.unbind(0)), tensor.contiguous(), group=self._for(tensor))
        return every

    def tell_(self, tensor: torch.Tensor) -> torch.Tensor:
        """What rank 0 has, in place."""
        whole = tensor.contiguous()
        dist.broadcast(whole, src=self._first, group=self._for(whole))
        return tensor if whole is tensor else tensor.copy_(whole)

    def _for(self, tensor: torch.Tensor) -> Any:
        return self._own if tensor.device.type == "cpu" else self._given

    def _numbers(self, where: str, numbers: Sequence[int]) -> NDArray[np.int64]:
        own = torch.tensor([int(number) for number in numbers])
        every = own.new_empty(self.size, len(own))
        try:
            if not self._lost:
                work = dist.all_gather(list(every.unbind(0)), own, group=self._own, async_op=True)
                _wait(work, where)
        except RuntimeError as error:
            self._lost = f"rank {self.rank} waited at {where}, where the other processes did not come ({error})"
        if self._lost:
            raise ProblemError(
                f"{self._lost}: every rank must make the same calls in the same order, and go on as long as the others"
            )
        return every.numpy()

    def _differ(self, where: str, error: BaseException | None) -> None:
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, (where, None if error is None else f"{type(error).__name__}: {error}"), self._own)
        if error is not None:
            raise error
        failed = [f"rank {rank}: {said}" for rank, (_, said) in enumerate(told) if said is not None]
        if failed:
            raise ProblemError(f"another process could not go on at {where}. {'; '.join(failed)}")
        places = "; ".join(f"rank {rank} is at {place}" for rank, (place, _) in enumerate(told))
        raise ProblemError(f"the processes are not in step: {places}. Every rank must make the same calls")


def ranks_of(group: Any = None) -> Ranks | None:
    """The processes that train together; None where this one is alone.

    group: None for all of torch.distributed, where that is initialised; False for this process alone; or a group.
    """
    if group is False:
        return None
    if isinstance(group, Ranks):
        return group
    if not dist.is_available() or not dist.is_initialized():
        if group is not None:
            raise ProblemError("group needs torch.distributed, which is not initialised: init_process_group(...)")
        return None
    ranks = dist.get_world_size(dist.group.WORLD if group is None else group)
    return Ranks(group) if ranks != 1 else None


def attempt(make: Callable[[], Value]) -> tuple[Any, Exception | None]:
    """What is made, or what kept it from being made, to tell the others before it is raised."""
    try:
        return make(), None
    except Exception as error:  # noqa: BLE001 - `Ranks.meet` raises it
        return None, error


def _wait(work: Any, where: str) -> None:
    """Waits for the others; says so after a while, and gives up in the end."""
    try:
        work.wait(timedelta(seconds=min(PATIENCE, LIMIT)))
    except RuntimeError:
        if work.is_completed() or LIMIT <= PATIENCE:
            raise
        warnings.warn(_waiting(where), RuntimeWarning, stacklevel=2)
        work.wait(timedelta(seconds=LIMIT - PATIENCE))


@contextmanager
def _patient(what: str) -> Iterator[None]:
    """Says after a while what a call waits for that cannot say it itself."""
    timer = threading.Timer(PATIENCE, lambda: warnings.warn(_waiting(what), RuntimeWarning, stacklevel=2))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _waiting(what: str) -> str:
    return f"this process has waited {PATIENCE:g} s for {what}; is another one busy, or does it not make this call?"
