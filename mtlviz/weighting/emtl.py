"""EMTL: a Gramian method's weights, tilted until loss over gradient norm is the same for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from mtlviz.errors import WeightingError
from mtlviz.runlog.records import Floats
from mtlviz.weighting import METHODS, named
from mtlviz.weighting.kernels import SIGNATURE, Kernel, Mask, kernel
from mtlviz.weighting.method import Weighting
from mtlviz.weighting.mgda import mgda
from mtlviz.weighting.notice import compiling
from mtlviz.weighting.presence import both
from mtlviz.weighting.solvers.kl_ball import advance, advance_of_two, notes_where_idle, shares, uniform

Rate = Literal["loss_over_norm", "norm_over_loss", "weighted"]
Merge = Literal["product", "sum"]

RHOS = (0.1, 0.3, 0.5, 0.8, 1.0, 1.2)
"""The values of the trade-off that the paper searched."""

_OWN = 6  # constants of EMTL itself; the inner method's follow


@njit(cache=True)
def relative_rate(alpha: float, loss: float, squared: float, form: float) -> float:
    """r as `form` says, the place in `Rate`, of ‖g‖² = `squared`; ±∞ where the divisor alone is 0, 0 where both are."""
    norm = np.sqrt(max(squared, 0.0))
    top, bottom = (norm, abs(loss)) if form == 1.0 else (loss, norm)
    if form == 2.0:
        top *= alpha
    if bottom > 0.0:
        return top / bottom
    return np.copysign(np.inf, top) if top != 0.0 else 0.0


@njit(cache=True)
def relative_rates(alpha: Floats, losses: Floats, gramian: Floats, present: Mask, form: float) -> Floats:
    """r (T,); 0 for absent tasks."""
    rates = np.zeros(len(losses))
    for t in range(len(losses)):
        if present[t]:
            rates[t] = relative_rate(alpha[t], losses[t], gramian[t, t], form)
    return rates


@njit(cache=True)
def gain(rate: float, eta: float, clip: float) -> float:
    """η r, held within ± clip."""
    return min(max(eta * rate, -clip), clip)


@njit(cache=True)
def moved(rates: Floats, present: Mask, constants: Floats, log_p: Floats) -> float:
    """Steps log_p (T,) by the gains of `rates` (T,); returns λ."""
    steps = np.empty(len(rates))
    for t in range(len(rates)):
        steps[t] = gain(rates[t], constants[1], constants[3])
    return advance(log_p, steps, present, constants[0])


@njit(cache=True)
def _tilted(alpha: Floats, losses: Floats, gramian: Floats, present: Mask, constants: Floats, log_p: Floats) -> Floats:
    """The weights (T,) from those of the method inside, `alpha`; steps log_p (T,)."""
    eta, beta, clip, form = constants[1], constants[2], constants[3], constants[4]
    if both(present):
        one = gain(relative_rate(alpha[0], losses[0], gramian[0, 0], form), eta, clip)
        other = gain(relative_rate(alpha[1], losses[1], gramian[1, 1], form), eta, clip)
        advance_of_two(log_p, one, other, constants[0])
    else:
        moved(relative_rates(alpha, losses, gramian, present, form), present, constants, log_p)
    weights = shares(log_p, present)
    count = present.sum()
    for t in range(len(weights)):
        if constants[5] == 1.0:
            weights[t] = beta * alpha[t] + (1.0 - beta) * weights[t]
        else:
            weights[t] = alpha[t] * (beta + (1.0 - beta) * count * weights[t])
    return weights


@kernel
def emtl(losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats) -> Floats:
    """α of MGDA, tilted by p. constants: ρ, η, β, clip, the places of rate and merge; MGDA's. state (1, T): log p."""
    alpha = mgda(losses, gramian, present, constants[_OWN:], state[1:], draws)
    return _tilted(alpha, losses, gramian, present, constants, state[0])


