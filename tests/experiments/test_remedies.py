"""Remedies: what is trained, that each helps where it is needed, and what cannot be a remedy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.errors import ProblemError, TransferError, WeightingError
from mtlviz.experiments import label_noise, remedies, svd_weighted, svd_weights
from mtlviz.experiments.recipe import on_trunk
from mtlviz.randomness import seeded
from tests.problems import TASKS, crossing, made_data

NAMES = [task.name for task in TASKS]
SHORT: dict[str, Any] = {"steps": 8, "validate_every": 4, "progress": False, "jobs": 1}
LONG: dict[str, Any] = SHORT | {"steps": 60, "validate_every": 60, "seeds": 5, "batch_size": 200}
QUICK = partial(torch.optim.Adam, lr=0.1)


def _regressions(names: tuple[str, ...], *, seed: int, width: int, **data: Any) -> mv.Problem:
    tasks = [mv.Task(name, loss=F.mse_loss, metric="rmse", outputs=1) for name in names]
    with seeded(seed):
        return mv.Problem(tasks=tasks, trunk=nn.Linear(20, width), seed=seed, **data)


def _motivating(seed: int, noise: float = 4.0) -> mv.Problem:
    """The motivating example of Wu et al.: y₁ = Xθ and y₂ = Xθ + ε; validation without ε."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=20) / np.sqrt(20)

    def split(count: int, noise: float) -> Any:
        x = rng.normal(size=(count, 20))
        both = {"clean": x @ theta, "noisy": x @ theta + noise * rng.normal(size=count)}
        return torch.tensor(x).float(), {name: torch.tensor(y).float() for name, y in both.items()}

    return _regressions(("clean", "noisy"), seed=seed, width=1, train=split(200, noise), validation=split(400, 0.0))


def _unequal(seed: int) -> mv.Problem:
    """Two tasks that want different features, one with a hundredth of the other's rows."""
    rng = np.random.default_rng(seed)
    directions = dict(zip(("small", "large"), 3 * np.linalg.qr(rng.normal(size=(20, 2)))[0].T, strict=True))

    def split(**counts: int) -> Any:
        inputs = {name: rng.normal(size=(count, 20)) for name, count in counts.items()}
        return {n: (torch.tensor(x).float(), torch.tensor(x @ directions[n]).float()) for n, x in inputs.items()}

    data = {"train": split(small=60, large=6000), "validation": split(small=400, large=400)}
    return _regressions(("small", "large"), seed=seed, width=2, sampling=mv.data.Proportional(), **data)


def test_every_variant_is_trained_as_it_would_be_by_itself_and_kept(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "aligned": lambda p: p.aligned(tasks=["size"]),
        "mgda": "mgda",
        "both": (lambda p: p.aligned(), mv.weighting.Fixed({"kind": 1, "size": 2, "rare": 3})),
    }
    seen = partial(remedies, crossing(), chosen, 2, folder=tmp_path, **SHORT)
    frame = seen()
    assert frame["method"].unique().tolist() == ["as it is", *chosen]
    assert frame[["seed", "task"]].to_numpy().tolist() == [[seed, task] for seed in (0, 1) for task in NAMES] * 4
    assert dict(zip(frame["method"], frame["versus"], strict=True)) == {"as it is": ""} | dict.fromkeys(
        chosen, "as it is"
    )
    assert set(frame["status"]) == {"finished"}
    alone = mv.experiments.compare(crossing().aligned(tasks=["size"]), {"x": "equal"}, 2, **SHORT)
    np.testing.assert_array_equal(alone["value"], frame.loc[frame["method"] == "aligned", "value"])
    config = mv.RunLog.open(frame.loc[frame["method"] == "both", "folder"].iloc[0]).info.config
    assert (config["weighting"], config["aligned"]["tasks"]) == ("fixed", NAMES)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrows")}
    pd.testing.assert_frame_equal(seen(), frame)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrows")}, "a run was trained anew"
    assert len(mv.analysis.remedy_changes(frame)) == 9
    assert len(mv.analysis.delta_m(frame, baseline="as it is")) == 4


