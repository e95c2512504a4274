"""Linear tasks fitted by squared error: each alone, exactly, and together through a shared module of width r."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from mtlviz.runlog.records import Floats
from mtlviz.transfer.arguments import whole, within
from mtlviz.transfer.moments import Moments, all_sampled, checked_weights, moments, sampled
from mtlviz.transfer.two_tasks import best_of_two

STARTS = 6
STREAM = 6  # of random numbers; the generator has those before it
MOST = 1_000  # steps of a descent
TOLERANCE = 1e-13
_ENOUGH = 1e-10  # of Σ ‖y_i‖²: so near the tasks' own optima, further starts have nothing to find
_RANK = 1e-12  # of the largest eigenvalue: what counts as zero


@dataclass(frozen=True, eq=False)
class SharedFit:
    """What tasks learn through one shared module: f(x) = g(xᵀB) A_i for task i.

    directions: B (d, r). heads: {task: A_i (r,)}. loss: Σ α_i ‖g(X_i B) A_i − y_i‖². rounds: of the search, 0 where the
    optimum is found at once. converged: whether the search ended by its tolerance and not by its rounds.
    """

    directions: Floats
    heads: dict[str, Floats]
    loss: float
    rounds: int
    converged: bool

    def theta(self, task: str) -> Floats:
        """B A_i (d,), what a linear task's model multiplies its inputs with."""
        return self.directions @ self.heads[task]


def single_fit(x: Any, y: Any) -> Floats:
    """The optimum (d,) of a task alone, θ = (XᵀX)^† Xᵀy: the shortest of the solutions where there are several.

    x: (m, d). y: (m,). Raises: TransferError for shapes that do not fit, no samples, or a number that is not finite.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, section 2.
    """
    x, y = sampled("alone", x, y)
    return np.linalg.lstsq(x, y, rcond=None)[0]


