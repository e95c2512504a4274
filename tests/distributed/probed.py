"""Loops under DistributedDataParallel, with and without a probe, on however many ranks there are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import mtlviz as mv
from mtlviz.errors import ProbeError
from mtlviz.gradients import ranks
from mtlviz.probe.untouched import explained
from tests.probe.loops import Net, batches

Case = dict[str, Any]
LAYERS = {"rows": (6, 12, 8), "ghosts": (6, 160, 120, 8)}
CASES: dict[str, Case] = {
    "rows": {},
    "ghosts": {"net": "ghosts"},
    "cut": {"cut": True, "net": "ghosts"},
    "blocks": {"layers": "blocks"},
    "tensors": {"layers": "tensors"},
    "whole": {"layers": "whole"},
    "parameters": {"iterable": True},
    "two calls": {"accumulate": 2},
    "effective": {"effective": True},
    "noise": {"noise": True, "cut": True},
    "scaler": {"scaler": True},
    "absent here": {"absent": (1,)},
    "absent here, factors": {"absent": (1,), "net": "ghosts"},
    "absent": {"absent": (0, 1)},
    "uneven": {"uneven": True},
    "uneven factors": {"uneven": True, "net": "ghosts"},
    "own gradients": {"jacobian": True},
}


class Whole(nn.Module):
    """A net whose forward gives z and losses, as DistributedDataParallel wants it."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        z = self.net.trunk(x)
        return z, self.net.losses(z, x)


def smooth(*sizes: int) -> nn.Module:
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())))


