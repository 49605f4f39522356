"""Intervals and tests: how sure a measured number is."""

from bench.stats.tests import (
    Difference,
    holm,
    least_significant,
    mcnemar,
    mcnemar_exact,
    mcnemar_range,
    paired_scores,
    score_interval,
    two_proportions,
    two_weighted,
    weighted_interval,
    weighted_scores,
    welch,
    wilson_interval,
    worst_class_interval,
)

__all__ = [
    "Difference",
    "holm",
    "least_significant",
    "mcnemar",
    "mcnemar_exact",
    "mcnemar_range",
    "paired_scores",
    "score_interval",
    "two_proportions",
    "two_weighted",
    "weighted_interval",
    "weighted_scores",
    "welch",
    "wilson_interval",
    "worst_class_interval",
]
