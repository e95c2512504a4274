"""ReLU tasks through one shared direction, fitted by a damped Gauss-Newton search from several starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole
from mtlviz.transfer.linear import STREAM, SharedFit
from mtlviz.transfer.moments import Samples, all_sampled, checked_weights

STARTS = 3
MOST = 200  # steps of a search
TOLERANCE = 1e-10
_IDENTITY = 1e-12  # of the trace
_DAMPING, _EASIER, _HARDER, _STUCK = 1e-3, 0.3, 4.0, 1e12


def relu_fit(
    tasks: Mapping[str, tuple[Any, Any]],
    *,
    weights: Mapping[str, float] | None = None,
    starts: int = STARTS,
    seed: int = 0,
) -> SharedFit:
    """Tasks that share one ReLU unit: Σ α_i ‖A_i max(X_i B, 0) − y_i‖² over B (d,) and the heads A_i, searched.

    tasks: {task: (x (m_i, d), y (m_i,))}; one task is fitted alone. weights: {task: α_i}, 1 by default. starts: how
    many of them are random; further ones are what linear tasks would learn, alone and all as one, and their opposites.
    The best end of all starts is kept, which need not be the global optimum. `directions` is (d, 1), a head (1,).

    Raises: TransferError for tasks that do not fit, starts below 1, or weights that are not above 0.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, section 2, with g = ReLU and r = 1.
    """
    data = all_sampled(tasks)
    alphas = list(checked_weights(data, weights).values())
    samples = list(data.values())
    begun = _starts(samples, whole("starts", starts, 1), seed)
    loss, direction, rounds, converged = min(
        (_searched(start, samples, alphas) for start in begun), key=lambda one: one[0]
    )
    heads = {name: np.array([_head(np.maximum(x @ direction, 0.0), y)]) for name, (x, y) in data.items()}
    return SharedFit(direction[:, None], heads, loss, rounds, converged)


def _starts(samples: Sequence[Samples], starts: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng([STREAM, seed])
    size = samples[0][0].shape[1]
    pooled = np.concatenate([x for x, _ in samples]), np.concatenate([y for _, y in samples])
    linear = [np.linalg.lstsq(x, y, rcond=None)[0] for x, y in ([*samples, pooled] if len(samples) > 1 else samples)]
    random = [rng.normal(size=size) for _ in range(starts)]
    return [*(sign * theta for theta in linear if theta.any() for sign in (1.0, -1.0)), *random]


def _head(units: Floats, y: Floats) -> float:
    """The best head on the units (m,), 0 where they are all 0."""
    power = float(units @ units)
    return float(units @ y) / power if power > 0 else 0.0


def _loss(direction: Floats, samples: Sequence[Samples], weights: Sequence[float]) -> float:
    """Σ α_i ‖A_i max(X_i B, 0) − y_i‖² with the best heads."""
    total = 0.0
    for (x, y), weight in zip(samples, weights, strict=True):
        units = np.maximum(x @ direction, 0.0)
        residual = y - _head(units, y) * units
        total += weight * float(residual @ residual)
    return total


def _system(direction: Floats, samples: Sequence[Samples], weights: Sequence[float]) -> tuple[Floats, Floats]:
    """JᵀJ (d, d) and Jᵀ residual (d,) of the loss with the best heads (Kaufman's variable projection).

    A little of the identity keeps JᵀJ from being singular where inputs are.
    """
    size = len(direction)
    square, right, trace = np.zeros((size, size)), np.zeros(size), 0.0
    for (x, y), weight in zip(samples, weights, strict=True):
        reached = x @ direction
        on = reached > 0
        x, y, units = x[on], y[on], reached[on]
        head = _head(units, y)
        mixed, power = x.T @ units, float(units @ units)
        factor = weight * head**2
        square += factor * (x.T @ x)
        trace += factor * float(np.sum(x**2))
        if power > 0:
            square -= factor / power * np.outer(mixed, mixed)
        right += weight * head * (x.T @ (y - head * units))
    return square + _IDENTITY * trace * np.eye(size), right


def _searched(start: Floats, samples: Sequence[Samples], weights: Sequence[float]) -> tuple[float, Floats, int, bool]:
    """The loss where the search from `start` ends, B (d,) there, its steps, and whether it came to rest."""
    direction = start / np.linalg.norm(start)
    power = sum(weight * float(y @ y) for (_, y), weight in zip(samples, weights, strict=True)) or 1.0
    now, damping = _loss(direction, samples, weights), _DAMPING
    for rounds in range(MOST):
        square, right = _system(direction, samples, weights)
        if not right.any():  # no unit is on, or no head reads it: nothing says where to go
            return now, direction, rounds, True
        while damping < _STUCK:
            moved = direction + np.linalg.solve(square + damping * np.diag(np.diag(square)), right)
            moved /= np.linalg.norm(moved)
            after = _loss(moved, samples, weights)
            if after < now:
                break
            damping *= _HARDER
        else:
            return now, direction, rounds, True
        gained, direction, now, damping = now - after, moved, after, damping * _EASIER
        if gained <= TOLERANCE * power:
            return now, direction, rounds + 1, True
    return now, direction, MOST, False
