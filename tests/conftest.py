"""Settings and the one browser that all tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

import tests.strategies  # noqa: F401  registers the hypothesis profile, also for tests that use none of them

torch.set_num_threads(1)  # the models here are tiny, and a second thread would only wait for the browser's cores

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium_path() -> str:
    """Where Chromium is.

    Raises: RuntimeError, with what to install, on a machine without it.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        raise RuntimeError(
            "The browser tests need Chromium and found neither `chromium` nor `chromium-browser` on the PATH. "
            "Install it (on Debian: `apt-get install chromium`) and run the tests again."
        )
    return executable


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, started by the first test that asks for it: playwright can be started once a process only.

    From then on playwright's event loop runs in the main thread: a test that needs another takes another thread.
    """
    executable = chromium_path()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS, timeout=60_000)
        try:
            yield running
        finally:
            running.close()
