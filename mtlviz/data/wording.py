"""How sellers word a product: order, synonyms, omissions and typing errors, each listing in its own way."""

from __future__ import annotations

from itertools import compress

import numpy as np
from numpy.typing import NDArray

from mtlviz.data.catalogue import SELLERS, SIZE_KINDS, VARIANTS, Catalogue
from mtlviz.data.vocabulary import (
    BRANDS,
    FEATURES,
    FILLERS,
    MATERIAL_NAMES,
    PACK_WORDINGS,
    PACKS,
    SIZES,
    STYLES,
    parts_of,
    type_name,
)

Words = NDArray[np.object_]

# How often a seller writes a thing into the title, and into the attributes.
IN_TITLE = {"brand": 0.9, "series": 0.6, "material": 0.5, "style": 0.75, "size": 0.7, "pack": 0.8, "extra": 0.6}
IN_ATTRIBUTES = {"brand": 0.6, "series": 0.4, "material": 0.5, "style": 0.55, "size": 0.55, "pack": 0.5, "feature": 0.5}
TYPING_ERROR = 0.25  # of titles have one

ORDERS = (
    ("filler", "brand", "series", "kind", "material", "style", "size", "pack", "extra", "feature"),
    ("brand", "kind", "series", "size", "style", "material", "extra", "feature", "pack", "filler"),
    ("style", "kind", "brand", "series", "pack", "size", "feature", "material", "extra", "filler"),
    ("pack", "brand", "material", "kind", "extra", "series", "style", "size", "filler", "feature"),
    ("kind", "brand", "size", "pack", "style", "feature", "filler", "material", "series", "extra"),
    ("filler", "size", "style", "material", "kind", "extra", "brand", "series", "feature", "pack"),
)

_STYLE_WORDS = np.array([STYLES["colour"], STYLES["flavour"]], dtype=object)  # (2, 24, 2)
_SIZE_WORDS = np.array([SIZES[kind] for kind in SIZE_KINDS], dtype=object)  # (4, 6, 3)
_PACK_WORDS = np.array(
    [[words.format(n) if n > 1 else "" for words in PACK_WORDINGS] for n in PACKS], dtype=object
)  # (6, 5)
_TYPE_WORDS = np.array([type_name(k) for k in range(709)], dtype=object)
_EXTRA_WORDS = np.array([[f"with {part}" for part in parts_of(noun)] for noun in range(93)], dtype=object)
_BRAND_WORDS, _MATERIAL_WORDS = np.array(BRANDS, dtype=object), np.array(MATERIAL_NAMES, dtype=object)
_FEATURE_WORDS, _FILLER_WORDS = np.array(FEATURES, dtype=object), np.array(FILLERS, dtype=object)


def listings_of(products: Catalogue, rng: np.random.Generator) -> tuple[Words, Words]:
    """Title and attributes of every listing (2 a product, in the products' order): text arrays (2 P,).

    Attributes read "brand: ...; size: ..."; either may lack what the other says, and both may.
    """
    count = len(products.style) * SELLERS
    words = _words(products, count, rng)
    shown = {name: np.where(rng.random(count) < IN_TITLE.get(name, 1.0), words[name], "") for name in words}
    shown["filler"] = _FILLER_WORDS[rng.integers(0, len(FILLERS), count)]
    order, titles = rng.integers(0, len(ORDERS), count), np.empty(count, object)
    for number, names in enumerate(ORDERS):
        rows = np.flatnonzero(order == number)
        columns = [shown[name][rows] for name in names]
        titles[rows] = [" ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
    return _mistyped(titles, rng), _attributes(_words(products, count, rng), rng)


def _words(products: Catalogue, count: int, rng: np.random.Generator) -> dict[str, Words]:
    """What each seller calls each thing, in a wording of their own."""
    product = np.arange(count) // SELLERS
    family = product // VARIANTS
    p = products
    series = np.array([f"{chr(97 + n // 90)}{10 * (n % 90 + 10)}" for n in p.series.tolist()], dtype=object)
    feature = p.features[family, rng.integers(0, 2, count)]
    return {
        "brand": _BRAND_WORDS[p.brand[family]],
        "series": series[family],
        "kind": _TYPE_WORDS[p.kind[family]],
        "material": _MATERIAL_WORDS[p.material[family]],
        "style": _STYLE_WORDS[p.style_kind[family], p.style[product], _mostly_first(count, 2, rng)],
        "size": _SIZE_WORDS[p.size_kind[family], p.size[product], _mostly_first(count, 3, rng)],
        "pack": _PACK_WORDS[p.pack[product], _mostly_first(count, 5, rng)],
        "extra": _EXTRA_WORDS[p.noun[family], p.extra[family]],
        "feature": _FEATURE_WORDS[feature],
    }


def _mostly_first(count: int, wordings: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which wording each listing uses: half of them the usual one."""
    return np.where(rng.random(count) < 0.5, 0, rng.integers(0, wordings, count))


def _attributes(words: dict[str, Words], rng: np.random.Generator) -> Words:
    texts = np.empty(len(words["brand"]), object)
    names = list(IN_ATTRIBUTES)
    shares = np.array([IN_ATTRIBUTES[name] for name in names])
    given = rng.random((len(texts), len(names))) < shares
    columns = [[f"{name}: {word}" if word else "" for word in words[name]] for name in names]
    rows = zip(zip(*columns, strict=True), given.tolist(), strict=True)
    texts[:] = ["; ".join(filter(None, compress(fields, keep))) for fields, keep in rows]
    return texts


def _mistyped(titles: Words, rng: np.random.Generator) -> Words:
    """The titles, some with two letters of a word swapped, one left out or one doubled."""
    chosen = np.flatnonzero(rng.random(len(titles)) < TYPING_ERROR)
    draws = rng.random((len(chosen), 3))
    for row, (where, place, how) in zip(chosen.tolist(), draws.tolist(), strict=True):
        words = titles[row].split(" ")
        k = int(where * len(words))
        words[k] = _with_error(words[k], place, int(how * 3))
        titles[row] = " ".join(words)
    return titles


def _with_error(word: str, place: float, how: int) -> str:
    """A word of four letters or more with an error at a place in [0, 1); digits stay as they are."""
    if len(word) < 4 or not word.isalpha():
        return word
    i = int(place * (len(word) - 1))
    a, b = word[i], word[i + 1]
    return word[:i] + (b + a, b, a + a + b)[how] + word[i + 2 :]
