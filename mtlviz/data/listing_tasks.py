"""What is asked of made product listings: which listings a task sees, and the right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlviz.data.catalogue import FAMILIES, SELLERS, VARIANTS, Catalogue, Ints
from mtlviz.data.vocabulary import ATTRIBUTES, CHAPTERS, DEPARTMENTS, MATERIAL_NAMES, NOUN_PARTS, NOUNS, STYLES

# How the pairs of a task are made up. same: two sellers of one product. near, far: another style, hardly or clearly
# different; pack, size, both: another quantity, size or both. sibling: another family of the brand. rival: the other
# brand's. stranger: any two products.
PAIRS: Mapping[str, Mapping[str, float]] = {
    "dedup": {
        **{"same": 0.35, "near": 0.1, "far": 0.05, "pack": 0.1, "size": 0.1},
        **{"sibling": 0.15, "rival": 0.1, "stranger": 0.05},
    },
    "pd_1": {"pack": 0.2, "size": 0.15, "both": 0.05, "near": 0.15, "far": 0.15, "sibling": 0.2, "rival": 0.1},
    "pd_2": {"near": 0.2, "far": 0.2, "pack": 0.15, "size": 0.15, "sibling": 0.2, "rival": 0.1},
    "var": {
        **{"near": 0.1, "far": 0.1, "pack": 0.1, "size": 0.1, "both": 0.05},
        **{"same": 0.1, "sibling": 0.25, "rival": 0.15, "stranger": 0.05},
    },
    "sims": {"far": 0.1, "sibling": 0.2, "rival": 0.3, "stranger": 0.4},
}
POSITIVE = {
    "dedup": {"same"},
    "pd_1": {"pack", "size", "both"},
    "pd_2": {"near", "far"},
    "var": {"near", "far", "pack", "size", "both"},
}
_VARIANTS = {"near": (0, 1), "far": (0, 2), "pack": (0, 3), "size": (0, 4), "both": (3, 4)}

_DEPARTMENT = np.array([list(DEPARTMENTS).index(CHAPTERS[n // 3][1]) for n in range(len(NOUNS))])
_FIRST_COLOUR = len(NOUNS) * NOUN_PARTS
_FIRST_MATERIAL = _FIRST_COLOUR + len(STYLES["colour"])
_FIRST_FEATURE = _FIRST_MATERIAL + len(MATERIAL_NAMES)


@dataclass(frozen=True)
class PairRows:
    """Listings (N,) on either side, and by which of `PAIRS` the pair was made."""

    left: Ints
    right: Ints
    made: NDArray[np.str_]


def pairs(task: str, products: Catalogue, count: int, rng: np.random.Generator) -> PairRows:
    """So many pairs for a task, in the mix of `PAIRS`."""
    names, shares = list(PAIRS[task]), list(PAIRS[task].values())
    made = np.array(names)[rng.choice(len(names), count, p=np.array(shares) / sum(shares))]
    family = rng.integers(0, products.families, count)
    variant = rng.integers(0, VARIANTS, count)
    other_family, left_variant, right_variant = family.copy(), variant.copy(), variant.copy()
    for name, (left, right) in _VARIANTS.items():
        left_variant[made == name], right_variant[made == name] = left, right
    other_family[made == "sibling"] ^= 1
    other_family[made == "rival"] ^= 2
    strangers = made == "stranger"
    apart = rng.integers(1, products.families // FAMILIES, count) * FAMILIES  # never the same cluster
    other_family[strangers] = (family + apart)[strangers] % products.families
    right_variant[strangers] = rng.integers(0, VARIANTS, count)[strangers]
    seller = rng.integers(0, SELLERS, count)
    other_seller = np.where(made == "same", 1 - seller, rng.integers(0, SELLERS, count))
    first = (family * VARIANTS + left_variant) * SELLERS + seller
    second = (other_family * VARIANTS + right_variant) * SELLERS + other_seller
    swapped = rng.random(count) < 0.5
    return PairRows(np.where(swapped, second, first), np.where(swapped, first, second), made)


def similarity(rows: PairRows, products: Catalogue) -> NDArray[np.float64]:
    """How similar the products of pairs are to those who buy them, 0.08 to 1: what both have in common, summed."""
    a, b = _family(rows.left), _family(rows.right)
    p = products
    common = p.features[a][:, :, None] == p.features[b][:, None, :]
    return (
        0.08
        + 0.30 * (p.noun[a] == p.noun[b])
        + 0.22 * (p.kind[a] == p.kind[b])
        + 0.12 * (_DEPARTMENT[p.noun[a]] == _DEPARTMENT[p.noun[b]])
        + 0.10 * (p.brand[a] == p.brand[b])
        + 0.08 * (p.material[a] == p.material[b])
        + 0.10 * common.any(axis=(1, 2))
    )


def singles(task: str, products: Catalogue, count: int, rng: np.random.Generator) -> Ints:
    """So many listings (N,) for a task, each once where there are enough; for uomi a third of each unit."""
    listings = len(products.style) * SELLERS
    weights = np.ones(listings)
    if task == "uomi":
        unit = products.unit[_family(np.arange(listings))]
        weights = 1 / np.bincount(unit, minlength=3)[unit]
    weights /= weights.sum()
    return rng.choice(listings, count, replace=bool(count > listings // 3), p=weights)


def classes(task: str, listings: Ints, products: Catalogue) -> Ints:
    """The class (N,) of listings: unit (uomi), tariff class (tc) or product type (ptc)."""
    of_family = {"uomi": products.unit, "tc": products.tariff, "ptc": products.kind}[task]
    return of_family[_family(listings)]


def attributes(listings: Ints, products: Catalogue) -> NDArray[np.bool_]:
    """Which of the 1359 attributes listings have, (N, 1359): parts, the colour, the material and two features."""
    family, product = _family(listings), listings // SELLERS
    has = np.zeros((len(listings), len(ATTRIBUTES)), bool)
    rows = np.arange(len(listings))[:, None]
    has[rows, products.noun[family][:, None] * NOUN_PARTS + products.parts()[family]] = True
    coloured = np.flatnonzero(products.style_kind[family] == list(STYLES).index("colour"))
    has[coloured, _FIRST_COLOUR + products.style[product[coloured]]] = True
    has[rows[:, 0], _FIRST_MATERIAL + products.material[family]] = True
    has[rows, _FIRST_FEATURE + products.features[family]] = True
    return has


def _family(listings: Ints) -> Ints:
    return listings // (SELLERS * VARIANTS)
