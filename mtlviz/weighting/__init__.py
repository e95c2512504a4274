"""The weightings, by name; each is imported when it is first used."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

from mtlviz.errors import WeightingError, unknown

if TYPE_CHECKING:
    from mtlviz.gradients.adatask import AdaTask
    from mtlviz.gradients.graddrop import GradDrop
    from mtlviz.weighting.aligned_mtl import AlignedMTL
    from mtlviz.weighting.bandit_mtl import BanditMTL
    from mtlviz.weighting.cagrad import CAGrad
    from mtlviz.weighting.dualproj import DualProj
    from mtlviz.weighting.dwa import DWA
    from mtlviz.weighting.emtl import EMTL
    from mtlviz.weighting.equal import Equal
    from mtlviz.weighting.fairgrad import FairGrad
    from mtlviz.weighting.famo import FAMO
    from mtlviz.weighting.fixed import Fixed
    from mtlviz.weighting.gls import GLS
    from mtlviz.weighting.gradnorm import GradNorm
    from mtlviz.weighting.imtl_g import IMTLG
    from mtlviz.weighting.imtl_l import IMTLL
    from mtlviz.weighting.method import Method, Weighting
    from mtlviz.weighting.mgda import MGDA
    from mtlviz.weighting.mgda_ub import MGDAUB
    from mtlviz.weighting.muppet import Muppet
    from mtlviz.weighting.nash_mtl import NashMTL
    from mtlviz.weighting.pcgrad import PCGrad
    from mtlviz.weighting.rlw import RLW
    from mtlviz.weighting.si import SI
    from mtlviz.weighting.stch import STCH
    from mtlviz.weighting.uncertainty import UncertaintyWeighting
    from mtlviz.weighting.upgrad import UPGrad

_CLASSES = {
    "equal": "Equal",
    "si": "SI",
    "rlw": "RLW",
    "dwa": "DWA",
    "uncertainty": "UncertaintyWeighting",
    "muppet": "Muppet",
    "imtl_l": "IMTLL",
    "bandit_mtl": "BanditMTL",
    "gradnorm": "GradNorm",
    "famo": "FAMO",
    "gls": "GLS",
    "stch": "STCH",
    "mgda": "MGDA",
    "mgda_ub": "MGDAUB",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "imtl_g": "IMTLG",
    "nash_mtl": "NashMTL",
    "aligned_mtl": "AlignedMTL",
    "upgrad": "UPGrad",
    "dualproj": "DualProj",
    "fairgrad": "FairGrad",
    "emtl": "EMTL",
    "graddrop": "GradDrop",
    "adatask": "AdaTask",
}
_AGGREGATORS = ("graddrop", "adatask")  # they see the gradients themselves, and so need torch
_HOMES = {name: f"mtlviz.{'gradients' if name in _AGGREGATORS else 'weighting'}.{name}" for name in _CLASSES}
_MODULES = {  # what has no name among METHODS, since it cannot be made without arguments; then what has
    "Fixed": "mtlviz.weighting.fixed",
    "Method": "mtlviz.weighting.method",
    "Weighting": "mtlviz.weighting.method",
} | {_CLASSES[name]: home for name, home in _HOMES.items()}

__all__ = [
    "DWA",
    "EMTL",
    "FAMO",
    "GLS",
    "IMTLG",
    "IMTLL",
    "METHODS",
    "MGDA",
    "MGDAUB",
    "RLW",
    "SI",
    "STCH",
    "AdaTask",
    "AlignedMTL",
    "BanditMTL",
    "CAGrad",
    "DualProj",
    "Equal",
    "FairGrad",
    "Fixed",
    "GradDrop",
    "GradNorm",
    "Method",
    "Muppet",
    "NashMTL",
    "PCGrad",
    "UPGrad",
    "UncertaintyWeighting",
    "Weighting",
    "named",
]


class _Methods(Mapping[str, "type[Method]"]):
    """Method names to classes; importing one imports numba, so that waits for its first use."""

    def __getitem__(self, name: str) -> type[Method]:
        class_name = _CLASSES[name]  # before the import, so that an unknown name is a KeyError
        return getattr(_imported(_HOMES[name]), class_name)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)

    def __repr__(self) -> str:
        return f"METHODS({', '.join(_CLASSES)})"


_IMPORTING = RLock()

METHODS: Mapping[str, type[Method]] = _Methods()


def named(name: str) -> Method:
    """A fresh method with its default constants: a `Weighting`, or an aggregator for graddrop and adatask.

    Raises: WeightingError for an unknown name, listing the choices.
    """
    if name not in METHODS:
        raise WeightingError(unknown("weighting", name, METHODS))
    return METHODS[name]()


def _imported(module: str) -> Any:
    """The module; its kernels are compiled on the first import on this machine, which takes seconds and is said."""
    with _IMPORTING:  # sys.modules has a module that another thread is still importing, too
        if module in sys.modules:
            return sys.modules[module]
        from mtlviz.weighting.notice import compiling  # here, since it imports numba

        with compiling():
            return import_module(module)


def __getattr__(name: str) -> Any:
    """A class by its own name, such as `weighting.MGDA`."""
    if name in _MODULES:
        return getattr(_imported(_MODULES[name]), name)
    raise AttributeError(f"module 'mtlviz.weighting' has no attribute {name!r}")
