"""The harness itself: what it says where it cannot work, and that it notices what it promises to notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from notebook_page import Notebook

from tests.conftest import chromium_path


def test_a_machine_without_chromium_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        chromium_path()


@pytest.mark.browser
def test_strange_requests_and_errors_fail_a_test(notebook: Callable[..., Notebook]) -> None:
    book = notebook(["40 + 2"])
    book.run(0)
    assert book.outputs(0)[0]["data"]["text/plain"] == "42"
    book.check()
    book.page.evaluate("() => fetch('http://mtlviz.invalid/').catch(() => null)")
    with pytest.raises(AssertionError, match=r"left the machine.*mtlviz\.invalid"):
        book.check()
    book.strangers.clear()
    book.errors.clear()
    book.page.evaluate("() => console.error('an error of ours')")
    book.pause(0.2)
    with pytest.raises(AssertionError, match="an error of ours"):
        book.check()
    book.errors.clear()
