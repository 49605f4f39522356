"""Records made elsewhere: whether they add up, alone and together, and taking them in."""

from bench.records.archives import unpacked
from bench.records.check_all import Problem, problems, read_all
from bench.records.merge import Merged, merge

__all__ = ["Merged", "Problem", "merge", "problems", "read_all", "unpacked"]