def test_a_remedy_of_a_function_of_seed_is_made_of_each_seeds_problem() -> None:
    made: list[str] = []

    def change(problem: mv.Problem) -> mv.Problem:
        made.append(str(float(problem.train.shared.inputs[0, 0])))
        return problem

    remedies(lambda seed: crossing(seed=seed), {"none": change}, [4, 7], **SHORT)
    assert len(set(made)) == 2


def test_weights_by_svd_help_where_a_task_is_noisy_if_labels_are_standardised() -> None:
    chosen = {"standardised": svd_weighted, "raw": partial(svd_weighted, standardize=False)}
    options = LONG | {"optimizer": QUICK}
    changes = mv.analysis.remedy_changes(remedies(_motivating, chosen, **options)).set_index(["remedy", "task"])
    assert changes.loc[("standardised", "clean"), "verdict"] == "positive"
    assert changes.loc[("standardised", "noisy"), "verdict"] == "positive"
    assert changes.loc[("raw", "clean"), "gain"] < 0


def test_rows_counted_more_often_help_a_small_task() -> None:
    options = LONG | {"batch_size": 8, "steps": 150, "seeds": 3, "optimizer": partial(torch.optim.Adam, lr=0.03)}
    frame = remedies(_unequal, {"small × 50": lambda p: p.duplicated({"small": 50})}, **options)
    changes = mv.analysis.remedy_changes(frame).set_index("task")
    assert changes.loc["small", "verdict"] == "positive"
    assert changes.loc["small", "after"] < 0.5 * changes.loc["small", "before"]


def test_label_noise_hurts_and_weights_by_svd_make_up_for_some_of_it(tmp_path: Path) -> None:
    options = LONG | {"optimizer": QUICK, "folder": tmp_path}
    frame = label_noise(partial(_motivating, noise=0.0), {"noisy": 0.8}, **options)
    labels = [f"{weights}, {labels} labels" for labels in ("true", "noisy") for weights in ("equal", "SVD")]
    assert frame["method"].unique().tolist() == labels
    changes = mv.analysis.remedy_changes(frame).set_index(["remedy", "task"])
    assert changes.loc[("equal, noisy labels", "clean"), ["versus", "verdict"]].tolist() == [
        "equal, true labels",
        "negative",
    ]
    assert changes.loc[("SVD, noisy labels", "clean"), ["versus", "verdict"]].tolist() == [
        "equal, noisy labels",
        "positive",
    ]
    configs = [mv.RunLog.open(folder).info.config for folder in frame["folder"].unique()]
    noises = [config.get("label_noise", {}) for config in configs]
    assert noises == [{}] * 10 + [{"noisy": {"share": 0.8, "seed": seed}} for seed in range(5)] * 2
    weights = [config.get("scale", {}) for config in configs[15:]]
    assert all(weight["clean"] > 1.2 > weight["noisy"] for weight in weights)


def test_a_problem_of_the_users_own_gets_another_noise_with_each_seed() -> None:
    frame = label_noise(crossing(missing=0.3), {"size": 0.5}, 2, **SHORT)
    assert frame["value"].notna().all()
    values = frame[frame["task"] == "size"].pivot(index="seed", columns="method", values="value")
    assert (values["equal, true labels"] != values["equal, noisy labels"]).all()


