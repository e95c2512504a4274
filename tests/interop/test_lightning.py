"""A Lightning Trainer with a probe trains as without, and its log tells what its tasks did."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

import mtlviz as mv
from mtlviz.errors import ProbeError
from mtlviz.interop.lightning import ProbeCallback
from tests.probe.loops import Net, batches

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore")


class Automatic(L.LightningModule):
    """Two tasks; `said` keeps the Gramians of a plain loop, one a micro-batch."""

    def __init__(self, returned: str = "dict", trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.returned = Net(trunk), returned
        self.watch: ProbeCallback | None = None
        self.rows: list[torch.Tensor] | None = None

    def keep(self, losses: dict[str, torch.Tensor]) -> None:
        if self.rows is not None:
            grads = [
                torch.autograd.grad(v, list(self.net.trunk.parameters()), retain_graph=True) for v in losses.values()
            ]
            self.rows.append(torch.stack([torch.cat([g.flatten() for g in some]) for some in grads]).double())

    def training_step(self, x: torch.Tensor, batch_idx: int) -> Any:
        z = self.net.trunk(x)
        losses = self.net.losses(z, x)
        self.keep(losses)
        if self.returned == "hand" and self.watch is not None:
            self.watch.step(losses)
        total = losses["a"] + 2 * losses["b"]
        if self.returned != "dict":
            return total
        return {"loss": total, "task_losses": losses, "features": z, "task_weights": {"a": 1, "b": 2}}

    def validation_step(self, x: torch.Tensor, batch_idx: int) -> None:
        losses = self.net.losses(self.net.trunk(x), x)
        self.log("val_a", losses["a"])
        self.log("val_b", losses["b"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Manual(Automatic):
    """The same by hand, an update every second batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, x: torch.Tensor, batch_idx: int) -> None:
        losses = self.net.losses(self.net.trunk(x), x)
        if self.watch is not None:
            self.watch.step(losses, weights=[1, 2])
        self.manual_backward((losses["a"] + 2 * losses["b"]) / 2)
        if batch_idx % 2:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


def fitted(
    model: Automatic, watch: ProbeCallback | None, callbacks: tuple[Any, ...] = (), train: int = 7, **settings: Any
) -> list[torch.Tensor]:
    """Weights, buffers, optimizer state and random state after two epochs of 7 batches."""
    model.watch = watch
    settings = {"max_epochs": 2, "num_sanity_val_steps": 1} | settings
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, *([watch] if watch else [])], **settings
    )  # fmt: skip
    data = [DataLoader(torch.cat(list(batches(n))), batch_size=16) for n in (train, 2)]
    trainer.fit(model, *data)
    states = [
        v for o in trainer.optimizers for s in o.state.values() for v in s.values() if isinstance(v, torch.Tensor)
    ]
    assert "training_step" not in vars(trainer.strategy)
    return [*model.state_dict().values(), *states, torch.get_rng_state()]


def same(make: Any = Automatic, settings: Any = dict, watch: ProbeCallback | None = None, **own: Any) -> mv.Probe:
    """Trains with and without; the probe that recorded. settings: makes what belongs to one Trainer alone."""
    watch = watch or ProbeCallback(["a", "b"], "net.trunk", every=1, **own)
    torch.manual_seed(0)
    without = fitted(make(), None, **settings())
    torch.manual_seed(0)
    with_it = fitted(make(), watch, **settings())
    assert len(without) == len(with_it)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert np.isfinite(watch.probe.log.gramians).all()
    assert not watch.probe.log.writable
    assert list(watch.probe.log.events["kind"])[-1] == "finish"
    return watch.probe


def test_automatic_optimisation_with_validation_and_what_the_optimizer_makes(tmp_path: Path) -> None:
    validation = {"a": "val_a", "b": "val_b"}
    probe = same(validation=validation, directions="min", effective=True, log=tmp_path / "run")
    assert list(probe.log.steps["step"].unique()) == list(range(1, 15))
    assert (probe.log.steps["learning_rate"] == 0.05).all()
    assert (probe.log.steps["samples"] == 16).all()  # rows of the features
    assert list(probe.log.steps["weight"])[:2] == [1, 2]
    seen = mv.RunLog.open(tmp_path / "run").validations
    assert list(seen["step"]) == [7, 7, 14, 14]  # and nothing of the sanity check
    assert list(seen["metric"]) == ["val_a", "val_b"] * 2
    assert [task.direction for task in probe.log.tasks] == ["min", "min"]
    assert len(probe.log.measures.query("name == 'effective_length'")) == 14
    assert probe.log.info.config["steps"] == 14


def test_losses_by_hand_in_automatic_optimisation() -> None:
    assert len(same(lambda: Automatic("hand")).log) == 14


def test_manual_optimisation() -> None:
    probe = same(Manual, accumulate=2, settings=lambda: {"max_epochs": 1, "train": 8})
    assert probe.updates == 4
    assert list(probe.log.steps["weight"])[:2] == [1, 2]


@pytest.mark.parametrize("scheduled", [False, True])
def test_accumulation_also_where_an_epoch_ends_too_early(scheduled: bool) -> None:
    def settings() -> dict[str, Any]:
        return (
            {"callbacks": (GradientAccumulationScheduler({0: 2, 1: 3}),)}
            if scheduled
            else {"accumulate_grad_batches": 3}
        )

    model = Automatic()

    def make() -> Automatic:  # the last one made is that with the probe
        nonlocal model
        model = Automatic()
        model.rows = []
        return model

    probe = same(make, settings=settings)
    ends = [2, 4, 6, 7, 10, 13, 14] if scheduled else [3, 6, 7, 10, 13, 14]
    assert probe.updates == len(ends)
    assert model.rows is not None
    for gramian, a, b in zip(probe.log.gramians, [0, *ends], ends, strict=False):
        mean = torch.stack(model.rows[a:b]).mean(dim=0)
        np.testing.assert_allclose(gramian, (mean @ mean.T).numpy(), rtol=1e-4)


