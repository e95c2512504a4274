"""plotly.js from the installed plotly package, as views and static pages need it: no network, once a page."""

from __future__ import annotations

import gzip
import threading
from functools import cache

from plotly.offline import get_plotlyjs, get_plotlyjs_version

VERSION: str = get_plotlyjs_version()
"""The version of plotly.js that this kernel draws with."""

_lock = threading.Lock()
_brought: set[str] = set()


@cache
def gzipped() -> bytes:
    """plotly.js, compressed: 1.5 MB instead of 4.8 MB."""
    return gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)


def first(kind: str) -> bool:
    """True for one caller of this kind in the life of this kernel: the one that brings the library unasked."""
    with _lock:
        brings = kind not in _brought
        _brought.add(kind)
    return brings
