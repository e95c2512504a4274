"""Files that were cut short or altered: what lies before the damage is kept, and nobody meets an Arrow traceback."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlviz.errors import RunLogError
from mtlviz.runlog import DamagedLogWarning, Event, RunLog
from tests.asserts import FRAMES
from tests.runlog.runs import INFO, filled, step, story

TABLE_FRAMES = {
    "steps": "steps",
    "layers": "layers",
    "validations": "validations",
    "events": "events",
    "measures": "measures",
}


class Recorded:
    """A run that was written in three batches, with the file sizes and the frames after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        records = story(12)
        third = len(records) // 3
        self.sizes: list[dict[str, int]] = []
        self.frames: list[dict[str, pd.DataFrame]] = []
        with RunLog.create(path, INFO) as log:
            self.keep(log)
            for begin in (0, third, 2 * third):
                filled(log, records[begin : begin + third] if begin < 2 * third else records[begin:])
                log.flush()
                self.keep(log)

    def keep(self, log: RunLog) -> None:
        self.sizes.append({file.name[:-11]: file.stat().st_size for file in self.path.glob("*.arrows")})
        self.frames.append({name: getattr(log, name) for name in FRAMES})

    def rows_within(self, table: str, offset: int) -> int:
        """How many rows of a table's frame lie in whole batches before an offset."""
        return max(
            (
                len(frames[table])
                for sizes, frames in zip(self.sizes, self.frames, strict=True)
                if sizes.get(table, 0) <= offset
            ),
            default=0,
        )

    def copy(self, path: Path) -> Path:
        shutil.copytree(self.path, path, dirs_exist_ok=True)
        return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("recorded") / "run")


def without_discarded(frame: pd.DataFrame) -> pd.DataFrame:
    """A rewind that was lost says nothing of what it discarded."""
    return frame.drop(columns=["discarded", "detail"], errors="ignore")


