"""Text as whole numbers: word and character n-grams, each hashed to a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 4096  # ids 0 to 4095; 0 is padding
LENGTH = 64  # n-grams that are kept of a listing
_CHUNK = 1024  # listings that are compared at a time


def characters(word: str) -> list[str]:
    """Every 3 characters in a row of a word with its ends marked, as "#<ke"."""
    marked = f"<{word}>"
    return [f"#{marked[i : i + 3]}" for i in range(len(marked) - 2)]


def bucket(gram: str) -> int:
    """The bucket of an n-gram, 1 to 4095: its CRC-32 of UTF-8, the same on every machine."""
    return 1 + crc32(gram.encode()) % (BUCKETS - 1)


def hashed(titles: Sequence[str], attributes: Sequence[str]) -> NDArray[np.int16]:
    """The buckets (N, LENGTH) of the n-grams of N listings: each bucket once, the telling ones first, the rest is 0.

    First the words of the title and of each attribute (those end at "; "), then the pairs of words of each, then every
    3 characters of each word of the title, as "#<ke" of "<kettle>".
    """
    ids = np.zeros((len(titles), LENGTH), np.int16)
    known, spelled, field_ids = _Buckets(), _Spelled(), _Fields()
    for row, (title, attribute) in enumerate(zip(titles, attributes, strict=True)):
        words = title.split()
        fields = [field_ids[field] for field in attribute.split("; ")]
        once = dict.fromkeys([known[word] for word in words])
        for singles, _ in fields:
            once |= singles
        once |= dict.fromkeys([known[f"{a} {b}"] for a, b in pairwise(words)])
        for _, couples in fields:
            once |= couples
        for word in words:
            if len(once) >= LENGTH:
                break
            once |= spelled[word]
        kept = list(once)[:LENGTH]
        ids[row, : len(kept)] = kept
    return ids


def compared(first: NDArray[np.int16], second: NDArray[np.int16]) -> NDArray[np.int16]:
    """What two listings (N, L) each have alone and what they share: ids (N, 3, L), 0 where a bag has no n-gram.

    Without a second listing (all 0) everything is the first one's alone.
    """
    bags = np.zeros((len(first), 3, first.shape[1]), np.int16)
    for start in range(0, len(first), _CHUNK):
        a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
        in_first, in_second = _has(a, b), _has(b, a)
        bags[start : start + _CHUNK] = np.stack(
            [np.where(in_second, 0, a), np.where(in_first, 0, b), np.where(in_second, a, 0)], axis=1
        )
    return bags


def _has(listings: NDArray[np.int16], asked: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which of the ids asked for (N, L) the listings (N, L) have."""
    there = np.zeros((len(listings), BUCKETS), bool)
    rows = np.arange(len(listings))[:, None]
    there[rows, listings] = True
    return there[rows, asked]


_Ordered = dict[int, None]  # buckets, each once, in order


class _Buckets(dict[str, int]):
    """Buckets that were asked for before are looked up, and so are those of whole words and fields below."""

    def __missing__(self, gram: str) -> int:
        self[gram] = value = bucket(gram)
        return value


class _Spelled(dict[str, _Ordered]):
    """The buckets of a word's characters."""

    def __missing__(self, word: str) -> _Ordered:
        self[word] = value = dict.fromkeys(map(bucket, characters(word)))
        return value


class _Fields(dict[str, tuple[_Ordered, _Ordered]]):
    """The buckets of an attribute's words and of its pairs of words."""

    def __missing__(self, field: str) -> tuple[_Ordered, _Ordered]:
        words = field.split()
        couples = dict.fromkeys(bucket(f"{a} {b}") for a, b in pairwise(words))
        self[field] = value = dict.fromkeys(map(bucket, words)), couples
        return value
