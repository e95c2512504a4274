"""A probe in a Lightning Trainer, for automatic and manual optimisation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from mtlviz.errors import ProbeError
from mtlviz.interop.attachment import Attachment, first_optimizer
from mtlviz.probe.losses import Losses, Numbers

try:
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:  # as the user imports it
        from pytorch_lightning.callbacks import Callback
    else:
        from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ImportError as error:
        raise ImportError("mtlviz.interop.lightning needs Lightning: pip install 'mtlviz[lightning]'") from error

LOSSES = "task_losses"
"""The key of what `training_step` returns under which the tasks' losses stand."""

_OTHERS = {"features": "features", "task_weights": "weights", "task_samples": "samples"}


class ProbeCallback(Attachment, Callback):
    """Records what a LightningModule's tasks do to each other, without changing its training by a bit.

        class Scenes(L.LightningModule):
            def training_step(self, batch, batch_idx):
                z = self.backbone(batch["image"])
                losses = {"seg": ..., "depth": ...}
                return {"loss": sum(losses.values()), "task_losses": losses, "features": z}

        watch = mv.interop.lightning.ProbeCallback(
            ["seg", "depth"], "backbone", log="runs/mine", validation={"seg": "val_miou", "depth": "val_error"},
            directions={"depth": "min"})
        L.Trainer(callbacks=[watch], ...).fit(Scenes(), data)

    Automatic optimisation: `training_step` returns a dict with "loss", and under "task_losses" each task's loss, whole
    and unscaled, None where a task is absent; if it likes also "features", "task_weights" (those in "loss"; 1 unless
    given) and "task_samples", as `mv.Probe.step` takes them. They are measured between training_step and backward.
    Manual optimisation: call `watch.step(losses)` in training_step, before manual_backward; `accumulate=` tells the
    calls of an update, or `last=`. That works in automatic optimisation too.

    Precision plugins are seen to (a scaler's norms are logged unscaled), and so is accumulation: also the shorter one
    at an epoch's end, and a GradientAccumulationScheduler. Of an optimizer that runs its closure several times, the
    first run counts. The log ends as "finish", "stop" (interrupted by hand) or "error", with the trainer.

    Validations are logged at the end of each validation loop, but for the sanity check. See `Attachment` for arguments.

    Raises: ProbeError for a training_step whose losses never reach the probe, and as `mv.Probe` does.
    """

    _strategy: Any = None  # that is listened to
    _ends: Callable[[], bool] | None = None  # whether the optimizer steps on the batch at hand, where Lightning decides
    _told: Mapping[str, Any] | None = None  # of the batch at hand, until it is measured
    _heard = False  # whether this batch's losses are measured
    _batch = 0

    def step(
        self,
        losses: Losses,
        *,
        features: torch.Tensor | None = None,
        weights: Numbers | None = None,
        samples: Numbers | None = None,
        last: bool | None = None,
    ) -> bool:
        """Hands over the losses of an update, within training_step; see `mv.Probe.step`."""
        self._heard = True
        if last is None and self._ends is not None:
            last = self._ends()
        return self.probe.step(losses, features=features, weights=weights, samples=samples, last=last)

    # ---- hooks of Lightning

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Makes the probe: the model lies on its device, in its precision, and has its optimizers."""
        automatic = pl_module.automatic_optimization
        counts = [trainer.accumulate_grad_batches]
        for callback in trainer.callbacks:
            if hasattr(callback, "going_to_accumulate_grad_batches"):  # GradientAccumulationScheduler, of either import
                counts += callback.scheduling.values()
        self._begin(
            pl_module,
            optimizer=first_optimizer(trainer.optimizers),
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            accumulate=max(counts),
            updates=trainer.global_step if automatic else 0,
            steps=_planned(trainer) if automatic and len(set(counts)) == 1 else None,
        )
        self._ends = partial(self._ends_update, trainer) if automatic else None
        if automatic:
            self._listen(trainer.strategy)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch begins."""
        self._batch, self._heard, self._told = batch_idx, False, None

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """The losses are known and their graph is whole."""
        told, self._told = self._told, None
        if told is not None and not self._heard:
            others = {ours: told[theirs] for theirs, ours in _OTHERS.items() if theirs in told}
            self.step(told[LOSSES], **others)
        if self._ends is not None:
            self._check_heard()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A batch is over; by hand not every one need be told."""
        if self._ends is None and self._open and self.probe.updates == 0:
            self._check_heard()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The metrics of the validation loop are there."""
        if not trainer.sanity_checking:
            self._validate(trainer.callback_metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends the run."""
        self._over(None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Ends the run by an error, or by hand."""
        self._over(exception)

    # ---- what the trainer does not tell a callback

    def _listen(self, strategy: Any) -> None:
        """Looks at what training_step returns: Lightning shows it to callbacks only when its graph is gone."""
        original = strategy.training_step

        def training_step(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            self._told = output if isinstance(output, Mapping) and LOSSES in output else None
            return output

        strategy.training_step = training_step
        self._strategy = strategy

    def _check_heard(self) -> None:
        if self._open and not self._heard:
            raise ProbeError(
                f"no losses of the tasks reached the probe: let training_step return {{'loss': ..., {LOSSES!r}: "
                "{task: loss}}, or call the callback's step(losses) before backward"
            )

    def _over(self, error: BaseException | None) -> None:
        if self._strategy is not None:
            vars(self._strategy).pop("training_step", None)  # that of its class is back
        self._strategy = self._ends = self._told = None
        self._end(error)

    def _ends_update(self, trainer: Any) -> bool:
        """Whether the optimizer steps on the batch at hand."""
        done = self._batch + 1
        whole = done % trainer.accumulate_grad_batches == 0
        return whole or done == trainer.num_training_batches or trainer.is_last_batch


def _planned(trainer: Any) -> int | None:
    """Updates that the trainer is going to make, where it knows."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) else None