def shared_fit(
    tasks: Mapping[str, tuple[Any, Any]],
    *,
    rank: int = 1,
    weights: Mapping[str, float] | None = None,
    starts: int = STARTS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> SharedFit:
    """Linear tasks that share a module B (d, r): the minimum of Σ α_i ‖X_i B A_i − y_i‖² over B and the heads.

    tasks: {task: (x (m_i, d), y (m_i,))}. rank: r, the width of the shared module. weights: {task: α_i}, 1 by default.
    Two tasks through one direction are solved globally (`best_of_two`). Otherwise a quasi-Newton descent on B, with the
    best heads at each B, goes down from each of several starts, and the best end is kept, which need not be the global
    optimum. starts: how many of them are random; for r = 1 there are also the tasks' own optima and those of each pair.
    tolerance: a descent ends when a step lowers the loss by less than this share of it, or of Σ α_i ‖y_i‖².

    Raises: TransferError for tasks that do not fit, a rank or starts below 1, or weights that are not above 0.
    Source: Wu, Zhang and Ré, ICLR 2020, arXiv 2005.00944, section 2. With r = 1 its objective is
    max_B Σ_i ⟨X_i B/‖X_i B‖, y_i⟩².
    Differs: the paper trains by gradient descent.
    """
    data = all_sampled(tasks)
    alphas = checked_weights(data, weights)
    rank, starts = whole("rank", rank, 1), whole("starts", starts, 1)
    tolerance = within("tolerance", tolerance, 0.0, 1.0)
    known = [moments(x, y).weighted(alphas[name]) for name, (x, y) in data.items()]
    if rank == 1 and len(known) == 2:
        best, rounds, converged = best_of_two(*known)[:, None], 0, True
    else:
        best, rounds, converged = _best_start(known, rank, starts, tolerance, seed)
    heads = {name: head(best, task) for name, task in zip(data, known, strict=True)}
    left = {name: x @ (best @ heads[name]) - y for name, (x, y) in data.items()}  # moments would round near 0
    total = sum(alphas[name] * float(each @ each) for name, each in left.items())
    return SharedFit(best, heads, total, rounds, converged)


def head(directions: Floats, task: Moments) -> Floats:
    """The best head (r,) of a task on xᵀB: (BᵀXᵀXB)^† BᵀXᵀy. directions: B (d, r).

    What of B the task's inputs do not reach but for rounding gets no head, which would have to be enormous.
    """
    values, vectors = np.linalg.eigh(directions.T @ task.second @ directions)
    kept = values > _RANK * float(np.trace(task.second)) * float(np.sum(directions**2))
    reached = vectors[:, kept]
    return reached @ ((reached.T @ (directions.T @ task.cross)) / values[kept])


def loss(directions: Floats, heads: Sequence[Floats], tasks: Sequence[Moments]) -> float:
    """Σ_i ‖X_i B A_i − y_i‖², from the moments."""
    thetas = [directions @ each for each in heads]
    return sum(
        float(theta @ task.second @ theta - 2.0 * theta @ task.cross + task.power)
        for theta, task in zip(thetas, tasks, strict=True)
    )


def _best_start(tasks: list[Moments], rank: int, starts: int, tolerance: float, seed: int) -> tuple[Floats, int, bool]:
    """The best B (d, r) of the starts, the steps that it took, and whether it converged."""
    alone = sum(task.power - float(task.cross @ _own(task)) for task in tasks)  # nothing is better than that
    enough = alone + _ENOUGH * sum(task.power for task in tasks)
    best, least = None, np.inf
    for start in _starts(tasks, rank, starts, seed):
        found = _descended(start, tasks, tolerance)
        reached = loss(found[0], [head(found[0], task) for task in tasks], tasks)
        if best is None or reached < least:
            best, least = found, reached
        if least <= enough:
            break
    assert best is not None, "there is one start or more"
    return best


def _starts(tasks: list[Moments], rank: int, starts: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng([STREAM, seed])
    size = len(tasks[0].cross)
    begun = [rng.normal(size=(size, rank)) for _ in range(starts)]
    if rank == 1:
        pairs = [(a, b) for i, a in enumerate(tasks) for b in tasks[i + 1 :]]
        begun += [_own(task)[:, None] for task in tasks if task.cross.any()]
        begun += [best_of_two(*pair)[:, None] for pair in pairs]
    return begun


def _own(task: Moments) -> Floats:
    """A task's own optimum (d,)."""
    return np.linalg.pinv(task.second, rcond=_RANK, hermitian=True) @ task.cross


def _descended(start: Floats, tasks: list[Moments], tolerance: float) -> tuple[Floats, int, bool]:
    """B (d, r) after a quasi-Newton descent on the loss with the best heads at every B; its steps; whether it ended."""
    values, vectors = np.linalg.eigh(sum((task.second for task in tasks[1:]), tasks[0].second))
    kept = values > _RANK * values[-1]
    back = vectors[:, kept] / np.sqrt(values[kept])  # (d, q), to where Σ X_iᵀX_i is the identity
    known = [Moments(back.T @ task.second @ back, back.T @ task.cross, task.power, task.samples) for task in tasks]
    shape = (back.shape[1], start.shape[1])
    power = sum(task.power for task in tasks) or 1.0

    def seen(flat: Floats) -> tuple[float, Floats]:
        B = flat.reshape(shape)
        heads = [head(B, task) for task in known]
        gradient = sum(np.outer(t.second @ B @ a - t.cross, a) for a, t in zip(heads, known, strict=True))
        return loss(B, heads, known) / power, 2.0 * np.ravel(gradient) / power

    begun = (vectors[:, kept] * np.sqrt(values[kept])).T @ start
    begun = begun / np.maximum(np.linalg.norm(begun, axis=0), np.finfo(np.float64).tiny)
    options = {"maxiter": MOST, "ftol": tolerance, "gtol": 0.0, "maxfun": 4 * MOST, "maxcor": 30}
    ended = minimize(seen, begun.ravel(), jac=True, method="L-BFGS-B", options=options)
    return back @ ended.x.reshape(shape), int(ended.nit), bool(ended.nit < MOST)
