"""The run log: records, tables with their derived columns, storage, following, export; never imports torch."""

from mtlviz.runlog.info import RunInfo, TaskInfo
from mtlviz.runlog.log import RunLog
from mtlviz.runlog.reader import DamagedLogWarning
from mtlviz.runlog.records import PHASES, Event, Measure, Record, Step, Validation

__all__ = [
    "PHASES",
    "DamagedLogWarning",
    "Event",
    "Measure",
    "Record",
    "RunInfo",
    "RunLog",
    "Step",
    "TaskInfo",
    "Validation",
]