@cache
def _around(inner: Kernel) -> Kernel:
    """EMTL's kernel around another one, compiled once a process where that one is.

    Not kept on disk: numba could not tell there which kernel is inside, nor when its code changes.
    """
    if inner is mgda:
        return emtl

    def tilted(
        losses: Floats, gramian: Floats, present: Mask, constants: Floats, state: Floats, draws: Floats
    ) -> Floats:
        alpha = inner(losses, gramian, present, constants[_OWN:], state[1:], draws)
        return _tilted(alpha, losses, gramian, present, constants, state[0])

    if SIGNATURE not in getattr(inner, "nopython_signatures", ()):
        return tilted
    with compiling():
        return njit(SIGNATURE)(tilted)


@dataclass(frozen=True)
class Explanation:
    """One step of EMTL in its parts; every array is (T,), with 0 for absent tasks, but `dual`, a number.

    alpha: weights of the method inside. rates: the relative rates. p_before, p_after: p before and after this step's
    mirror ascent, among the tasks that are present. dual: λ ≥ 0, above 0 where the KL ball held p back. weights: w.
    """

    alpha: Floats
    rates: Floats
    p_before: Floats
    p_after: Floats
    dual: float
    weights: Floats


class EMTL(Weighting):
    """Equitable multi-task learning: w_t = α_t (β + (1 − β) T p_t), with α the weights of a Gramian method.

    A step: α from the method inside; the relative rates r_t = L_t / ‖g_t‖; one step of mirror ascent on p,
    p_t ∝ (p_t exp(η r_t))^{1/(1+λ)}, with the exact λ ≥ 0 that keeps KL(p‖1/T) ≤ ρ; then w, with the new p. So tasks
    whose loss is large for their gradient gain weight until the rates are equal. β = 1 gives exactly the method inside.
    T counts the tasks that are present; they share out what p they have together. The weights keep the scale of α, and
    do not change when all losses are multiplied by one positive number, unless α does. The heads get the gradient of
    Σ w_t L_t.

    rho: ρ ≥ 0, the radius of the KL ball; from log T on it does not constrain p, and a UserWarning says so. beta: β in
    [0, 1]. eta: η > 0, the step size on p. clip: bound on |η r_t|; a task with a zero gradient meets it. rate:
    "loss_over_norm", r = L / ‖g‖; "norm_over_loss", ‖g‖ / |L|; "weighted", α L / ‖g‖. merge: "product", as above;
    "sum", w = β α + (1 − β) p. inside: the name of a method that needs losses or the Gramian alone, its name and
    settings ({"name": "dwa", "window": 10}), or a `Weighting`.

    Raises: WeightingError for a constant out of range, an unknown form, or a method inside that needs more.
    Source: Yuan and Zhang, arXiv 2306.09373 v2, section 4; mirror ascent after Mao et al., ACL 2021 (BanditMTL).
    Differs: **a reconstruction**. The text at hand has no equations, no algorithm and no code. It says: loss over raw
    gradient norm; a worst case over p; mirror ascent with a Lagrangian dual; weights merged "like Reptile", a
    coefficient of 1 giving the method inside, which is MGDA. The equations here are the reading under which the paper's
    claims on its toy problem hold; `rate` and `merge` offer the other readings. The defaults of ρ, β, η are ours.
    """

    name = "emtl"
    needs = frozenset({"losses", "gramian"})
    heads = "weighted"
    kernel: Kernel = staticmethod(emtl)

    def __init__(
        self,
        *,
        rho: float = 0.1,
        beta: float = 0.5,
        eta: float = 0.5,
        clip: float = 50.0,
        rate: Rate = "loss_over_norm",
        merge: Merge = "product",
        inside: str | Mapping[str, Any] | Weighting = "mgda",
    ) -> None:
        super().__init__()
        for key, value, low, high in (("rho", rho, 0.0, np.inf), ("beta", beta, 0.0, 1.0)):
            if not (np.isfinite(value) and low <= value <= high):
                raise WeightingError(f"emtl: {key} must be in [{low:g}, {high:g}], finite, got {value!r}")
        for key, value in (("eta", eta), ("clip", clip)):
            if not (np.isfinite(value) and value > 0):
                raise WeightingError(f"emtl: {key} must be positive and finite, got {value!r}")
        for key, form, forms in (("rate", rate, get_args(Rate)), ("merge", merge, get_args(Merge))):
            if form not in forms:
                raise WeightingError(f"emtl: {key} must be one of {', '.join(forms)}, got {form!r}")
        self.rho, self.beta, self.eta, self.clip = float(rho), float(beta), float(eta), float(clip)
        self.rate, self.merge = rate, merge
        self.inside = _weighting(inside)
        self.kernel = _around(self.inside.kernel)
        self.positive = self.inside.positive

    def __getstate__(self) -> dict[str, Any]:
        """Without the kernel: a pickled one would be compiled anew, with all that it calls."""
        return {key: value for key, value in self.__dict__.items() if key != "kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.kernel = _around(self.inside.kernel)

    @classmethod
    def grid(cls, *, rhos: Sequence[float] = RHOS, betas: Sequence[float] = (0.0, 0.5)) -> list[EMTL]:
        """One EMTL for each ρ and β, to compare; the paper's own grid by default.

        Differs: the paper names ρ's values, and "[0, 0.5]" for β, which may be two values or an interval.
        """
        return [cls(rho=rho, beta=beta) for rho in rhos for beta in betas]

    def explain(self, losses: Floats, gramian: Floats, present: Mask | None = None) -> Explanation:
        """What a call with these losses (T,), gramian (T, T) and present (T,) would do, without doing it.

        Raises: as a call does.
        """
        losses, gramian, present = self._checked(losses, gramian, present, steps=0)
        begun, calls = self._state, self._calls
        state, draws = self._begun(len(losses)).copy(), self._drawn(1, len(losses))[0]
        self._state, self._calls = begun, calls
        constants = self.constants()
        inner = (constants[_OWN:], state[1:].copy(), draws)
        alpha = self.inside.kernel(losses, gramian, present, *inner)
        rates = relative_rates(alpha, losses, gramian, present, constants[4])
        log_p = state[0].copy()
        dual = moved(rates, present, constants, log_p)
        weights = self.kernel(losses, gramian, present, constants, state.copy(), draws)
        return Explanation(alpha, rates, shares(state[0], present), shares(log_p, present), dual, weights)

    def constants(self) -> Floats:
        """ρ, η, β, clip, the places of rate and merge; then those of the method inside."""
        forms = get_args(Rate).index(self.rate), get_args(Merge).index(self.merge)
        return np.concatenate([[self.rho, self.eta, self.beta, self.clip, *forms], self.inside.constants()])

    def initial_state(self, tasks: int) -> Floats:
        """(1 + R, T): log p of equal probabilities; then the state of the method inside."""
        return np.concatenate([uniform(tasks), self.inside.initial_state(tasks)])

    def notes(self, tasks: int) -> tuple[str, ...]:
        """That ρ does not constrain p, where so; then the notes of the method inside."""
        return notes_where_idle(self.name, self.rho, tasks) + self.inside.notes(tasks)

    def draws(self, tasks: int) -> int:
        """As many as the method inside reads."""
        return self.inside.draws(tasks)

    def prepare(self, classes: Sequence[int]) -> None:
        """Passed on to the method inside."""
        self.inside.prepare(classes)

    def introduce(self, names: Sequence[str]) -> None:
        """Passed on to the method inside."""
        self.inside.introduce(names)

    def settings(self) -> dict[str, Any]:
        """The constants, rate, merge, and the method inside: by name, with its settings where it has others."""
        name, settings = self.inside.name, self.inside.settings()
        plain = type(self.inside) is METHODS.get(name) and settings == named(name).settings()
        inside = name if plain else {"name": name, **settings}
        constants = {"rho": self.rho, "beta": self.beta, "eta": self.eta, "clip": self.clip}
        return {**constants, "rate": self.rate, "merge": self.merge, "inside": inside}


def _weighting(inside: str | Mapping[str, Any] | Weighting) -> Weighting:
    """The method inside, checked."""
    if isinstance(inside, str):
        method: Any = named(inside)
    elif isinstance(inside, Mapping) and isinstance(inside.get("name"), str):
        method = type(named(inside["name"]))(**{key: value for key, value in inside.items() if key != "name"})
    else:
        method = inside
    if not isinstance(method, Weighting):
        raise WeightingError(f"emtl: inside must be a Gramian method, its name, or its settings, got {inside!r}")
    if more := method.needs - {"losses", "gramian"}:
        raise WeightingError(f"emtl: {method.name} cannot be inside, since it needs {', '.join(sorted(more))}")
    return method
