"""What a two-objective problem of the plane knows: its losses, its Pareto set and front, and its best average."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from mtlviz.errors import ParetoError
from mtlviz.pareto.kernels import PLANE, evaluated
from mtlviz.runlog.records import Floats

Range = tuple[float, float]

FRONT_POINTS = 2001
_ZOOMS, _ZOOMED = 6, 201  # each zoom narrows the search for a minimum a hundredfold
_UNSCALED = ("pareto_set", "front", "best_average")  # what does not depend on the scale, where it was found already
_TIE = 1e-9  # of the spread along the front: minima that differ by less are equally good
_AT_ONCE = 256  # points whose distance to the front is taken together, some 30 MB


@dataclass(frozen=True, eq=False)
class Landscape:
    """The losses on a grid of the plane that is shown, each in its own units.

    x1 (n,), x2 (n,), losses (n, n, 2): losses[i, j] belongs to (x1[j], x2[i]).
    """

    x1: Floats
    x2: Floats
    losses: Floats


@dataclass(frozen=True, kw_only=True)
class Objectives(ABC):
    """Two losses on the plane of two parameters; a method sees scale_t · L_t(x) + offset.

    A loss in its own units is L_t, before scale and offset. The Pareto set and front do not depend on the scale, and
    front, best average and distances are in own units, so that runs with different scales can be compared.

    A problem of your own is a subclass, also decorated with `dataclass(frozen=True, kw_only=True)`, with the class
    attributes name, title, bounds ((low, high) of x1 and of x2), usual_starts (N points) and kernel, a `staticmethod`
    of a function (x (2,), constants (C,), losses (2,), gradients (2, 2)) -> None that writes the last two and is
    decorated with `mtlviz.pareto.kernels.plane_kernel`; with `set_at`, and `constants` where the kernel reads any.

    scale: the factor of each loss, two positive numbers. offset: what is added to both, for methods that need positive
    losses; gradients do not change with it.

    Raises: ParetoError for a scale that is not two positive finite numbers, or an offset that is not finite; where a
    subclass is defined without one of these attributes, or with a kernel that is not compiled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kernel: ClassVar[Any]
    """Of the signature `mtlviz.pareto.kernels.PLANE`, and compiled."""
    bounds: ClassVar[tuple[Range, Range]]
    """The plane that is shown: the range of x1 and that of x2."""
    usual_scale: ClassVar[tuple[float, float]] = (1.0, 1.0)
    """The scale that `descend` takes for this problem unless told otherwise."""
    usual_starts: ClassVar[tuple[tuple[float, float], ...]]

    scale: tuple[float, float] = (1.0, 1.0)
    offset: float = 0.0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        missing = [name for name in ("name", "title", "bounds", "usual_starts", "kernel") if not hasattr(cls, name)]
        if missing:
            raise ParetoError(f"the problem {cls.__name__} needs {', '.join(missing)} in the body of its class")
        if PLANE not in getattr(cls.kernel, "nopython_signatures", ()):
            raise ParetoError(
                f"the kernel of the problem {cls.__name__} is not compiled: decorate it with "
                "mtlviz.pareto.kernels.plane_kernel, and name it in the class as staticmethod(kernel)"
            )

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _two_positive("scale", self.scale))
        object.__setattr__(self, "offset", checked_number("offset", self.offset))

    def constants(self) -> Floats:
        """What the kernel reads beside the point (C,)."""
        return np.empty(0)

    @abstractmethod
    def set_at(self, t: Floats) -> Floats:
        """Points (n, 2) of the Pareto set at t (n,) in [0, 1]: 0 is the first loss's minimum, 1 the second's."""

    @property
    def starts(self) -> Floats:
        """The usual starts (N, 2)."""
        return np.array(self.usual_starts)

    def scaled(self, scale: Sequence[float], offset: float = 0.0) -> Self:
        """The same problem with another scale of each loss and another offset. Raises: as the class does."""
        other = replace(self, scale=_two_positive("scale", scale), offset=offset)
        known = {name: self.__dict__[name] for name in _UNSCALED if name in self.__dict__}
        other.__dict__.update(known)  # the front takes some milliseconds, and does not change
        return other

    def losses(self, x: Any) -> Floats:
        """The losses (..., 2) at x (..., 2) as methods see them, scaled and with the offset.

        Raises: ParetoError for points without two coordinates each.
        """
        return self.own_losses(x) * np.array(self.scale) + self.offset

    def own_losses(self, x: Any) -> Floats:
        """The losses (..., 2) at x (..., 2), each in its own units. Raises: as `losses` does."""
        return evaluated(self.kernel, self.constants(), points(x))[0]

    def gradients(self, x: Any) -> Floats:
        """The gradients (..., 2, 2) of `losses` at x (..., 2), a row a loss. Raises: as `losses` does."""
        return evaluated(self.kernel, self.constants(), points(x))[1] * np.array(self.scale)[:, None]

    @cached_property
    def pareto_set(self) -> Floats:
        """Points (2001, 2) of the Pareto set, from the first loss's minimum to the second's; not to be changed."""
        return _kept(self.set_at(np.linspace(0.0, 1.0, FRONT_POINTS)))

    @cached_property
    def front(self) -> Floats:
        """The Pareto front (2001, 2): the own losses of `pareto_set`; not to be changed."""
        return _kept(self.own_losses(self.pareto_set))

    @cached_property
    def best_average(self) -> Floats:
        """The points (K, 2) with the least mean of the own losses, whatever the scale; K > 1 where several tie."""
        return _kept(self.minimisers((1.0, 1.0)))

    def minimisers(self, weights: Sequence[float]) -> Floats:
        """The points (K, 2) of the Pareto set with the least Σ weights_t L_t, where equal weights at that scale go.

        weights: two positive numbers. Raises: ParetoError for others.
        """
        factors = np.array(_two_positive("weights", weights))
        t = np.linspace(0.0, 1.0, FRONT_POINTS)
        values = self.front @ factors
        padded = np.concatenate([[np.inf], values, [np.inf]])
        lowest = np.flatnonzero((values <= padded[:-2]) & (values <= padded[2:]))
        around = zip(t[np.maximum(lowest - 1, 0)], t[np.minimum(lowest + 1, FRONT_POINTS - 1)], strict=True)
        found = [self._least(factors, float(low), float(high)) for low, high in around]
        least = min(value for _, value in found)
        ties = [place for place, value in found if value - least <= _TIE * np.ptp(values)]
        return self.set_at(np.unique(np.round(np.array(ties), 12)))

    def distance_to_front(self, own_losses: Floats) -> Floats:
        """How far (...) own losses (..., 2) lie from the front, in the plane of the own losses; NaN stays NaN."""
        flat = np.asarray(own_losses, dtype=np.float64).reshape(-1, 1, 2)
        begin, along = self.front[:-1], np.diff(self.front, axis=0)
        length = np.maximum((along**2).sum(axis=1), 1e-300)
        distance = np.empty(len(flat))
        for first in range(0, len(flat), _AT_ONCE):
            away = flat[first : first + _AT_ONCE] - begin
            share = np.clip((away * along).sum(axis=2) / length, 0.0, 1.0)
            away -= share[..., None] * along
            distance[first : first + _AT_ONCE] = np.hypot(away[..., 0], away[..., 1]).min(axis=1)
        return distance.reshape(np.shape(own_losses)[:-1])

    def distance_to_best(self, x: Floats) -> Floats:
        """How far (...) points (..., 2) of the plane lie from the nearest best-average point."""
        away = np.asarray(x)[..., None, :] - self.best_average
        return np.hypot(away[..., 0], away[..., 1]).min(axis=-1)

    def gap(self, own_losses: Floats) -> Floats:
        """How far (...) the mean of own losses (..., 2) lies above the best average's."""
        return np.asarray(own_losses).mean(axis=-1) - self.own_losses(self.best_average).mean(axis=-1).min()

    def landscape(self, size: int = 120) -> Landscape:
        """The own losses on a grid of size × size points over `bounds`. Raises: ParetoError for a size below 2."""
        if not (isinstance(size, (int, np.integer)) and size >= 2):
            raise ParetoError(f"size must be a whole number from 2 up, got {size!r}")
        x1, x2 = (np.linspace(low, high, size) for low, high in self.bounds)
        return Landscape(x1, x2, self.own_losses(np.stack(np.meshgrid(x1, x2), axis=-1)))

    def _least(self, factors: Floats, low: float, high: float) -> tuple[float, float]:
        """The t between low and high with the least Σ factors_t L_t, and that value."""
        place, value = low, np.inf
        for _ in range(_ZOOMS):
            t = np.linspace(low, high, _ZOOMED)
            values = self.own_losses(self.set_at(t)) @ factors
            best = int(np.argmin(values))
            place, value = float(t[best]), float(values[best])
            low, high = float(t[max(best - 1, 0)]), float(t[min(best + 1, _ZOOMED - 1)])
        return place, value