def smooth() -> Automatic:
    torch.manual_seed(1)
    return Automatic(trunk=nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8)))


def test_bfloat16_by_autocast_and_of_the_weights_themselves() -> None:
    first = {}
    for precision in ("32-true", "bf16-mixed", "bf16-true"):
        probe = same(smooth, settings=lambda p=precision: {"precision": p, "max_epochs": 1})
        first[precision] = probe.log.gramians[0]
    for precision in ("bf16-mixed", "bf16-true"):
        assert not np.array_equal(first[precision], first["32-true"])
        np.testing.assert_allclose(first[precision], first["32-true"], rtol=0.1, atol=0.02 * first["32-true"].max())


def test_a_scaler_leaves_true_norms() -> None:
    def settings() -> dict[str, Any]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
        return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "max_epochs": 1}

    half = same(smooth, settings=settings).log.gramians
    whole = same(smooth, settings=lambda: {"max_epochs": 1}).log.gramians
    np.testing.assert_allclose(half[0], whole[0], rtol=0.02, atol=0.01 * whole[0].max())


class Bent(Automatic):
    """An optimizer that runs its closure several times a step."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


def test_of_an_optimizer_that_runs_its_closure_again_the_first_counts() -> None:
    assert same(Bent, settings=lambda: {"max_epochs": 1}).updates == 7


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    watch = ProbeCallback(["a", "b"], "net.trunk", every=2, log=tmp_path / "run", resume=True)
    torch.manual_seed(0)
    model = Automatic()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[watch], max_epochs=1, limit_val_batches=0
    )  # fmt: skip
    data = DataLoader(torch.cat(list(batches(7))), batch_size=16)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    again = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[watch], max_epochs=2, limit_val_batches=0
    )  # fmt: skip
    again.fit(Automatic(), data, ckpt_path=tmp_path / "kept.ckpt", weights_only=False)
    assert list(mv.RunLog.open(tmp_path / "run").steps["step"].unique()) == [1, 3, 5, 7, 8, 10, 12, 14]


class Broken(Automatic):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def training_step(self, x: torch.Tensor, batch_idx: int) -> Any:
        if batch_idx == 3:
            raise self.error("the data is gone")
        return super().training_step(x, batch_idx)


def test_the_log_ends_as_the_training_does() -> None:
    for error, raised, kind in ((ValueError, ValueError, "error"), (KeyboardInterrupt, SystemExit, "stop")):
        watch = ProbeCallback(["a", "b"], lambda model: model.net.trunk)
        with pytest.raises(raised):
            fitted(Broken(error), watch)
        last = watch.probe.log.events.iloc[-1]
        assert last["kind"] == kind
        assert watch.probe.updates == 3
    assert not watch.probe.log.writable


class Skipping(Automatic):
    """Leaves out the first batch, as Lightning lets it."""

    def training_step(self, x: torch.Tensor, batch_idx: int) -> Any:
        return super().training_step(x, batch_idx) if batch_idx else None


class Deaf(Manual):
    def training_step(self, x: torch.Tensor, batch_idx: int) -> None:
        self.manual_backward(sum(self.net.losses(self.net.trunk(x), x).values()))


def test_what_does_not_fit_is_told() -> None:
    def watch(**settings: Any) -> ProbeCallback:
        return ProbeCallback(["a", "b"], **({"shared": "net.trunk"} | settings))

    with pytest.raises(ProbeError, match="no losses of the tasks reached the probe"):
        fitted(Automatic("total"), watch())
    with pytest.raises(ProbeError, match="no losses of the tasks reached the probe"):
        fitted(Deaf(), watch())
    with pytest.raises(ProbeError, match=r"'net\.stem'; it is made of net"):
        fitted(Automatic(), watch(shared="net.stem"))
    with pytest.raises(ProbeError, match=r"there is no 'val_c', named for task 'a'.*val_a"):
        fitted(Automatic(), watch(validation={"a": "val_c"}))
    with pytest.raises(ProbeError, match="unknown task 'c'"):
        watch(validation={"c": "val_c"})
    with pytest.raises(ProbeError, match="no probe before the training"):
        _ = watch().probe


def test_both_names_of_lightning_take_it() -> None:
    import pytorch_lightning as old

    class Module(old.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, x: torch.Tensor, batch_idx: int) -> dict[str, Any]:
            losses = self.net.losses(self.net.trunk(x), x)
            return {"loss": sum(losses.values()), "task_losses": losses}

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    watch = ProbeCallback(["a", "b"], "net.trunk", every=1)
    callbacks = [watch, old.callbacks.GradientAccumulationScheduler({0: 2})]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = old.Trainer(accelerator="cpu", max_epochs=1, callbacks=callbacks, **quiet)
    trainer.fit(Module(), DataLoader(torch.cat(list(batches(7))), batch_size=16))
    assert watch.probe.updates == len(watch.probe.log) == 4


def test_without_the_extras_it_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "for name in ('lightning', 'pytorch_lightning', 'transformers', 'accelerate'):\n    sys.modules[name] = None\n"
        "import mtlviz as mv\n"
        "for name in ('lightning', 'transformers'):\n"
        "    try:\n        getattr(mv.interop, name)\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "mtlviz.interop.lightning needs Lightning: pip install 'mtlviz[lightning]'",
        "mtlviz.interop.transformers needs transformers and accelerate: pip install 'mtlviz[transformers]'",
    ]


def test_batches_may_be_left_out() -> None:
    assert same(Skipping).updates == 12