def rank_and_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share_of(x: torch.Tensor, case: Case) -> torch.Tensor:
    """This rank's samples of a batch."""
    rank, size = rank_and_size()
    if size == 1:
        return x
    if case.get("uneven"):
        return x[:3] if rank == 0 else x[3:]
    return x[rank * len(x) // size : (rank + 1) * len(x) // size]


def losses_of(model: nn.Module, x: torch.Tensor, case: Case) -> tuple[torch.Tensor, dict[str, Any]]:
    """z, and the losses of this rank; where a task is absent on a rank, one process sees it on the others' samples."""
    rank, size = rank_and_size()
    absent = case.get("absent", ())
    if size == 1 and absent:
        z, losses = model(x)
        here = x[: len(x) // 2] if absent == (1,) else None
        return z, {"a": losses["a"], "b": None if here is None else model(here)[1]["b"]}
    z, losses = model(share_of(x, case))
    return z, losses | ({"b": None} if rank in absent else {})


def own_gradients(losses: dict[str, torch.Tensor], parameters: Any) -> list[torch.Tensor]:
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses.values()]
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def probed(case: Case, log: Path | None = None) -> dict[str, Any]:
    """A few steps of SGD with a probe; what its log holds on rank 0."""
    torch.manual_seed(0)
    net = Net(smooth(*LAYERS[case.get("net", "rows")]))
    model: nn.Module = Whole(net)
    rank, size = rank_and_size()
    if size > 1:
        model = DistributedDataParallel(model)
    o = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    settings = {key: case[key] for key in ("layers", "accumulate", "noise") if key in case}
    settings |= {"effective": o} if "effective" in case else {}
    settings |= {"scaler": torch.amp.GradScaler("cpu", init_scale=1024.0)} if "scaler" in case else {}
    shared = list(net.trunk.parameters()) if case.get("iterable") else net.trunk
    probe = mv.Probe(["a", "b"], shared, every=2, log=log, **settings)
    calls = case.get("accumulate", 1)
    for number, x in enumerate(batches(4 * calls)):
        z, losses = losses_of(model, x, case)
        more: dict[str, Any] = {"features": z} if case.get("cut") else {}
        if case.get("uneven"):
            more["samples"] = [len(z)] * 2
        if case.get("jacobian") and probe.recording:
            more["jacobian"] = own_gradients(losses, probe.parameters)
        probe.step(losses, **more)
        total = sum(loss for loss in losses.values() if loss is not None)
        if case.get("absent") or case.get("uneven"):  # where a plain average over ranks is another training
            continue
        (total / calls).backward()
        if (number + 1) % calls == 0:
            o.step()
            o.zero_grad()
    probe.close()
    found: dict[str, Any] = {}
    if rank == 0:
        numbers = {"losses": probe.log.losses, "gramians": probe.log.gramians}
        numbers["samples"] = probe.log.steps["samples"].to_numpy()
        if probe.log.info.layers:
            numbers["layers"] = probe.log.layer_gramians[1]
        found = {name: torch.from_numpy(value.copy()) for name, value in numbers.items()}
    measures = probe.log.measures[["step", "name", "task", "other", "value"]].astype({"task": str, "other": str})
    return found | {"engine": probe.engine, "measures": measures.to_numpy().tolist(), "rows": len(probe.log.steps)}


def trained(with_probe: bool, make: Callable[[nn.Module], nn.Module], late: bool = False) -> list[torch.Tensor]:
    """Parameters, buffers and gradients of this rank after a loop with dropout, BatchNorm and momentum."""
    torch.manual_seed(0)
    model = make(Whole(Net()))
    o = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    probe = None
    torch.manual_seed(dist.get_rank())
    for number, x in enumerate(batches(8)):
        z, losses = model(share_of(x, {}))
        if with_probe and probe is None and (number > 0 or not late):
            probe = mv.Probe(["a", "b"], model.module.net.trunk, every=3)
            z, losses = model(share_of(x, {})) if late else (z, losses)
        if probe is not None:
            probe.step(losses)
        o.zero_grad()
        sum(losses.values()).backward()
        o.step()
    if probe is not None:
        probe.close()
    return [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]


def paced() -> list[bool]:
    """Which steps are recorded where rank 0 decides by its time."""
    torch.manual_seed(0)
    net = Net(smooth(6, 12, 8))
    probe = mv.Probe(["a", "b"], net.trunk, budget=0.5)
    recorded = []
    for x in batches(60):
        for _ in range(5 if dist.get_rank() else 1):  # the other ranks would decide otherwise
            loss = net.losses(net.trunk(x), x)
        recorded.append(probe.step(loss))
    probe.close()
    return recorded


def said(call: Callable[[], Any]) -> str:
    try:
        call()
    except ProbeError as error:
        return str(error)
    return ""


def refusals() -> dict[str, str]:
    """What is said where the ranks do not do the same."""
    rank = dist.get_rank()
    net = Net(smooth(6, 12, 8))
    x = next(batches(1))
    found = {"every": said(lambda: mv.Probe(["a", "b"], net.trunk, every=2 + rank))}
    found["one fails"] = said(lambda: mv.Probe(["a", "b"], net.trunk, layers="none" if rank else None))
    probe = mv.Probe(["a", "b"], net.trunk, every=1)
    losses = net.losses(net.trunk(x), x)
    found["detached"] = said(lambda: probe.step({"a": losses["a"].detach() if rank else losses["a"]}))
    found["goes on"] = said(lambda: probe.step(net.losses(net.trunk(x), x)))
    probe.close()
    static = DistributedDataParallel(Whole(Net()), static_graph=True)
    watch = mv.Probe(["a", "b"], static.module.net.trunk)
    found["static"] = said(lambda: watch.step(static(x)[1]))
    found["elsewhere"] = said(lambda: explaining(lambda: ranks.Ranks().meet(f"place {rank}")))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found["left out"] = said(lambda: alone(net, x))
    return found | {"warned": "; ".join(str(w.message) for w in warned)}


def explaining(call: Callable[[], Any]) -> None:
    with explained():
        call()


def alone(net: Net, x: torch.Tensor) -> None:
    """Rank 1 leaves a step out."""
    late = mv.Probe(["a", "b"], net.trunk, every=1)
    before = ranks.PATIENCE, ranks.LIMIT
    ranks.PATIENCE, ranks.LIMIT = 0.2, 1.0
    try:
        if dist.get_rank() == 0:
            late.step(net.losses(net.trunk(x), x))
    finally:
        ranks.PATIENCE, ranks.LIMIT = before
        dist.barrier()


def main(folder: Path) -> None:
    """Keeps all of a rank in a file."""
    dist.init_process_group("gloo")
    found: dict[str, Any] = {name: probed(case, folder / name) for name, case in CASES.items()}
    ways = {
        "plain": DistributedDataParallel,
        "unused": lambda m: DistributedDataParallel(m, find_unused_parameters=True),
        "buckets": lambda m: DistributedDataParallel(m, bucket_cap_mb=1e-4, gradient_as_bucket_view=True),
    }
    for name, make in ways.items():
        found[f"trained {name}"] = [trained(with_probe, make) for with_probe in (False, True)]
    found |= {"paced": paced(), "refusals": refusals()}
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
