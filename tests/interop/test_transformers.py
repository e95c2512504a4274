"""The Trainer of Hugging Face with several losses and a probe trains as without, by the recipe of the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, Trainer, TrainingArguments, set_seed

import mtlviz as mv
from mtlviz.errors import ProbeError
from mtlviz.interop.transformers import ProbeCallback

pytestmark = pytest.mark.filterwarnings("ignore")
TASKS = ("topic", "tone")


class Model(nn.Module):
    """A tiny BERT without weights from anywhere, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        self.encoder = BertModel(BertConfig(vocab_size=40, intermediate_size=24, max_position_embeddings=12, **small))
        self.heads = nn.ModuleDict({"topic": nn.Linear(16, 3), "tone": nn.Linear(16, 2)})

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        z = self.encoder(input_ids=input_ids).pooler_output
        return {name: head(z) for name, head in self.heads.items()}


class Texts(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 22

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(0, 40, (10,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": ids, "topic": ids[0] % 3, "tone": ids[1] % 2}


class TwoTasks(Trainer):
    """The recipe; `watch` is None without a probe."""

    watch: ProbeCallback | None = None
    fails_at: int | None = None

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        topic, tone = inputs.pop("topic"), inputs.pop("tone")
        outputs = model(**inputs)
        losses = {"topic": F.cross_entropy(outputs["topic"], topic), "tone": F.cross_entropy(outputs["tone"], tone)}
        if self.watch is not None:
            self.watch.step(losses)
        if self.fails_at is not None and self.state.global_step == self.fails_at:
            raise ValueError("the data is gone")
        loss = losses["topic"] + losses["tone"]
        return (loss, outputs) if return_outputs else loss


def accuracies(prediction: Any) -> dict[str, float]:
    pairs = zip(TASKS, prediction.predictions, prediction.label_ids, strict=True)
    return {f"{name}_accuracy": float((logits.argmax(-1) == labels).mean()) for name, logits, labels in pairs}


def trainer(folder: Path, watch: ProbeCallback | None, **settings: Any) -> TwoTasks:
    set_seed(0)
    own: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 0.05}
    own |= {"save_strategy": "no", "report_to": "none", "use_cpu": True, "label_names": list(TASKS), "optim": "sgd"}
    own |= {"disable_tqdm": True, "lr_scheduler_type": "constant", "max_grad_norm": 0, "logging_strategy": "no"}
    arguments = TrainingArguments(str(folder), **(own | settings))
    data, callbacks = Texts(), [watch] if watch is not None else []
    made = TwoTasks(
        Model(), arguments, train_dataset=data, eval_dataset=data, compute_metrics=accuracies, callbacks=callbacks
    )
    made.model_accepts_loss_kwargs = False
    made.watch = watch
    return made


def same(folder: Path, watch: ProbeCallback, **settings: Any) -> mv.Probe:
    """Trains with and without; the probe that recorded."""
    ended = []
    for given in (None, watch):
        made = trainer(folder, given, **settings)
        made.train()
        states = [v for s in made.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        ended.append([*made.model.state_dict().values(), *states, torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
    assert np.isfinite(watch.probe.log.gramians).all()
    assert list(watch.probe.log.events["kind"])[-1] == "finish"
    return watch.probe


def test_two_losses_and_their_evaluations(tmp_path: Path) -> None:
    validation = {name: f"eval_{name}_accuracy" for name in TASKS}
    watch = ProbeCallback(TASKS, "encoder", every=4, log=tmp_path / "run", validation=validation, layers="blocks")
    probe = same(tmp_path, watch, eval_strategy="epoch", optim="adamw_torch")
    assert probe.updates == 12  # 22 texts by 4, twice
    assert list(probe.log.steps["step"].unique()) == [1, 5, 9]
    assert (probe.log.steps["learning_rate"] == 0.05).all()
    seen = mv.RunLog.open(tmp_path / "run").validations
    assert list(seen["step"]) == [6, 6, 12, 12]
    assert set(seen["metric"]) == set(validation.values())
    assert seen["value"].between(0, 1).all()
    assert probe.log.info.config["steps"] == 12
    assert probe.log.info.layers == ("embeddings", "encoder", "pooler")


@pytest.mark.parametrize("bf16", [False, True])
def test_accumulated_gradients_are_those_that_the_optimizer_steps_by(tmp_path: Path, bf16: bool) -> None:
    watch = ProbeCallback(TASKS, "encoder", every=1, effective=True)
    probe = same(tmp_path, watch, gradient_accumulation_steps=4, bf16=bf16)
    assert probe.updates == 4  # of 4 and of 2 micro-batches, twice
    found = probe.log.measures.query("name == 'effective_change'")["value"].to_numpy().reshape(-1, 2)
    # Plain descent along the sum of both mean gradients moves the losses by −η G 1.
    np.testing.assert_allclose(found, -0.05 * probe.log.gramians.sum(axis=2), rtol=0.05 if bf16 else 1e-3, atol=1e-7)


def test_an_error_ends_the_log_as_one(tmp_path: Path) -> None:
    watch = ProbeCallback(TASKS, lambda model: model.encoder)
    made = trainer(tmp_path, watch)
    made.fails_at = 2
    with pytest.raises(ProbeError, match="no probe before the training"):
        watch.step({})
    with pytest.raises(ValueError, match="the data is gone"), watch:
        made.train()
    assert watch.probe.log.events.iloc[-1]["kind"] == "error"
    assert not watch.probe.log.writable