def test_weights_of_a_problem_are_those_of_its_arrays() -> None:
    x, y = made_data(100, seed=0)
    y["size"][::3] = torch.nan
    y["kind"][::4] = -100
    known = {"kind": y["kind"].numpy(), "size": y["size"].double().numpy(), "rare": y["rare"].double().numpy()}
    expected = mv.transfer.svd_task_weights(x.numpy(), known, rank=2)
    problem = mv.Problem(tasks=TASKS, trunk=nn.Linear(6, 4), train=(x, y))
    pd.testing.assert_frame_equal(svd_weights(problem, rank=2), expected)
    items = torch.utils.data.StackDataset(x, torch.utils.data.StackDataset(**y))
    of_items = mv.Problem(tasks=TASKS, trunk=nn.Linear(6, 4), train=items)
    pd.testing.assert_frame_equal(svd_weights(of_items, rank=2), expected)
    embedded = svd_weights(problem, embed=problem.model.trunk)
    z = problem.model.trunk(x).detach().numpy()
    pd.testing.assert_frame_equal(embedded, mv.transfer.svd_task_weights(z, known))


def test_scaled_losses_and_fixed_weights_train_the_same() -> None:
    problem = crossing()
    weights = svd_weights(problem).set_index("task")["weight"]
    scaled = mv.train(svd_weighted(problem), steps=5)
    fixed = mv.train(problem, weighting=mv.weighting.Fixed(weights), steps=5)
    for training in (scaled, fixed):
        for _ in training:
            pass
    for ours, theirs in zip(scaled.model.parameters(), fixed.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def _broken(problem: mv.Problem) -> mv.Problem:
    raise RuntimeError("out of ideas")


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: remedies(crossing(), {}, **SHORT), ProblemError, r"must be \{label: .*at least one; got \{\}"),
        (lambda: remedies(crossing(), "mgda", **SHORT), ProblemError, r"must be \{label: .*got 'mgda'"),
        (lambda: remedies(crossing(), {"as it is": "mgda"}, **SHORT), ProblemError, "give the remedy another label"),
        (lambda: remedies(crossing(), {"x": 3}, **SHORT), ProblemError, "the remedy 'x' must be a function .* got 3"),
        (lambda: remedies(crossing(), {"x": mv.Problem}, **SHORT), ProblemError, "the remedy 'x' must be a function"),
        (lambda: remedies(crossing(), {"x": _broken}, **SHORT), ProblemError, "'x' failed: RuntimeError: out of ideas"),
        (lambda: remedies(crossing, {"x": _broken}, **SHORT), ProblemError, "of seed 0 .* 'x' failed: RuntimeError"),
        (
            lambda: remedies(crossing(), {"x": lambda p: 1}, **SHORT),
            ProblemError,
            "must return a Problem, it returned a int",
        ),
        (lambda: remedies(crossing(), {"x": "mgdaa"}, **SHORT), WeightingError, "did you mean 'mgda'"),
        (lambda: remedies(7, {"x": "mgda"}, **SHORT), ProblemError, "remedies needs an mtlviz.Problem or a function"),
        (lambda: on_trunk(crossing().aligned(), nn.Linear(6, 4), seed=0), ProblemError, "would lose the alignments"),
        (lambda: svd_weights(_unequal(0)), ProblemError, "here each task has training rows of its own"),
        (lambda: svd_weights("digits"), ProblemError, "needs an mtlviz.Problem, got str"),
        (lambda: svd_weights(crossing(), rank=4), TransferError, "rank must be from 1 to the number of tasks, 3"),
        (lambda: svd_weights(crossing(), embed=lambda x: x[:3]), TransferError, "embed returned"),
        (lambda: label_noise(crossing(), {"sum": 0.2}, **SHORT), ProblemError, "label noise: unknown task 'sum'"),
        (lambda: svd_weights(crossing(), embed=3), ProblemError, "embed must be a module or a function of tensors"),
        (lambda: label_noise(crossing(), {}, **SHORT), ProblemError, "of one task at least; got {}"),
        (lambda: label_noise(crossing(), None, **SHORT), ProblemError, "of one task at least; got None"),
        (lambda: label_noise(_unequal(0), {"small": 0.2}, **SHORT), ProblemError, "training rows of its own"),
    ],
)
def test_what_is_no_remedy_is_told(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act()
