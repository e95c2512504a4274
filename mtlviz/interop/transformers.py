"""A probe in the Trainer of Hugging Face, whose `compute_loss` adds up several losses."""

from __future__ import annotations

from typing import Any

import torch

from mtlviz.interop.attachment import Attachment, first_optimizer
from mtlviz.probe.losses import Losses, Numbers

try:
    from accelerate.state import GradientState
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "mtlviz.interop.transformers needs transformers and accelerate: pip install 'mtlviz[transformers]'"
    ) from error


class ProbeCallback(Attachment, TrainerCallback):
    """Records what the losses of a Trainer do to each other, without changing its training by a bit.

        watch = mv.interop.transformers.ProbeCallback(
            ["topic", "tone"], "encoder", log="runs/mine", validation={"topic": "eval_topic_accuracy"})

        class TwoTasks(Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                topic, tone = inputs.pop("topic"), inputs.pop("tone")
                outputs = model(**inputs)                          # {"topic": logits, "tone": logits}
                losses = {"topic": F.cross_entropy(outputs["topic"], topic),
                          "tone": F.cross_entropy(outputs["tone"], tone)}
                watch.step(losses)                                 # does nothing in evaluation
                loss = sum(losses.values())
                return (loss, outputs) if return_outputs else loss

        trainer = TwoTasks(model, TrainingArguments(..., label_names=["topic", "tone"]), callbacks=[watch], ...)
        trainer.model_accepts_loss_kwargs = False                  # these losses are means over their batch
        with watch:                                                # an error ends the log as an error
            trainer.train()

    Accumulation (`gradient_accumulation_steps`, also what is left at an epoch's end), bf16 and fp16 (norms are logged
    unscaled) are seen to, and a training that goes on from a checkpoint goes on in its log with resume=True. What an
    evaluation finds, as "eval_...", is logged at its end. See `Attachment` for arguments.

    Without `with watch:` an error leaves the log without an end, for the Trainer tells its callbacks of none.
    """

    def step(
        self,
        losses: Losses,
        *,
        features: torch.Tensor | None = None,
        weights: Numbers | None = None,
        samples: Numbers | None = None,
    ) -> bool:
        """Hands over the losses of a (micro-)batch within compute_loss, whole and unscaled; see `mv.Probe.step`.

        Returns: whether they were recorded; never where no gradient is taken, as in evaluation.
        """
        if not torch.is_grad_enabled():
            return False
        last = bool(GradientState().sync_gradients)
        return self.probe.step(losses, features=features, weights=weights, samples=samples, last=last)

    # ---- events of the Trainer

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Makes the probe: model and optimizer are prepared."""
        self._begin(
            model,
            optimizer=first_optimizer(optimizer),
            scaler=getattr(optimizer, "scaler", None),
            accumulate=args.gradient_accumulation_steps,
            updates=state.global_step,
            steps=state.max_steps,
        )

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """The metrics of an evaluation are there."""
        self._validate(metrics or {})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the run."""
        self._end(None)
