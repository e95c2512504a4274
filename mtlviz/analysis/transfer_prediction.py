"""Prediction against measurement: which cheap signal would have told how tasks transfer to each other?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlviz.analysis.transfer import ALL
from mtlviz.errors import FrameError
from mtlviz.intervals import is_share

SIGNALS: dict[str, tuple[str, str, str]] = {
    "covariance": ("task_a", "task_b", "score"),
    "cosine": ("task_a", "task_b", "cosine"),
    "affinity": ("source", "target", "affinity"),
}
"""What each signal's frame calls source, target and value."""

OF_COVARIANCES = ("score", "direction_a")
"""Columns of frames whose cosine is one of covariances or of their directions, and not of gradients."""

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
        FrameError: no signal, a frame that is none or lacks a column, a pair that stands in one twice, a signal of
            other tasks, or cosines of covariances in place of those of gradients.
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

    Over all pairs together it asks whether a signal tells which pairs gain most. Within targets it asks what a choice
    of partners needs: signal and gain are ranked among the sources of one target only, and correlated over all of them.
    A signal may be right there and not over all, as the tasks' losses and metrics differ in scale.

    The intervals are of a bootstrap (percentiles). It resamples pairs of tasks, both directions of one together, since
    covariance and cosine say one thing of both. A task is still in many pairs and all gains come of the same seeds, so
    pairs are no independent samples: the intervals are too narrow, the more so the fewer tasks there are. The noise of
    the gains themselves is in them only so far as it differs between pairs.

    Args:
        frame: as `transfer_prediction` returns it.
        value: what to rank: "relative", the gain in % of |alone|, or "gain", in the metrics' own units, which can be
            ranked over all pairs only where all targets have one metric.
        confidence: of the intervals, between 0 and 1.
        repeats: resamples.
        seed: of the resamples.

    Returns:
        A row per signal: signal, correlation (over all pairs, -1 to 1), low, high, pairs (ordered ones with both
        numbers), within (within targets), within_low and within_high. NaN where undefined: fewer than 3 pairs, or a
        signal or gains that are all the same; an interval also where no resample has one.

    Raises:
        FrameError: the frame is none of transfer_prediction, or an option is out of range.
    """
    _options(value, confidence, repeats, seed)
    _needed(frame, ("signal", "source", "target", "predicted", value), "rank_correlations", "transfer_prediction")
    rows = []
    for name, part in frame.groupby("signal", observed=True, sort=True):
        x, y = part["predicted"].to_numpy(np.float64), part[value].to_numpy(np.float64)
        known = np.isfinite(x) & np.isfinite(y)
        source, target = (part[key].astype(str).to_numpy()[known] for key in ("source", "target"))
        counts = _resampled(source, target, repeats, np.random.default_rng(seed))
        row: dict[str, Any] = {"signal": name}
        for prefix, group in (("", np.zeros(len(target))), ("within_", target)):
            found = _spearman(x[known], y[known], group, counts)
            low = high = np.nan
            if np.isfinite(found[0]) and np.isfinite(found[1:]).any():
                low, high = np.nanpercentile(found[1:], [50 * (1 - confidence), 50 * (1 + confidence)])
            row |= {prefix.rstrip("_") or "correlation": found[0], f"{prefix}low": low, f"{prefix}high": high}
            row |= {"pairs": int(known.sum())}
        rows.append(row)
    columns = ["signal", "correlation", "low", "high", "pairs", "within", "within_low", "within_high"]
    return pd.DataFrame(rows, columns=columns).astype({"signal": frame["signal"].dtype})


def _pairs(gains: Any) -> pd.DataFrame:
    """Return the measured gains of ordered pairs of tasks, with the relative ones."""
    _needed(gains, GAINS, "transfer_prediction", "transfer_gains")
    source, target = gains["source"].astype(str), gains["target"].astype(str)
    pairs = gains[(~source.isin(["", ALL]) & (source != target)).to_numpy(bool)].reset_index(drop=True)
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
    return list(dict.fromkeys([*target.astype(str), *pairs["source"].astype(str)]))


def _signal(name: str, frame: Any, pairs: pd.DataFrame) -> Numbers:
    """Return what a signal says of each pair, NaN where nothing."""
    first, second, value = SIGNALS[name]
    analysis = {"covariance": "covariance_scores", "cosine": "conflict_matrix", "affinity": "affinity"}[name]
    _needed(frame, (first, second, value), f"transfer_prediction({name}=...)", analysis)
    if name == "cosine" and (other := [column for column in OF_COVARIANCES if column in frame.columns]):
        raise FrameError(
            "transfer_prediction(cosine=...) needs cosines between gradients, as analysis.conflict_matrix returns "
            f"them; with a column {other[0]!r} they are of covariances: give the scores as covariance=."
        )
    keys = list(zip(frame[first].astype(str), frame[second].astype(str), strict=True))
    if len(set(keys)) < len(keys):
        raise FrameError(f"transfer_prediction needs one {value} per pair in {name}=, but some stand there twice.")
    said = dict(zip(keys, frame[value].to_numpy(np.float64), strict=True))
    if first == "task_a":  # symmetric: one half of it is enough
        said = {(b, a): number for (a, b), number in said.items()} | said
    wanted = list(zip(pairs["source"].astype(str), pairs["target"].astype(str), strict=True))
    if wanted and not any(pair in said for pair in wanted):
        tasks, told = (", ".join(sorted({name for pair in some for name in pair})) for some in (wanted, keys))
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


def _resampled(source: NDArray[Any], target: NDArray[Any], repeats: int, random: np.random.Generator) -> Numbers:
    """Return how often each ordered pair (n,) is in each resample (1 + repeats, n); in the first all are, once."""
    together = [tuple(sorted(pair)) for pair in zip(source, target, strict=True)]
    place = pd.Index(together, tupleize_cols=False).factorize()[0]
    n = int(place.max(initial=-1)) + 1
    drawn = random.multinomial(n, np.full(n, 1 / n), size=repeats) if n else np.zeros((repeats, 0), dtype=np.int64)
    return np.concatenate([np.ones((1, len(place))), drawn[:, place]])


def _spearman(x: Numbers, y: Numbers, group: NDArray[Any], counts: Numbers) -> Numbers:
    """Return Spearman's correlations (k,) of n points, of which each sample holds `counts` (k, n) copies.

    group: (n,) ranks are among the points of one group only, from the middle of it. NaN where there are fewer than 3
    points or all ranks are the same.
    """
    if not len(x):
        return np.full(len(counts), np.nan)
    groups = np.unique(group, return_inverse=True)[1]
    a, b = (_ranks(values, groups, counts) for values in (x, y))
    products = [(counts * one * other).sum(axis=1) for one, other in ((a, b), (a, a), (b, b))]
    scale = np.sqrt(products[1] * products[2])
    defined = (counts.sum(axis=1) >= 3) & (scale > 0)
    return np.clip(np.divide(products[0], scale, out=np.full(len(counts), np.nan), where=defined), -1.0, 1.0)


def _ranks(values: Numbers, group: NDArray[Any], counts: Numbers) -> Numbers:
    """Return ranks (k, n) within each group, the mean rank of ties, less the group's own mean rank."""
    order = np.lexsort((values, group))
    sorted_group, sorted_values = group[order], values[order]
    begins = np.append(True, sorted_group[1:] != sorted_group[:-1])  # where a group does
    new = begins | np.append(True, sorted_values[1:] != sorted_values[:-1])  # where another value does
    first = np.flatnonzero(begins[new])
    held = np.add.reduceat(counts[:, order], np.flatnonzero(new), axis=1)  # (k, m) copies of each value
    below = np.cumsum(held, axis=1) - held
    own = np.cumsum(begins[new]) - 1  # (m,) the group of each value
    whole = np.add.reduceat(held, first, axis=1)[:, own]
    ranks = np.empty(counts.shape)
    ranks[:, order] = (below - below[:, first][:, own] + (held - whole) / 2)[:, np.cumsum(new) - 1]
    return ranks


def _options(value: str, confidence: float, repeats: int, seed: int) -> None:
    if value not in ("relative", "gain"):
        raise FrameError(f"rank_correlations ranks value='relative' or value='gain', but value is {value!r}.")
    if not is_share(confidence):
        raise FrameError(f"rank_correlations needs a confidence between 0 and 1, but got {confidence!r}.")
    for name, number, least in (("repeats", repeats, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
            raise FrameError(f"rank_correlations needs {name}, a whole number from {least}; got {number!r}.")


def _needed(frame: Any, columns: Sequence[str], needs: str, source: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"{needs} needs the frame that analysis.{source} returns, but got {type(frame).__name__}.")
    if missing := [column for column in columns if column not in frame.columns]:
        got = ", ".join(map(str, frame.columns)) or "no column"
        raise FrameError(
            f"{needs} needs the frame that analysis.{source} returns; missing: {', '.join(missing)}; got: {got}."
        )
