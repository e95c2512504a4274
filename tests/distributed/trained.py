"""Trains some small problems on however many ranks there are, and keeps what each rank saw."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mtlviz as mv
from mtlviz.errors import ProblemError
from mtlviz.gradients.aggregator import Aggregator, Combined, StepView
from tests.problems import TASKS, Crossing, made_data

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.03)


def crossing(*, trunk: nn.Module | None = None, missing: float = 0.2, **parts: Any) -> mv.Problem:
    """Three tasks in double precision, so that a run of several ranks stays as near to that of one as it began."""
    splits = {}
    for number, name in enumerate(("train", "validation", "test")):
        x, targets = made_data(192, number)
        generator = torch.Generator().manual_seed(number)
        for task, y in targets.items() if name == "train" else ():
            absent = torch.rand(len(y), generator=generator) < missing
            y[absent] = torch.nan if y.is_floating_point() else -100
            targets[task] = y
        splits[name] = x.double(), {t: y.double() if y.is_floating_point() else y for t, y in targets.items()}
    torch.manual_seed(int(dist.get_rank()) if dist.is_initialized() else 0)  # all begin as rank 0 does
    trunk = Crossing() if trunk is None else trunk
    return mv.Problem(name="crossing", tasks=TASKS, trunk=trunk.double(), seed=0, **splits | parts)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 6), nn.Tanh())


def apart() -> mv.Problem:
    """Tasks with data of their own."""
    own = {}
    for number, task in enumerate(TASKS):
        x, targets = made_data(64, 7 + number)
        y = targets[task.name]
        own[task.name] = x.double(), y.double() if y.is_floating_point() else y
    return crossing(train=own)


class Agreeing(Aggregator):
    """Weighs a task by how its gradient agrees with that of a further batch."""

    name = "agreeing"
    needs = frozenset({"jacobian"})
    heads = "weighted"

    def combine(self, view: StepView) -> Combined:
        products = (view.gradients.jacobian * view.another().jacobian).sum(dim=1)
        return Combined(torch.sigmoid(products).double().numpy())


JOINT = partial(mv.training.Joint, patience=2, validate_every=10, converged_share=0.5, rewarm=2)
CASES: dict[str, dict[str, Any]] = {
    "rewinds": {"weighting": "dwa", "schedule": JOINT(), "steps": 200, "optimizer": ADAM, "batch_size": 31},
    "gradnorm": {"weighting": "gradnorm", "steps": 12, "batch_size": 5, "layers_every": 1},
    "of z": {"weighting": "mgda_ub", "steps": 6},
    "losses after": {"weighting": "famo", "steps": 6, "affinity_every": 3},
    "jacobian": {"weighting": "adatask", "steps": 6, "layers_every": 2},
    "drops signs": {"weighting": "graddrop", "steps": 6, "batch_size": 9},
    "several batches": {"weighting": Agreeing(), "steps": 6},
    "chain": {"weighting": "mgda", "steps": 8, "batch_size": 6, "layers_every": 1, "trunk": chain},
    "apart": {"weighting": "equal", "steps": 8, "batch_size": 3, "problem": apart},
    "few rows": {"weighting": "equal", "steps": 12, "batch_size": 1},
}


def kept(case: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """All records of a run but for their time, and the model at its end."""
    case = {"optimizer": SGD, "batch_size": 16, "validate_every": 10} | dict(case)
    make, trunk = case.pop("problem", crossing), case.pop("trunk", None)
    if "schedule" in case:
        del case["validate_every"]
    training = mv.train(make() if trunk is None else make(trunk=trunk()), **case, **more)
    records = list(training)
    steps = [r for r in records if isinstance(r, mv.Step)]
    numbers = {
        name: [torch.from_numpy(getattr(s, name)) for s in steps]
        for name in ("losses", "weights", "gramian", "samples")
    }
    numbers["layers"] = [torch.from_numpy(s.layers) for s in steps if s.layers is not None]
    return {
        **{name: torch.stack(values) for name, values in numbers.items() if values},
        "validations": [(r.step, r.task, r.value) for r in records if isinstance(r, mv.Validation)],
        "events": [(r.step, r.position, r.kind, r.task) for r in records if isinstance(r, mv.Event)],
        "measures": [(r.step, r.name, r.task, r.other, r.layer, r.value) for r in records if isinstance(r, mv.Measure)],
        "model": torch.cat([p.detach().flatten() for p in training.model.parameters()]),
        "engine": training.updater.gradients.name,
    }


def refusals() -> dict[str, str]:
    """What is said of problems that cannot be shared out."""
    x, targets = made_data(32, 0)
    loader = DataLoader(TensorDataset(x[:, :6], targets["size"]), batch_size=4)
    normed = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    summed = mv.Task("size", loss=partial(torch.nn.functional.mse_loss, reduction="sum"), metric="rmse", outputs=1)
    of_size = {"train": (x, {"size": targets["size"]})}
    problems = {
        "loader": mv.Problem(tasks=[TASKS[1]], trunk=nn.Linear(6, 8), train={"size": loader}),
        "norm": mv.Problem(tasks=[TASKS[1]], trunk=normed, **of_size),
        "sum": mv.Problem(tasks=[summed], trunk=nn.Linear(6, 8), **of_size),
        "differ": mv.Problem(tasks=[TASKS[1]], trunk=nn.Linear(6, 8), **of_size),
    }
    said = {}
    for name, problem in problems.items():
        try:
            next(mv.train(problem, steps=3, seed=dist.get_rank() if name == "differ" else 0))
        except ProblemError as error:
            said[name] = str(error)
    return said


def in_background(folder: Path) -> dict[str, Any]:
    """Runs of `mv.start`: one to its end, one that rank 1 stops, and what is refused."""
    lead = dist.get_rank() == 0
    whole = mv.start(crossing(), steps=6, log=folder / "whole").wait()
    stopped = mv.start(crossing(), steps=10**6, log=folder / "stopped")
    if not lead:
        while stopped.step < 5 and not stopped.join(0.01):
            pass
        stopped.stop()
    stopped.wait()
    said = {}
    for name, call in {
        "pause": whole.pause,
        "resume": partial(mv.start, crossing(), steps=6, log=folder / "whole", resume=True),
        "there": partial(mv.start, crossing(), steps=6, log=folder / "whole"),
    }.items():
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it is compared
            said[name] = str(error)
    paths = [str(run.log.path) for run in (whole, stopped)]
    return {"state": [whole.state, stopped.state], "step": stopped.step, "paths": paths, "said": said}


def main(folder: Path) -> None:
    """Keeps all of a rank in a file."""
    dist.init_process_group("gloo")
    found: dict[str, Any] = {name: kept(case) for name, case in CASES.items()}
    found |= {"refusals": refusals(), "background": in_background(folder)}
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
