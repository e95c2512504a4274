"""Fixtures of the browser tests: one JupyterLab a session, one notebook a test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from lab import Lab
from notebook_page import Notebook
from playwright.sync_api import Browser

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Notes a failed test, so that `notebook` can leave a screenshot of it."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Lab]:
    """A running JupyterLab; it and all its kernels are ended by process id at the end."""
    running = Lab(tmp_path_factory.mktemp("lab"), browser)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Notebook]]:
    """Opens notebooks, `notebook(cells, width=1200, height=900) -> Notebook`; `notebook_page.py` says what one can do.

    At the end each page must have kept to 127.0.0.1 and logged no error of ours. A failed test leaves
    shots/failed_<test>.png.
    """
    books: list[Notebook] = []
    name = re.sub(r"\W+", "_", request.node.name)

    def open_notebook(cells: Sequence[str], *, width: int = 1200, height: int = 900) -> Notebook:
        books.append(lab.open(cells, name=f"{name}_{len(books)}", width=width, height=height))
        return books[-1]

    yield open_notebook
    try:
        for book in books:
            if request.node.stash.get(FAILED, False) and not book.page.is_closed():
                book.screenshot(f"failed_{name}")
            book.check()
    finally:
        for book in books:
            book.close()
