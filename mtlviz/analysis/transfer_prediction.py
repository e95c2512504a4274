"""Prediction against measurement: which cheap signal would have told how tasks transfer to each other?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.errors import FrameError

SIGNALS: dict[str, tuple[str, str, str]] = {
    "covariance": ("task_a", "task_b", "score"),
    "cosine": ("task_a", "task_b", "cosine"),
    "affinity": ("source", "target", "affinity"),
}
"""What each signal's frame calls source, target and value."""

GAINS = ("source", "target", "metric", "alone", "gain", "low", "high", "verdict")

Numbers = NDArray[np.float64]
Value = Literal["relative", "gain"]


def transfer_prediction(
    gains: pd.DataFrame,
    *,
    covariance: pd.DataFrame | None = None,
    cosine: pd.DataFrame | None = None,
    affinity: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return for every ordered pair of tasks what each cheap signal said of it, beside the transfer that was measured.

    A gain is in the unit of its target's metric, so that gains of several metrics cannot be ranked together. Beside it
    stands the gain as a part of what the target reached alone, 100 · gain ÷ |alone|: the relative change, above 0 for
    better, that Δm% averages.

    Args:
        gains: as `analysis.transfer_gains` returns it. Rows of the source "all" tell of no pair, and are left out.
        covariance: as `analysis.covariance_scores` returns it; its `score` is the signal.
        cosine: as `analysis.conflict_matrix` returns it: the mean cosine between gradients.
        affinity: as `analysis.affinity` returns it.

    Returns:
        A row per given signal and ordered pair of tasks: signal (covariance, cosine, affinity), source, target (these
        are ordered categoricals), predicted (the signal; NaN where it does not tell of the pair; covariance and cosine
        say the same of both directions), gain, low, high (in the metric's unit, above 0 where the target is better with
        the source than alone, with its interval), verdict, metric, relative, relative_low and relative_high (% of
        |alone|; NaN where alone is 0).

    Raises:
        FrameError: no signal, a frame that is none or lacks a column, a pair that stands in one twice, or a signal of
            other tasks.
    """
    given = {"covariance": covariance, "cosine": cosine, "affinity": affinity}
    frames = {name: frame for name, frame in given.items() if frame is not None}
    if not frames:
        raise FrameError(
            "transfer_prediction needs at least one signal: covariance=, cosine= or affinity=, the frames of "
            "analysis.covariance_scores, analysis.conflict_matrix and analysis.affinity."
        )
    pairs = _pairs(gains)
    parts = [_part(name, pairs, _signal(name, frame, pairs)) for name, frame in frames.items()]
    kinds = pd.CategoricalDtype([name for name in SIGNALS if name in frames], ordered=True)
    return pd.concat(parts, ignore_index=True).astype({"signal": kinds})


def rank_correlations(
    frame: pd.DataFrame,
    *,
    value: Value = "relative",
    confidence: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well each signal ranks the pairs as their measured gains do: Spearman's correlation.

    The interval is of a bootstrap (percentiles). It resamples pairs of tasks, both directions of one together, since
    covariance and cosine say one thing of both. A task is still in many pairs and all gains come of the same seeds,
    so pairs are no independent samples: the interval is too narrow, the more so the fewer tasks there are. The noise of
    the gains themselves is in it only so far as it differs between pairs.

    Args:
        frame: as `transfer_prediction` returns it.
        value: what to rank: "relative", the gain in % of |alone|, or "gain", in the metrics' own units, which can be
            ranked together only where all targets have one metric.
        confidence: of the interval, between 0 and 1.
        repeats: resamples.
        seed: of the resamples.

    Returns:
        A row per signal: signal, correlation (-1 to 1), low, high and pairs (ordered ones with both numbers). NaN where
        undefined: fewer than 3 pairs, or a signal or gains that are all the same; the interval also where no resample
        has one.

    Raises:
        FrameError: the frame is none of transfer_prediction, or an option is out of range.
    """
    _options(value, confidence, repeats)
    _needed(frame, ("signal", "source", "target", "predicted", value), "rank_correlations", "transfer_prediction")
    tail = 50 * (1 - confidence)
    rows = []
    for name, part in frame.groupby("signal", observed=True, sort=True):
        x, y = _by_pair(part, value)
        random = np.random.default_rng(seed)
        correlation, pairs = float(_spearman(x[None], y[None])[0]), int(np.isfinite(x).sum())
        low = high = np.nan
        if np.isfinite(correlation):
            drawn = random.integers(len(x), size=(repeats, len(x)))
            found = _spearman(x[drawn], y[drawn])
            if np.isfinite(found).any():
                low, high = np.nanpercentile(found, [tail, 100 - tail])
        rows.append((name, correlation, low, high, pairs))
    result = pd.DataFrame(rows, columns=["signal", "correlation", "low", "high", "pairs"])
    return result.astype({"signal": frame["signal"].dtype})


def _pairs(gains: Any) -> pd.DataFrame:
    """Return the measured gains of ordered pairs of tasks, with the relative ones."""
    _needed(gains, GAINS, "transfer_prediction", "transfer_gains")
    source, target = gains["source"].astype(str), gains["target"].astype(str)
    pairs = gains[(source.isin(set(target)) & (source != target)).to_numpy(bool)].reset_index(drop=True)
    if pairs.duplicated(["source", "target"]).any():
        raise FrameError("transfer_prediction needs one gain per source and target, but some stand there twice.")
    names = pd.CategoricalDtype(_tasks(pairs), ordered=True)
    pairs = pairs.assign(**{key: pairs[key].astype(str).astype(names) for key in ("source", "target")})
    alone = np.abs(pairs["alone"].to_numpy(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = {
            new: np.where(alone > 0, 100 * pairs[old].to_numpy(np.float64) / alone, np.nan)
            for new, old in (("relative", "gain"), ("relative_low", "low"), ("relative_high", "high"))
        }
    return pairs.assign(**scaled)


def _tasks(pairs: pd.DataFrame) -> list[str]:
    """Return the names of the tasks in the order that carries their colours: of the targets, if they have one."""
    target = pairs["target"]
    if isinstance(target.dtype, pd.CategoricalDtype):
        return [str(name) for name in target.cat.categories]
    return list(dict.fromkeys([*pairs["source"].astype(str), *target.astype(str)]))


def _signal(name: str, frame: Any, pairs: pd.DataFrame) -> Numbers:
    """Return what a signal says of each pair, NaN where nothing."""
    first, second, value = SIGNALS[name]
    analysis = {"covariance": "covariance_scores", "cosine": "conflict_matrix", "affinity": "affinity"}[name]
    _needed(frame, (first, second, value), f"transfer_prediction({name}=...)", analysis)
    keys = list(zip(frame[first].astype(str), frame[second].astype(str), strict=True))
    if len(set(keys)) < len(keys):
        raise FrameError(f"transfer_prediction needs one {value} per pair in {name}=, but some stand there twice.")
    said = dict(zip(keys, frame[value].to_numpy(np.float64), strict=True))
    if first == "task_a":  # symmetric: one half of it is enough
        said = {(b, a): number for (a, b), number in said.items()} | said
    wanted = list(zip(pairs["source"].astype(str), pairs["target"].astype(str), strict=True))
    if wanted and not any(pair in said for pair in wanted):
        tasks, told = (", ".join(sorted({a for a, _ in some})) for some in (wanted, keys))
        raise FrameError(
            f"transfer_prediction needs signals of the tasks of the gains ({tasks}), but {name}= tells of "
            f"{told or 'none'}."
        )
    return np.array([said.get(pair, np.nan) for pair in wanted])


def _part(name: str, pairs: pd.DataFrame, predicted: Numbers) -> pd.DataFrame:
    measured = ["gain", "low", "high", "verdict", "metric", "relative", "relative_low", "relative_high"]
    return (
        pairs[["source", "target"]]
        .assign(predicted=predicted, **pairs[measured])
        .assign(signal=name)[["signal", "source", "target", "predicted", *measured]]
    )


def _by_pair(part: pd.DataFrame, value: str) -> tuple[Numbers, Numbers]:
    """Return signal and gain (n, 2) of each unordered pair's directions, both NaN where one is missing."""
    x, y = part["predicted"].to_numpy(np.float64), part[value].to_numpy(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    places: dict[frozenset[str], list[int]] = {}
    names = zip(part["source"].astype(str), part["target"].astype(str), strict=True)
    for index, (pair, there) in enumerate(zip(names, known, strict=True)):
        if there:
            places.setdefault(frozenset(pair), []).append(index)
    both = np.full((2, len(places), 2), np.nan)
    for row, indices in enumerate(places.values()):
        for numbers, of in zip(both, (x, y), strict=True):
            numbers[row, : len(indices)] = of[indices]
    return both[0], both[1]


def _spearman(x: Numbers, y: Numbers) -> Numbers:
    """Return Spearman's correlation (k,) of k samples (k, n, 2) without their NaN; NaN where undefined."""
    from scipy.stats import rankdata  # half a second to import, which no other analysis needs

    if not x[0].size:
        return np.full(len(x), np.nan)
    flat = [some.reshape(len(some), -1) for some in (x, y)]
    ranks = [rankdata(some, axis=1, nan_policy="omit") for some in flat]
    there = np.isfinite(flat[0])
    count = there.sum(axis=1)
    centred = [np.where(there, rank - np.nanmean(rank, axis=1, keepdims=True), 0.0) for rank in ranks]
    spread = [np.sqrt((rank**2).sum(axis=1)) for rank in centred]
    scale = spread[0] * spread[1]
    defined = (count >= 3) & (scale > 0)
    product = (centred[0] * centred[1]).sum(axis=1)
    return np.clip(np.divide(product, scale, out=np.full(len(x), np.nan), where=defined), -1, 1)


def _options(value: str, confidence: float, repeats: int) -> None:
    if value not in ("relative", "gain"):
        raise FrameError(f"rank_correlations ranks value='relative' or value='gain', but value is {value!r}.")
    if not 0 < confidence < 1:
        raise FrameError(f"rank_correlations needs a confidence between 0 and 1, but got {confidence!r}.")
    if isinstance(repeats, bool) or not isinstance(repeats, (int, np.integer)) or repeats < 1:
        raise FrameError(f"rank_correlations needs repeats, a whole number from 1; got {repeats!r}.")


def _needed(frame: Any, columns: Sequence[str], needs: str, source: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"{needs} needs the frame that analysis.{source} returns, but got {type(frame).__name__}.")
    if missing := [column for column in columns if column not in frame.columns]:
        got = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(
            f"{needs} needs the frame that analysis.{source} returns; missing: {', '.join(missing)}; got: {got}."
        )