@pytest.mark.parametrize("table", sorted(TABLE_FRAMES))
def test_a_file_cut_at_any_byte_gives_its_whole_batches(recorded: Recorded, tmp_path: Path, table: str) -> None:
    path = recorded.copy(tmp_path / "run")
    file = path / f"{table}.000.arrows"
    data = file.read_bytes()
    borders = {sizes[table] for sizes in recorded.sizes if table in sizes}
    offsets = {
        *range(0, len(data), len(data) // 60),
        *(b + d for b in borders for d in (-1, 0, 1, 7, 8, 9) if b + d <= len(data)),
    }
    borders |= {len(pa.ipc.read_schema(file).serialize())}
    whole = without_discarded(recorded.frames[-1][table])
    for offset in sorted(offsets):
        file.write_bytes(data[:offset])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            log = RunLog.open(path)
            frame = without_discarded(getattr(log, table))
        rows = recorded.rows_within(table, offset)
        pd.testing.assert_frame_equal(frame, whole.iloc[:rows])
        if caught:
            (warning,) = caught
            assert warning.category is DamagedLogWarning
            assert str(file) in str(warning.message)
        else:
            assert offset == 0 or offset in borders


@settings(max_examples=200)
@given(st.sampled_from(sorted(TABLE_FRAMES)), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_gives_what_can_be_saved_or_a_clear_error(
    recorded: Recorded, tmp_path_factory: pytest.TempPathFactory, table: str, where: float, flip: int
) -> None:
    path = recorded.copy(tmp_path_factory.getbasetemp() / "flipped")
    file = path / f"{table}.000.arrows"
    data = bytearray(file.read_bytes())
    place = int(where * len(data))
    data[place] ^= flip
    file.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            log = RunLog.open(path)
        except RunLogError as error:
            assert str(file) in str(error)  # noqa: PT017 - either outcome is fine, a bare Arrow error is not
            return
        frame = getattr(log, table)
    assert {w.category for w in caught} <= {DamagedLogWarning}
    before = recorded.rows_within(table, place)
    whole = recorded.frames[-1][table]
    assert len(frame) >= before
    pd.testing.assert_frame_equal(without_discarded(frame.iloc[:before]), without_discarded(whole.iloc[:before]))
    if len(frame) < len(whole):
        assert caught, "rows are missing and nobody was told"


def test_no_altered_header_brings_the_process_down(recorded: Recorded, tmp_path: Path) -> None:
    """The bytes that say what kind of message it is and where its fields lie: pyarrow trusts them in some calls."""
    path = recorded.copy(tmp_path / "run")
    file = path / "measures.000.arrows"
    data = file.read_bytes()
    outcomes = set()
    for place in range(8, 64):
        for value in (0, 1, 2, 3, 255):
            file.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedLogWarning)
                try:
                    outcomes.add(len(RunLog.open(path).measures))
                except RunLogError:
                    outcomes.add(-1)
    assert {0, len(recorded.frames[-1]["measures"])} <= outcomes


def test_damage_in_the_middle_is_told_with_file_offset_and_size(recorded: Recorded, tmp_path: Path) -> None:
    path = recorded.copy(tmp_path / "run")
    file = path / "steps.000.arrows"
    data = bytearray(file.read_bytes())
    begin = recorded.sizes[1]["steps"]
    data[begin : begin + 4] = b"\0\0\0\0"
    file.write_bytes(data)
    with pytest.warns(DamagedLogWarning, match=rf"steps\.000\.arrows: from byte {begin} on, {len(data) - begin} bytes"):
        log = RunLog.open(path)
    pd.testing.assert_frame_equal(without_discarded(log.steps), without_discarded(recorded.frames[1]["steps"]))
    for other in set(FRAMES) - {"steps", "pairs", "totals", "events"}:
        pd.testing.assert_frame_equal(getattr(log, other), recorded.frames[-1][other])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log.state == "stopped"  # told once, not at every look


def test_rows_that_no_log_would_take_are_damage(recorded: Recorded, tmp_path: Path) -> None:
    path = recorded.copy(tmp_path / "run")
    file = path / "steps.000.arrows"
    data = file.read_bytes()
    needle = np.array([step(i).step for i in range(5, 9)], dtype=np.int64).tobytes()
    assert data.count(needle[:16]) > 0
    at = data.index(needle[:16])
    file.write_bytes(data[:at] + np.int64(3).tobytes() + data[at + 8 :])  # step 5 becomes a second step 3
    with pytest.warns(DamagedLogWarning, match=str(file)):
        log = RunLog.open(path)
    assert len(log) in {frames["steps"]["step"].nunique() for frames in recorded.frames[:-1]}


def test_text_that_is_no_text_is_damage(recorded: Recorded, tmp_path: Path) -> None:
    path = recorded.copy(tmp_path / "run")
    file = path / "validations.000.arrows"
    data = file.read_bytes()
    offsets = np.array([0, 8, 16], dtype=np.int32).tobytes()  # of "accuracy", "accuracy" in their buffer
    beyond = np.array([0, 8, 1 << 30], dtype=np.int32).tobytes()
    for text, altered in ((b"accuracy", b"accur\xffcy"), (offsets, beyond)):
        assert text in data
        file.write_bytes(data.replace(text, altered))
        with pytest.warns(DamagedLogWarning, match=str(file)):
            assert RunLog.open(path).validations.empty


def test_a_torn_tail_is_completed_while_the_writer_lives(tmp_path: Path) -> None:
    log = filled(RunLog.create(tmp_path / "run", INFO), [step(1)])
    log.flush()
    file = tmp_path / "run/steps.000.arrows"
    whole = file.read_bytes()
    log.append(step(2))
    log.flush()
    more = file.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for end in range(len(whole), len(more), 24):
            file.write_bytes(more[:end])
            follower = RunLog.open(tmp_path / "run")
            assert len(follower) == 1
            assert not follower.refresh()
        file.write_bytes(more)
        assert follower.refresh()
        assert len(follower) == 2
    log.close()


def test_a_stream_that_cannot_be_read(recorded: Recorded, tmp_path: Path) -> None:
    path = recorded.copy(tmp_path / "run")
    (path / "layers.000.arrows").unlink()
    (path / "layers.000.arrows").mkdir()
    with pytest.raises(RunLogError, match=r"Could not read .*layers\.000\.arrows"):
        RunLog.open(path)


def test_files_of_another_run(recorded: Recorded, tmp_path: Path) -> None:
    path = recorded.copy(tmp_path / "run")
    content = json.loads((path / "run.json").read_text())
    content["tasks"] = content["tasks"][:1]
    (path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RunLogError, match=r"\.arrows does not belong to the run"):
        RunLog.open(path)


def test_no_folder_no_run_newer_schema_unreadable(recorded: Recorded, tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match=r"There is no folder .*missing"):
        RunLog.open(tmp_path / "missing")
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunLogError, match=r"photos is no run: it has no run\.json"):
        RunLog.open(tmp_path / "photos")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunLogError, match="file is no run"):
        RunLog.open(tmp_path / "file")
    path = recorded.copy(tmp_path / "run")
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RunLogError, match=r"schema 2.*this mtlviz reads schema 1.*pip install -U mtlviz"):
        RunLog.open(path)
    (path / "run.json").write_text('{"tool": "other"}')
    with pytest.raises(RunLogError, match="not written by mtlviz"):
        RunLog.open(path)
    for broken in (text[: len(text) // 2], "", "[]", text.replace('"tasks"', '"jobs"'), text.replace('"left"', "7")):
        (path / "run.json").write_text(broken)
        with pytest.raises(RunLogError, match=r"run\.json|is no run|tasks"):
            RunLog.open(path)
    (path / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RunLogError, match=r"Could not read .*run\.json"):
        RunLog.open(path)


@settings(max_examples=100)
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3))
def test_any_other_run_json_is_read_or_refused(
    recorded: Recorded, tmp_path_factory: pytest.TempPathFactory, where: float, junk: bytes
) -> None:
    path = recorded.copy(tmp_path_factory.getbasetemp() / "json")
    text = (path / "run.json").read_bytes()
    place = int(where * len(text))
    (path / "run.json").write_bytes(text[:place] + junk + text[place + len(junk) :])
    try:
        log = RunLog.open(path)
    except RunLogError as error:
        assert str(path) in str(error) or "needs" in str(error)  # noqa: PT017 - either outcome is fine
    else:
        assert len(log) == 12


def test_a_damaged_segment_of_a_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    filled(RunLog.create(path, INFO), [step(i) for i in range(1, 6)]).close()
    log = filled(RunLog.resume(path, first_step=4), [step(4), Event(4, 4, "stop")])
    log.close()
    file = path / "steps.001.arrows"
    file.write_bytes(b"\1" * 64)
    with pytest.warns(DamagedLogWarning, match=r"steps\.001"):
        reader = RunLog.open(path)
    assert reader.steps["step"].unique().tolist() == [1, 2, 3]  # the events' header still places the segment
    assert reader.state == "stopped"
    (path / "events.001.arrows").unlink()
    with pytest.warns(DamagedLogWarning, match=r"steps\.001"):
        assert RunLog.open(path).last_step == 5
