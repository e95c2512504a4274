"""The exact accuracy of a linear classifier on a Gaussian cloud whose labels a line decides."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, owens_t

from mtlviz.runlog.records import Floats

_NOTHING = 1e-300  # instead of 0, where only a limit is defined
_ALIKE = 1.0 - 1e-15  # the largest correlation; with 1 the two lines are one


def cloud_accuracy(centre: Floats, covariance: Floats, normal: Floats, weights: Floats, intercept: Floats) -> Floats:
    """P(⟨w, x⟩ + c and ⟨n, x⟩ have the same sign) for x ~ N(centre, covariance), by Owen's T function.

    centre (d,), covariance (d, d), normal n (d,): the cloud, and the boundary through the origin that decides its
    labels. weights w (..., d), intercept c (...): the classifiers; one of weights 0 says everywhere what its intercept
    says, which may be infinite.

    Returns: (...,). Source: Owen, Annals of Mathematical Statistics 27, 1956, eq. 2.1.
    """
    truth, spread = float(normal @ centre), float(np.sqrt(normal @ covariance @ normal))
    h = -truth / spread if truth else _NOTHING
    constant = np.asarray(~weights.any(axis=-1))
    w = np.where(constant[..., None], normal, weights)  # any direction: these are answered below
    scale = np.sqrt(np.einsum("...i,ij,...j", w, covariance, w))
    k = -(w @ centre + np.where(constant, 0.0, intercept)) / scale
    k = np.where(k == 0.0, _NOTHING, k)
    rho = np.clip((w @ covariance @ normal) / (scale * spread), -_ALIKE, _ALIKE)
    root = np.sqrt(1.0 - rho**2)
    tails = owens_t(h, (k / h - rho) / root) + owens_t(k, (h / k - rho) / root)
    opposite = np.where(np.signbit(h) != np.signbit(k), 0.5, 0.0)
    below = 0.5 * (ndtr(h) + ndtr(k)) - tails - opposite  # P(both say no)
    agree = np.clip(1.0 - ndtr(h) - ndtr(k) + 2.0 * below, 0.0, 1.0)
    return np.where(constant, np.where(intercept > 0, ndtr(-h), ndtr(h)), agree)
