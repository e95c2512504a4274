"""Hashed n-grams: by hand, and what two listings share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtlviz.data.ngrams import BUCKETS, LENGTH, bucket, characters, compared, hashed

TEXTS = st.text(alphabet="abc x:;", max_size=40)


def ngrams(title: str, attributes: str) -> Iterator[str]:
    """The n-grams of one listing, in order, said as plainly as can be."""
    texts = [title.split(), *(field.split() for field in attributes.split("; "))]
    yield from (word for text in texts for word in text)
    yield from (f"{a} {b}" for text in texts for a, b in pairwise(text))
    yield from (gram for word in texts[0] for gram in characters(word))


def test_the_n_grams_of_a_listing_by_hand() -> None:
    listing = "red mug x2", "style: red; size: m"
    grams = [
        *("red", "mug", "x2", "style:", "red", "size:", "m"),
        *("red mug", "mug x2", "style: red", "size: m"),
        *("#<re", "#red", "#ed>", "#<mu", "#mug", "#ug>", "#<x2", "#x2>"),
    ]
    assert list(ngrams(*listing)) == grams
    once = list(dict.fromkeys(map(bucket, grams)))
    assert len(once) == len(grams) - 1  # "red" stands there twice
    assert hashed(*([text] for text in listing))[0].tolist() == once + [0] * (LENGTH - len(once))
    assert not hashed([""], [""]).any()


def test_a_bucket_is_the_crc_32_of_its_text_and_never_padding() -> None:
    assert bucket("123456789") == 1 + 0xCBF43926 % 4095  # the check value that CRC-32 is known by
    assert {0 < bucket(f"word {n}") < BUCKETS for n in range(20_000)} == {True}


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_hashing_gives_each_bucket_once_in_the_order_of_the_n_grams(texts: list[tuple[str, str]]) -> None:
    ids = hashed([title for title, _ in texts], [attributes for _, attributes in texts])
    assert ids.shape == (len(texts), LENGTH)
    for row, (title, attributes) in zip(ids, texts, strict=True):
        once = list(dict.fromkeys(map(bucket, ngrams(title, attributes))))[:LENGTH]
        assert row.tolist() == once + [0] * (LENGTH - len(once))


def test_a_long_listing_loses_its_last_n_grams() -> None:
    words = [f"word{n}" for n in range(2 * LENGTH)]
    once = list(dict.fromkeys(map(bucket, words)))
    assert len(once) > LENGTH
    assert hashed([" ".join(words)], ["size: m"])[0].tolist() == once[:LENGTH]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_comparing_splits_two_listings_into_what_is_alone_and_what_is_shared(pairs: list[tuple[str, str]]) -> None:
    first, second = hashed([a for a, _ in pairs], [""] * len(pairs)), hashed([b for _, b in pairs], [""] * len(pairs))
    for a, b, (alone_a, alone_b, both) in zip(first, second, compared(first, second), strict=True):
        one, other = set(a.tolist()) - {0}, set(b.tolist()) - {0}
        assert set(alone_a.tolist()) - {0} == one - other
        assert set(alone_b.tolist()) - {0} == other - one
        assert set(both.tolist()) - {0} == one & other


def test_equal_texts_share_everything_and_one_listing_stands_alone() -> None:
    mug, empty = hashed(["red mug"], ["size: m"]), hashed([""], [""])
    same, alone = compared(mug, mug)[0], compared(mug, empty)[0]
    np.testing.assert_array_equal(same, [np.zeros(LENGTH), np.zeros(LENGTH), mug[0]])
    np.testing.assert_array_equal(alone, [mug[0], np.zeros(LENGTH), np.zeros(LENGTH)])
