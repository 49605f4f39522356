"""How sure a measured number is, and whether two of them differ."""

from bench.stats.differences import (
    LEAST_SEEDS,
    LEVEL,
    TEST_NAMES,
    Difference,
    Test,
    compare,
    holm,
    least_significant,
    mcnemar,
    mcnemar_exact,
    mcnemar_range,
    paired_scores,
    two_proportions,
    two_weighted,
    welch,
)
from bench.stats.intervals import weighted_interval, weighted_scores, wilson_interval, worst_class_interval
from bench.stats.power import detectable
from bench.stats.score_test import score_interval
from bench.stats.two_level import two_level_interval

__all__ = [
    "LEAST_SEEDS",
    "LEVEL",
    "TEST_NAMES",
    "Difference",
    "Test",
    "compare",
    "detectable",
    "holm",
    "least_significant",
    "mcnemar",
    "mcnemar_exact",
    "mcnemar_range",
    "paired_scores",
    "score_interval",
    "two_level_interval",
    "two_proportions",
    "two_weighted",
    "weighted_interval",
    "weighted_scores",
    "welch",
    "wilson_interval",
    "worst_class_interval",
]
