"""What stage 2 leaves: records, checked one by one and beside each other, and taken in from elsewhere."""

from bench.records.archives import unpacked as unpacked
from bench.records.check_all import Problem as Problem
from bench.records.check_all import problems as problems
from bench.records.check_all import read_all as read_all
from bench.records.files import read_record as read_record
from bench.records.files import read_records as read_records
from bench.records.files import write_record as write_record
from bench.records.merge import Merged as Merged
from bench.records.merge import merge as merge
from bench.records.outcomes import unpack as unpack
from bench.records.record import AttackResult as AttackResult
from bench.records.record import Checks as Checks
from bench.records.record import Data as Data
from bench.records.record import Record as Record
from bench.records.record import Subject as Subject
from bench.records.record import TrainingCost as TrainingCost
