"""Hard parameter sharing: one trunk, and one head per task on its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProblemError
from mtlviz.randomness import seeded
from mtlviz.task import Task

Rows = Mapping[str, torch.Tensor | slice]


class SharedTrunk(nn.Module):
    """A trunk x -> z (B, ...) that all tasks share and a head z -> outputs (B, ...) for each.

    trunk: any module with at least one parameter that trains.
    heads: a module per task name, in the order of the tasks; they share no parameter with each other or the trunk.

    Raises: ProblemError where nothing is shared, or a head's parameter belongs to two owners.
    """

    one_representation = True  # whether z is the same for every task

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads.values())  # a list: a ModuleDict refuses task names with dots
        self.names = tuple(heads)
        if not self.layers():
            raise ProblemError("the trunk has no parameter that trains, so the tasks share nothing to fight over")
        owners = {id(p): "the trunk" for p in trunk.parameters()}
        for name, head in heads.items():
            for parameter in head.parameters():
                if owners.setdefault(id(parameter), f"the head of {name!r}") != f"the head of {name!r}":
                    raise ProblemError(
                        f"the head of {name!r} shares a parameter with {owners[id(parameter)]}; "
                        "move what tasks share into the trunk"
                    )

    def layers(self) -> dict[str, list[nn.Parameter]]:
        """The trunk's parameters that train, grouped by the module that owns them; a tied one belongs to the first."""
        seen: set[int] = set()
        layers: dict[str, list[nn.Parameter]] = {}
        for path, module in self.trunk.named_modules():
            own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in seen]
            if own:
                seen.update(map(id, own))
                name = path or type(module).__name__
                while name in layers:  # a child may be called what its parent's class is called
                    name += " (inner)"
                layers[name] = own
        return layers

    def head_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters that train in a task's head."""
        return [p for p in self.head(task).parameters() if p.requires_grad]

    def alignment_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters that train of a task alone and act below the end of the trunk; none here."""
        return []

    def head(self, task: str) -> nn.Module:
        """The head of a task."""
        return self.heads[self.names.index(task)]

    def with_heads(self, heads: Mapping[str, nn.Module]) -> SharedTrunk:
        """The same trunk under other heads: {task: module}, in the order of the tasks."""
        return SharedTrunk(self.trunk, heads)

    def routed(self, inputs: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, Rows]:
        """The representation z (B', ...) of inputs (B, ...), and where each task finds its own rows in it.

        rows: {task: its rows of the inputs}, which are its rows of z too where all tasks share one representation.

        Raises: ProblemError as `represent`.
        """
        return self.represent(inputs), rows

    def represent(self, inputs: torch.Tensor) -> torch.Tensor:
        """The shared representation z (B, ...) of inputs (B, ...).

        Raises: ProblemError where the trunk returns anything but one tensor with a row per input.
        """
        z = passed(self.trunk, inputs)
        if not isinstance(z, torch.Tensor):
            raise ProblemError(f"the trunk must return one tensor, the shared representation; got {type(z).__name__}")
        if z.dim() < 1 or len(z) != len(inputs):
            raise ProblemError(f"the trunk returned {tuple(z.shape)} for {len(inputs)} inputs; it needs a row for each")
        return z

    def output(self, task: str, z: torch.Tensor) -> torch.Tensor:
        """What a task's head makes of z (B, ...).

        Raises: ProblemError where the head cannot read it.
        """
        try:
            return self.head(task)(z.clone())  # a head may work in place, and z is the other heads' too
        except (RuntimeError, ValueError, TypeError) as error:
            raise ProblemError(f"the head of task {task!r} failed on z {tuple(z.shape)}: {error}") from error

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every task's outputs (B, ...) for inputs (B, ...)."""
        z, rows = self.routed(inputs, dict.fromkeys(self.names, slice(0, len(inputs))))
        return {name: self.output(name, z[rows[name]]) for name in self.names}


def linear_heads(trunk: nn.Module, tasks: Sequence[Task], inputs: torch.Tensor, *, seed: int) -> dict[str, nn.Module]:
    """A fresh `nn.Linear` head per task on what the trunk makes of `inputs` (B, ...).

    Raises: ProblemError where the trunk cannot read the inputs, or its output is not (B, d).
    """
    with evaluating(trunk):  # one sample must not move the running statistics of a BatchNorm
        z = passed(trunk, inputs)
    if not isinstance(z, torch.Tensor) or z.dim() != 2:
        came = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
        raise ProblemError(
            f"a head made from `outputs` needs a trunk that returns (B, d), this one returned {came}; "
            "flatten its output, or give heads={task: module}"
        )
    with seeded(seed):
        return {task.name: nn.Linear(z.shape[1], task.outputs, device=z.device, dtype=z.dtype) for task in tasks}


def passed(trunk: nn.Module, inputs: torch.Tensor) -> Any:
    """What the trunk makes of inputs (B, ...). Raises: ProblemError where it cannot read them."""
    try:
        return trunk(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise ProblemError(f"the trunk failed on inputs {tuple(inputs.shape)} {inputs.dtype}: {error}") from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without a graph; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