def points(x: Any) -> Floats:
    """Points (..., 2) of the plane. Raises: ParetoError for numbers that are not pairs."""
    try:
        array = np.require(x, np.float64, ["C", "W"])  # as kernels take them; pandas hands out arrays to be read only
    except (TypeError, ValueError) as error:
        raise ParetoError(f"points of the plane are pairs of numbers (..., 2); came {x!r}") from error
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ParetoError(f"points of the plane have two coordinates, (..., 2); came the shape {array.shape}")
    return array


def checked_number(name: str, value: Any) -> float:
    """The value as a float. Raises: ParetoError, with this name, for something that is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ParetoError(f"{name} needs a number; came {value!r}") from error
    if not np.isfinite(number):
        raise ParetoError(f"{name} needs a finite number; came {value!r}")
    return number


def _two_positive(name: str, values: Any) -> tuple[float, float]:
    try:
        numbers = tuple(float(number) for number in values) if not isinstance(values, str) else ()
    except (TypeError, ValueError) as error:
        raise ParetoError(f"{name} needs two positive numbers, one a loss; came {values!r}") from error
    if len(numbers) != 2:
        raise ParetoError(f"{name} needs two numbers: the plane has two objectives; came {len(numbers)}: {values!r}")
    if not all(np.isfinite(number) and number > 0 for number in numbers):
        raise ParetoError(f"{name} needs positive finite numbers, one a loss; came {values!r}")
    return numbers


def _kept(array: Floats) -> Floats:
    """The array, read-only: what is computed once serves every descent on the problem."""
    array.flags.writeable = False
    return array
