"""The README's Python, run from top to bottom as a new user would, with fewer steps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readmes_code_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 11
    code = "\n".join(blocks).replace("data_samples/", f"{ROOT}/data_samples/")
    code, shortened = re.subn(r"steps=(2000|300)\b", "steps=40", code)
    assert shortened == 6
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rare" in done.stdout
    assert (tmp_path / "exported").is_dir()


def test_every_path_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert links
    assert all((ROOT / link).exists() for link in links), links
