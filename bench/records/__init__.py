"""What stage 2 leaves: records, checked one by one and beside each other, and taken in from elsewhere."""

from bench.records.archives import unpacked
from bench.records.check_all import Problem, problems, read_all
from bench.records.merge import Merged, merge
from bench.records.record import (
    AttackResult,
    Data,
    Record,
    Subject,
    TrainingCost,
    read_record,
    read_records,
    unpack,
    write_record,
)

__all__ = [
    "AttackResult",
    "Data",
    "Merged",
    "Problem",
    "Record",
    "Subject",
    "TrainingCost",
    "merge",
    "problems",
    "read_all",
    "read_record",
    "read_records",
    "unpack",
    "unpacked",
    "write_record",
]
