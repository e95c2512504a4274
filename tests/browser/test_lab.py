"""The harness itself: what it says where it cannot work."""

import pytest
from lab import Lab


def test_a_machine_without_chromium_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        Lab(tmp_path, playwright=None)
