"""A made catalogue: brands' products in families of variants, as whole numbers that the vocabulary puts into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlviz.data.vocabulary import (
    BRANDS,
    CHAPTERS,
    FEATURES,
    MATERIAL_NAMES,
    NOUN_PARTS,
    NOUNS,
    PACKS,
    STYLES,
    TYPES,
    department_of,
)

Ints = NDArray[np.int64]

FAMILIES = 4  # a cluster: two brands with two families each, all of one noun; clusters never cross splits
VARIANTS = 5  # a family: its base, a near style, a far style, another pack, another size
SELLERS = 2  # listings a product

_STYLE_COUNT = len(STYLES["colour"])
_SIZE_COUNT = 6
_TYPE_OF = {noun_and_qualifier: number for number, noun_and_qualifier in enumerate(TYPES)}
_QUALIFIERS = np.array([sum((n, q) in _TYPE_OF for q in range(8)) for n in range(len(NOUNS))])
_TYPE_TABLE = np.array([[_TYPE_OF.get((n, q), -1) for q in range(8)] for n in range(len(NOUNS))])
_MATERIALS = np.array([[MATERIAL_NAMES.index(m) for m in materials.split()] for _, _, _, materials in CHAPTERS])
_UNIT = {"w": 0, "v": 1, "c": 2}
_UNIT_TABLE = np.array([[_UNIT[letter] for letter in department_of(n).sold_by] for n in range(len(NOUNS))])
SIZE_KINDS = ("letters", "length", "capacity", "weight")
_SIZE_KIND = np.array(
    [[[3, 2, SIZE_KINDS.index(department_of(n).sizes)][_UNIT_TABLE[n, q]] for q in range(8)] for n in range(len(NOUNS))]
)
_STYLE_KIND = np.array([list(STYLES).index(department_of(n).style) for n in range(len(NOUNS))])


@dataclass(frozen=True)
class Catalogue:
    """The products of one split: arrays over families (F,), and over products (5 F,) in families' order.

    noun, kind (product type), qualifier, brand, material, series: (F,). features (F, 2). extra: the part beyond those
    of its type that a family comes with. unit: what it is sold by. style, size, pack: (5 F,). Product p is of family
    p // 5; families 4 k to 4 k + 3 are a cluster: f ^ 1 is the same brand's other one, f ^ 2 the other brand's rival,
    which is of the same type where f is even.
    """

    noun: Ints
    kind: Ints
    qualifier: Ints
    brand: Ints
    material: Ints
    series: Ints
    features: Ints
    extra: Ints
    unit: Ints
    size_kind: Ints
    style_kind: Ints
    style: Ints
    size: Ints
    pack: Ints

    @property
    def families(self) -> int:
        """How many families there are."""
        return len(self.noun)

    @property
    def tariff(self) -> Ints:
        """The tariff class (F,) of each family: its noun's chapter and the kind of its material."""
        return self.noun // 3 * 3 + self.material // 5

    def parts(self) -> Ints:
        """The parts (F, 4) that come with a family, each 0 to 13: three of its type, and its own extra one."""
        of_type = (self.noun[:, None] + 3 * self.qualifier[:, None] + 5 * np.arange(3)) % NOUN_PARTS
        return np.concatenate([of_type, self.extra[:, None]], axis=1)


def catalogue(clusters: int, rng: np.random.Generator) -> Catalogue:
    """A catalogue of so many clusters of four families of five variants."""
    families = clusters * FAMILIES
    noun = np.repeat(rng.integers(0, len(NOUNS), clusters), FAMILIES)
    first, step = rng.random((2, clusters, 1))
    count = _QUALIFIERS[noun[::FAMILIES]][:, None]
    other = 1 + (step * (count - 1)).astype(np.int64)  # never the first again
    qualifier = ((first * count).astype(np.int64) + other * np.array([0, 1, 0, 1])) % count
    brands = (rng.integers(0, len(BRANDS), (clusters, 1)) + rng.integers(1, len(BRANDS), (clusters, 1)) * [0, 1]) % len(
        BRANDS
    )
    skew = np.array([0.36, 0.24, 0.18, 0.13, 0.09])  # how common each of a chapter's five materials is
    material = _MATERIALS[noun // 3, np.searchsorted(skew.cumsum(), rng.random(families) * 0.999)]
    features = rng.integers(0, len(FEATURES), families)
    second = (features + rng.integers(1, len(FEATURES), families)) % len(FEATURES)
    qualifiers = qualifier.reshape(-1)
    style, size, pack = _variants(clusters, rng)
    return Catalogue(
        noun=noun,
        kind=_TYPE_TABLE[noun, qualifiers],
        qualifier=qualifiers,
        brand=np.repeat(brands.reshape(-1), 2),
        material=material,
        series=rng.integers(0, 26 * 90, families),
        features=np.stack([features, second], axis=1),
        extra=rng.integers(0, NOUN_PARTS, families),
        unit=_UNIT_TABLE[noun, qualifiers],
        size_kind=_SIZE_KIND[noun, qualifiers],
        style_kind=_STYLE_KIND[noun],
        style=style,
        size=size,
        pack=pack,
    )


def _variants(clusters: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Style, size and pack of every product; families of a cluster mostly begin with the same ones."""
    families = clusters * FAMILIES
    bases = []
    for count in (_STYLE_COUNT, _SIZE_COUNT, len(PACKS)):
        own, common = rng.integers(0, count, families), np.repeat(rng.integers(0, count, clusters), FAMILIES)
        bases.append(np.repeat(np.where(rng.random(families) < 0.6, common, own)[:, None], VARIANTS, axis=1))
    style, size, pack = bases
    near = rng.integers(1, 3, families)
    style[:, 1] = style[:, 1] // 3 * 3 + (style[:, 1] + near) % 3
    style[:, 2] = (style[:, 2] + rng.integers(1, _STYLE_COUNT // 3, families) * 3) % _STYLE_COUNT
    pack[:, 3] = (pack[:, 3] + rng.integers(1, len(PACKS), families)) % len(PACKS)
    size[:, 4] = (size[:, 4] + rng.integers(1, _SIZE_COUNT, families)) % _SIZE_COUNT
    return style.reshape(-1), size.reshape(-1), pack.reshape(-1)
