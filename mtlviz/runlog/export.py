"""Writes a log's frames to files of other formats."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mtlviz.errors import RunLogError
from mtlviz.runlog import jsontext
from mtlviz.runlog.layout import TABLES

if TYPE_CHECKING:
    from mtlviz.runlog.history import History

FRAMES = ("steps", "pairs", *TABLES[1:])


def to_parquet(log: History, folder: Path, *, overwrite: bool) -> list[Path]:
    """One Parquet file per table; see `RunLog.to_parquet`."""
    return _export(log, folder, "parquet", lambda frame, path: frame.to_parquet(path, index=False), overwrite)


def to_csv(log: History, folder: Path, *, overwrite: bool) -> list[Path]:
    """One CSV file per table; see `RunLog.to_csv`."""
    return _export(log, folder, "csv", lambda frame, path: frame.to_csv(path, index=False), overwrite)


def _export(
    log: History, folder: Path, suffix: str, write: Callable[[pd.DataFrame, Path], None], overwrite: bool
) -> list[Path]:
    paths = {name: folder / f"{name}.{suffix}" for name in FRAMES}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not overwrite:
        raise RunLogError(
            f"{folder} already holds {', '.join(there)}. Choose another folder, or replace them with overwrite=True."
        )
    for name, path in paths.items():
        frame = getattr(log, name)
        if name == "events":
            frame = frame.assign(detail=pd.array([jsontext.dumps(detail) for detail in frame["detail"]], dtype="str"))
        draft = path.with_name(path.name + ".new")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(frame, draft)
            draft.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise RunLogError(
                f"Could not write {path}: {error.strerror or error}. Free space or choose a folder where you may write."
            ) from error
    return list(paths.values())
