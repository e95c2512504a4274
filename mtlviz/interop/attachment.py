"""A probe in the trainer of another library: made when training begins, told of validations, closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from mtlviz.errors import ProbeError, unknown
from mtlviz.probe import Probe
from mtlviz.probe.losses import Numbers
from mtlviz.probe.opening import Path, Tasks

Shared = str | nn.Module | Callable[[Any], nn.Module] | Iterable[nn.Parameter]


class Attachment:
    """What the callbacks share: the settings of a probe that does not exist until there is a model to measure.

    tasks, log, every, budget, layers, metrics, directions, weights, noise, name, config, resume, overwrite: as of
        `mv.Probe`. With resume=True and a trainer that goes on from a checkpoint, so does the log from that update.
    shared: what the tasks share, as `mv.Probe` takes it; or the name of a submodule ("backbone", "encoder.layer"), or a
        function that finds it in the model.
    validation: {task: name}, of the metric that the trainer logs for it; the name is the task's metric in the log
        unless `metrics` says another. Say by `directions` where less is better.
    effective: measure also what the (first) optimizer makes of the gradients.
    accumulate: calls per update, where only you know; else the trainer's own count.
    """

    def __init__(
        self,
        tasks: Tasks,
        shared: Shared,
        *,
        validation: Mapping[str, str] | None = None,
        log: Path | None = None,
        every: int | None = None,
        budget: float | None = None,
        layers: str | None = None,
        metrics: str | Mapping[str, str] | None = None,
        directions: str | Mapping[str, str] | None = None,
        weights: Numbers | None = None,
        effective: bool = False,
        accumulate: int | None = None,
        noise: bool = False,
        name: str = "own loop",
        config: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        names = [task if isinstance(task, str) else task.name for task in tasks]
        self._validation = dict(validation or {})
        for task in self._validation:
            if task not in names:
                raise ProbeError(f"validation: {unknown('task', task, names)}")
        if metrics is None:
            metrics = {task: name for task, name in self._validation.items() if task in tasks} or None
        self._tasks, self._shared, self._accumulate = tasks, shared, accumulate
        self._effective, self._resume, self._config = effective, resume, dict(config or {})
        self._settings: dict[str, Any] = {"log": log, "every": every, "budget": budget, "layers": layers}
        self._settings |= {"metrics": metrics, "directions": directions, "weights": weights, "noise": noise}
        self._settings |= {"name": name, "overwrite": overwrite}
        self._probe: Probe | None = None

    @property
    def probe(self) -> Probe:
        """The probe, from the start of the training on, also when it has ended.

        Raises: ProbeError before.
        """
        if self._probe is None:
            raise ProbeError(
                "there is no probe before the training has begun; to watch from the start, give log= a "
                "folder and open mv.dashboard(folder), or python -m mtlviz watch <folder>"
            )
        return self._probe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: a copy of the model that holds it (as averages of weights are) does not train."""
        return self

    # ---- what a trainer's hooks call

    @property
    def _open(self) -> bool:
        return self._probe is not None and self._probe.log.writable

    def _begin(
        self, model: nn.Module, *, optimizer: Any, scaler: Any, accumulate: int, updates: int, steps: int | None
    ) -> None:
        """The model is where it trains, its optimizer is made; so many updates are done, `steps` are planned."""
        self._end(None)
        planned = {} if steps is None else {"steps": steps}
        self._probe = Probe(
            self._tasks,
            self._found(model),
            optimizer=optimizer,
            scaler=scaler,
            accumulate=self._accumulate or accumulate,
            effective=optimizer if self._effective else None,
            config=planned | self._config,
            resume=self._resume and (updates or True),
            **self._settings,
        )

    def _validate(self, values: Mapping[str, Any]) -> None:
        """Logs what the trainer found of the tasks."""
        if not self._open or not self._validation:
            return
        for task, name in self._validation.items():
            if name not in values:
                raise ProbeError(
                    f"validation: there is no {name!r}, named for task {task!r}, among what the trainer "
                    f"found: {', '.join(map(str, values)) or 'nothing'}"
                )
        self.probe.validation({task: float(values[name]) for task, name in self._validation.items()})

    def _end(self, error: BaseException | None) -> None:
        """The training is over, by this error or without one."""
        if self._open:
            self.probe.__exit__(None if error is None else type(error), error, None)

    def _found(self, model: nn.Module) -> Any:
        shared = self._shared
        if isinstance(shared, str):
            try:
                return model.get_submodule(shared)
            except AttributeError as error:
                inside = ", ".join(name for name, _ in model.named_children())
                raise ProbeError(
                    f"shared: {type(model).__name__} has no submodule {shared!r}; it is made of {inside}"
                ) from error
        return shared(model) if callable(shared) and not isinstance(shared, nn.Module) else shared


def first_optimizer(optimizers: Any) -> torch.optim.Optimizer | None:
    """The optimizer of torch itself, without wrappers; None where there is none."""
    found = optimizers[0] if isinstance(optimizers, list | tuple) and optimizers else optimizers
    while not isinstance(found, list | tuple | None) and isinstance(
        getattr(found, "optimizer", None), torch.optim.Optimizer
    ):
        found = found.optimizer
    return found if isinstance(found, torch.optim.Optimizer) else None
