"""The inputs of each task of a problem, or what a module makes of them, as batches of rows for task covariances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mtlviz.data.problem import Problem
from mtlviz.data.splits import Split
from mtlviz.errors import ProblemError, TransferError, unknown
from mtlviz.models.shared_trunk import evaluating

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class TaskInputs:
    """The rows of a split that carry a label for a task, in batches (n, d); each loop over it reads them anew."""

    task: str
    split: Split
    embed: Callable[[torch.Tensor], Any] | None

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Arrays (n, d) of the labelled rows, in order, flattened.

        Raises: TransferError for inputs that are whole numbers, or an embed that returns no row for each row.
        """
        for batch in self.split.chunks():
            if self.task in batch.rows:
                yield self.features(batch.inputs[batch.rows[self.task]])

    def features(self, inputs: torch.Tensor) -> NDArray[Any]:
        """The features (n, d) of inputs (n, ...). Raises: TransferError as when it is looped over."""
        features = inputs if self.embed is None else self._embedded(inputs)
        if not features.is_floating_point():
            maker = "its inputs are" if self.embed is None else "embed returned"
            raise TransferError(
                f"task {self.task!r}: {maker} {features.dtype}; features are floats, and whole numbers may be ids: "
                "give embed=problem.model.trunk or a layer of it, or embed=torch.Tensor.float if they are quantities"
            )
        features = features.detach().cpu().flatten(1) if features.dim() > 1 else features.detach().cpu()[:, None]
        return (features.float() if features.dtype == torch.bfloat16 else features).numpy()  # numpy knows no bfloat16

    def _embedded(self, inputs: torch.Tensor) -> torch.Tensor:
        """What embed makes of inputs (n, ...): (n, ...). Raises: TransferError where it has not a row for each."""
        try:
            features = _evaluated(self.embed, inputs)
        except Exception as error:  # the user's own code may raise anything; it is told where
            error.add_note(f"raised by embed for task {self.task!r}, inputs {tuple(inputs.shape)} {inputs.dtype}")
            raise
        features = torch.as_tensor(features) if isinstance(features, np.ndarray) else features
        if not isinstance(features, torch.Tensor) or features.dim() == 0 or len(features) != len(inputs):
            came = tuple(features.shape) if isinstance(features, torch.Tensor) else f"a {type(features).__name__}"
            raise TransferError(
                f"task {self.task!r}: embed returned {came} for inputs {tuple(inputs.shape)}; it must return a tensor "
                "or an array with a row for each"
            )
        return features


def task_inputs(
    problem: Problem, split: str = "train", embed: Callable[[torch.Tensor], Any] | None = None
) -> dict[str, TaskInputs]:
    """Each task's inputs, as `mv.analysis.covariance_scores` and its like take them: {task: batches (n, d)}.

    A task's inputs are those of the rows that carry a label for it, flattened. Tasks that share all inputs and label
    all of them have the same covariance; tell such tasks apart by their labels, not by this.

    split: "train", "validation" or "test"; a task that is known to have no labelled row in it is left out.
    embed: what is compared in place of the inputs: a module, such as `problem.model.trunk` or its first layer, which is
        evaluated without dropout and without a graph, and left as it was; or a function of tensors (n, ...) that
        returns a tensor or an array with a row for each. Its outputs are flattened. The trunk of a problem is
        untrained: a trained one is that of `run.model`.

    Each batch is read, and embedded, when it is looped over; nothing is kept.

    Raises: ProblemError for an unknown split or one that the problem lacks, or an embed that cannot be called.
    TransferError, when looped over, for inputs that are whole numbers without an embed (ids are no features), and for
    an embed that does not return a row for each row.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"task_inputs needs a Problem, got {type(problem).__name__}")
    if split not in SPLITS:
        raise ProblemError(unknown("split", split, SPLITS))
    if embed is not None and not callable(embed):
        raise ProblemError(f"embed must be a module or a function of tensors, got {type(embed).__name__}")
    found: Split | None = getattr(problem, split)
    if found is None:
        raise ProblemError(f"the problem {problem.name!r} has no {split} data")
    counts = found.samples()
    parts = {task.name: found.of_task(task.name) for task in problem.tasks}
    return {
        task: TaskInputs(task, part, embed)
        for task, part in parts.items()
        if part is not None and counts.get(task) != 0
    }


def _evaluated(embed: Any, inputs: torch.Tensor) -> Any:
    """What embed returns, without a graph; a module is in evaluation mode meanwhile."""
    if not isinstance(embed, nn.Module):
        with torch.no_grad():
            return embed(inputs)
    with evaluating(embed):
        return embed(inputs.to(_device(embed)))


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
