"""The study of figure 3: what a source does to a target, over its number of samples and its inputs' covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from mtlviz.errors import FrameError, TransferError
from mtlviz.intervals import mean_interval
from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole
from mtlviz.transfer.generator import PlantedTasks, three_sources
from mtlviz.transfer.linear import head, single_fit
from mtlviz.transfer.moments import Moments, Samples, moments
from mtlviz.transfer.relu import relu_fit
from mtlviz.transfer.two_tasks import best_of_two

SOURCE_SAMPLES = (30, 100, 300, 1_000, 3_000)
SEEDS = 10
ALL = "all settings"

_COLUMNS = ("setting", "source", "source_samples", "seed", "difference")


def source_settings() -> dict[str, PlantedTasks]:
    """Four settings of figure 3 that differ in what is learned: {label: tasks}, each a target and three sources.

    "clean": a regression without noise, as the paper prints it, of a target with fewer samples than features. "noisy":
    a regression with label noise. "labels": a classification with a fifth of its labels random. "ReLU": a ReLU unit.
    """
    return {
        "clean": three_sources(features=50, target_samples=25),
        "noisy": three_sources(features=50, target_samples=100, noise=0.5),
        "labels": three_sources(features=50, target_samples=100, noise=0.2, kind="classification"),
        "ReLU": three_sources(features=20, target_samples=30, noise=0.2, teacher="relu"),
    }


def source_sweep(
    settings: PlantedTasks | Mapping[str, PlantedTasks] | None = None,
    *,
    source_samples: Sequence[int] = SOURCE_SAMPLES,
    seeds: int | Sequence[int] = SEEDS,
    target: str = "target",
    jobs: int | None = None,
) -> pd.DataFrame:
    """A target alone and together with one source through one shared direction (r = 1), for each source and size of it.

    settings: {label: tasks}, or one; `source_settings()` by default. Every task but `target` is a source; its own
    number of samples is not read. source_samples: how many it has instead; a smaller sample begins a larger one.
    seeds: so many from 0, or which; each draws θ, rotations and samples anew. jobs: processes of joblib, or what
    `joblib.parallel_config` says; the numbers do not depend on it.

    Returns a row per setting, seed, source and size: setting, teacher, kind, features, condition, cosine (of the
    source's θ with the base that the target has by default), noise (of the target), target_samples, source,
    source_samples, seed, alone, together (the target's error, `Planted.risk`: mean squared, or a share of signs) and
    difference, together − alone: below 0 the source helps.

    Raises: TransferError for settings that are none, no target or no source, sizes below 1, or seeds that are none.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, figure 3.
    Differs: see `PlantedTasks` and `Planted.risk`. d, the target's samples and the sizes stand in an appendix that was
    not found. Linear tasks are solved globally, classifications among them by squared error on labels ±1; ReLU tasks
    are searched from several starts.
    """
    named = _settings(settings)
    sizes = sorted({whole("source_samples", size, 1) for size in _listed("source_samples", source_samples)})
    chosen = (
        range(whole("seeds", seeds, 1)) if _is_number(seeds) else [whole("seed", s, 0) for s in _listed("seeds", seeds)]
    )
    for label, setting in named.items():
        if target not in setting.tasks or len(setting.tasks) < 2:
            raise TransferError(
                f"setting {label!r} needs the task {target!r} and a source beside it; it has {list(setting.tasks)}"
            )
    runs = [(label, setting, seed) for label, setting in named.items() for seed in dict.fromkeys(chosen)]
    parts = Parallel(n_jobs=jobs)(delayed(_of_seed)(*run, sizes, target) for run in runs)
    return pd.DataFrame([row for rows in parts for row in rows])


def source_differences(sweep: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """What each source does on average over the seeds, with intervals.

    sweep: as `source_sweep` returns it. confidence: of the intervals by Student's t.

    Returns a row per setting, source and size: setting, source, source_samples, seeds, difference, low, high, and the
    target's error alone, averaged.

    Raises: FrameError for a frame that is not one of `source_sweep`.
    """
    _needed(sweep, (*_COLUMNS, "kind", "alone"), "source_differences")
    rows = []
    for (setting, source, size), part in sweep.groupby(["setting", "source", "source_samples"], sort=False):
        mean, low, high = mean_interval(part["difference"].to_numpy(np.float64), confidence)
        shared = {"setting": setting, "kind": part["kind"].iloc[0], "source": source, "source_samples": size}
        measured = {"seeds": len(part), "difference": mean, "low": low, "high": high}
        rows.append(shared | measured | {"alone": float(part["alone"].mean())})
    return pd.DataFrame(rows)


def best_sources(sweep: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """In which share of the runs each source is the best for the target: is it the one of the same covariance?

    sweep: as `source_sweep` returns it; a run is one setting and seed. Sources that tie share the run.

    Returns a row per setting, size and source: setting, source_samples, source, runs, share, low, high. In one setting
    the seeds are independent and the interval is Wilson's. The rows of "all settings" average the share over settings
    seed by seed, since settings of one seed share random numbers, and have Student's interval over the seeds.

    Raises: FrameError for a frame that is not one of `source_sweep`.
    """
    _needed(sweep, _COLUMNS, "best_sources")
    wide = sweep.pivot_table(
        index=["setting", "source_samples", "seed"], columns="source", values="difference", sort=False
    )
    is_best = wide.eq(wide.min(axis=1), axis=0)
    shares = is_best.div(is_best.sum(axis=1), axis=0)
    rows = []
    for (setting, size), part in shares.groupby(level=["setting", "source_samples"], sort=False):
        for source in shares.columns:
            mean = float(part[source].mean())
            rows.append((setting, size, source, len(part), mean, *_wilson(mean, len(part), confidence)))
    if shares.index.get_level_values("setting").nunique() > 1:
        by_seed = shares.groupby(level=["source_samples", "seed"], sort=False)
        for size, part in by_seed.mean().groupby(level="source_samples", sort=False):
            runs = int((shares.index.get_level_values("source_samples") == size).sum())
            rows += [(ALL, size, s, runs, *mean_interval(part[s].to_numpy(), confidence)) for s in shares.columns]
    frame = pd.DataFrame(rows, columns=["setting", "source_samples", "source", "runs", "share", "low", "high"])
    return frame.assign(low=frame["low"].clip(lower=0.0), high=frame["high"].clip(upper=1.0))


def _of_seed(label: str, setting: PlantedTasks, seed: int, sizes: list[int], target: str) -> list[dict[str, Any]]:
    """The rows of one setting and seed."""
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices; and sums in one order, whatever the processes
        populations = setting.planted(seed)
        own = populations[target].sample(setting.tasks[target].samples)
        alone = populations[target].risk(*_alone(setting, own))
        what = {"setting": label, "teacher": setting.teacher, "kind": setting.kind, "features": setting.features}
        what |= {"condition": setting.condition, "noise": setting.tasks[target].noise, "target_samples": len(own[1])}
        rows = []
        for source in (name for name in setting.tasks if name != target):
            other = populations[source].sample(sizes[-1])
            for size, fit in zip(sizes, _together(setting, own, other, sizes), strict=True):
                together = populations[target].risk(*fit)
                run = {"cosine": setting.tasks[source].cosine, "source": source, "source_samples": size, "seed": seed}
                rows.append(what | run | {"alone": alone, "together": together, "difference": together - alone})
    return rows


def _alone(setting: PlantedTasks, own: Samples) -> tuple[Floats, float]:
    """The target's direction and head alone."""
    if setting.teacher == "linear":
        return single_fit(*own), 1.0
    fit = relu_fit({"target": own})
    return fit.directions[:, 0], float(fit.heads["target"][0])


def _together(setting: PlantedTasks, own: Samples, other: Samples, sizes: list[int]) -> list[tuple[Floats, float]]:
    """The target's direction and head with the first samples of the source, for each size."""
    if setting.teacher == "relu":
        fits = [relu_fit({"target": own, "source": (other[0][:size], other[1][:size])}) for size in sizes]
        return [(fit.directions[:, 0], float(fit.heads["target"][0])) for fit in fits]
    target, found = moments(*own), []
    source: Moments | None = None
    for start, stop in pairwise([0, *sizes]):
        further = moments(other[0][start:stop], other[1][start:stop])
        source = further if source is None else source + further
        direction = best_of_two(target, source)
        found.append((direction, float(head(direction[:, None], target)[0])))
    return found


def _wilson(share: float, runs: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share of independent runs."""
    z = float(ndtri(0.5 + confidence / 2))
    middle, wide = share + z**2 / (2 * runs), z * math.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2))
    return max(0.0, (middle - wide) / (1 + z**2 / runs)), min(1.0, (middle + wide) / (1 + z**2 / runs))


def _settings(settings: Any) -> dict[str, PlantedTasks]:
    settings = source_settings() if settings is None else settings
    named = {"": settings} if isinstance(settings, PlantedTasks) else settings
    if not isinstance(named, Mapping) or not named or not all(isinstance(s, PlantedTasks) for s in named.values()):
        raise TransferError(f"settings must be PlantedTasks, or {{label: PlantedTasks}}; got {type(settings).__name__}")
    return {str(label): setting for label, setting in named.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _listed(name: str, values: Any) -> list[Any]:
    try:
        listed = [] if isinstance(values, (str, bytes)) else list(values)
    except TypeError:
        listed = []
    if not listed:
        raise TransferError(f"{name} needs one whole number or more in a list; got {values!r}")
    return listed


def _needed(frame: Any, columns: Sequence[str], function: str) -> None:
    if not isinstance(frame, pd.DataFrame) or any(column not in frame.columns for column in columns):
        came = ", ".join(map(str, frame.columns)) if isinstance(frame, pd.DataFrame) else type(frame).__name__
        raise FrameError(f"transfer.{function} needs the frame of transfer.source_sweep; got {came or 'no column'}")
