"""Files of checkpoints: whole or not there, and what is damaged, foreign or cannot be written is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.errors import RunLogError
from mtlviz.training.checkpoints import InFolder
from tests.training.resumed import assert_same_state

ROOT = Path(__file__).parents[2]


class _Other:
    pass


MOMENTS = (("fsync", 9), ("replace", 9), ("replace", 5))
KILLED = """
import os, signal, sys, torch
from pathlib import Path
from mtlviz.training.checkpoints import InFolder
torch.set_num_threads(1)
for number in range(len(sys.argv[2:]) // 2):
    moment, step = sys.argv[2 + 2 * number : 4 + 2 * number]
    child = os.fork()
    if child == 0:
        folder = Path(sys.argv[1], str(number))
        folder.mkdir()
        kept = InFolder(folder, tasks=["a"])
        kept.save(0, {"x": torch.zeros(1000)})
        kept.save(5, {"x": torch.ones(1000)})
        setattr(os, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        kept.save(int(step), {"x": torch.full((1000,), 2.0)})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_kill_while_one_is_written_leaves_those_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), *(str(word) for moment in MOMENTS for word in moment)]
    said = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True).stdout
    assert said.split() == [str(-signal.SIGKILL)] * len(MOMENTS)
    for number in range(len(MOMENTS)):
        kept = InFolder(tmp_path / str(number), tasks=["a"])
        assert kept.steps() == [0, 5]
        assert torch.equal(kept.load(5)["x"], torch.ones(1000))
        assert len(list(kept.folder.iterdir())) == 3, "the draft is still there"
        kept.prune([5])
        assert [path.name for path in kept.folder.iterdir()] == ["step-000000005.pt"]


@settings(max_examples=300)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
def test_a_damaged_file_is_named_and_never_taken_for_numbers(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, cut: bool
) -> None:
    kept = InFolder(tmp_path_factory.getbasetemp(), tasks=["a"])
    state = {"x": torch.randn(20, 10, generator=torch.Generator().manual_seed(0)), "y": [1.5, "text", {3: None}]}
    kept.save(1, state)
    data = bytearray(kept.path(1).read_bytes())
    place = int(where * len(data))
    data[place] ^= 1 << bit
    kept.path(1).write_bytes(data[:place] if cut else data)
    try:
        assert_same_state(kept.load(1), state)  # bits that mean nothing, as in the padding
        assert not cut
    except RunLogError as error:
        assert str(kept.path(1)) in str(error)  # noqa: PT017 - either outcome is fine, other numbers are not


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    kept = InFolder(tmp_path, tasks=["a"])
    assert kept.steps() == []
    with pytest.raises(RunLogError, match=r"step-000000003\.pt: No such file"):
        kept.load(3)
    kept.save(3, {})
    torch.save({"weights": torch.ones(2)}, kept.path(3))
    with pytest.raises(RunLogError, match=r"step-000000003\.pt: it was not written by mtlviz"):
        kept.load(3)
    torch.save(_Other(), kept.path(3))
    with pytest.raises(RunLogError, match=r"step-000000003\.pt: it is damaged"):
        kept.load(3)


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from mtlviz.errors import RunLogError
from mtlviz.training.checkpoints import InFolder
kept = InFolder(Path(sys.argv[1]), tasks=["a"])
kept.save(5, {"x": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
for save in (lambda: kept.save(5, {"x": torch.zeros(9000)}), lambda: kept.save_soft("a", 5, torch.zeros(9000))):
    try:
        save()
    except RunLogError as error:
        print(error)
"""


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True).stdout
    assert f"Could not write {tmp_path}/checkpoints/step-000000005.pt: File too large." in said
    assert f"Could not write {tmp_path}/checkpoints/soft-0-000000005.pt: File too large." in said
    kept = InFolder(tmp_path, tasks=["a"])
    assert torch.equal(kept.load(5)["x"], torch.ones(10))
    assert os.listdir(kept.folder) == ["step-000000005.pt"]


def test_a_folder_that_is_gone_or_a_file_is_told(tmp_path: Path) -> None:
    kept = InFolder(tmp_path / "gone", tasks=["a"])
    with pytest.raises(RunLogError, match=r"Could not write .*gone/checkpoints/step-000000001\.pt: No such file"):
        kept.save(1, {})
    (tmp_path / "checkpoints").write_text("mine")
    kept = InFolder(tmp_path, tasks=["a"])
    with pytest.raises(RunLogError, match=r"Could not read .*checkpoints: Not a directory"):
        kept.steps()
    with pytest.raises(RunLogError, match=r"Could not write .*step-000000001\.pt"):
        kept.save(1, {})
