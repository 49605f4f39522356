"""Which test a difference between two defenses gets, from the outcomes of their seeds on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bench.stats.tests import Difference, mcnemar, paired_scores, welch

Test = Literal["mcnemar", "score", "welch", "proportions"]

TEST_NAMES: dict[Test, str] = {
    "mcnemar": "McNemar's exact test over samples",
    "score": "paired score test over samples",
    "welch": "Welch's t-test over seeds",
    "proportions": "z-test of independent samples",
}
LEVEL = 0.05
"""Of a family of comparisons, after Holm's correction."""
LEAST_SEEDS = 3
"""Seeds that both sides need for a claim about seeds, and not about single networks."""


def compare(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[Difference, Test]:
    """The difference of two mean scores, first minus second, and what it was tested by.

    Three seeds or more on both sides: Welch's t-test over the seeds' means, a claim about the defenses. Else a test
    over samples, a claim about these networks: McNemar's exact one for the outcomes of one network each; for
    all other scores the paired score test, a sample's score being its mean over seeds.

    Args:
        first, second: for each seed the scores of the same samples in the same order: shape (n,), bool for right and
            wrong, or 0, 1/2 and 1 for a sample's part in W-R.
    """
    if min(len(first), len(second)) >= LEAST_SEEDS:
        return welch([scores.mean() for scores in first], [scores.mean() for scores in second]), "welch"
    if len(first) == len(second) == 1 and first[0].dtype == second[0].dtype == np.bool_:
        return mcnemar(first[0], second[0]), "mcnemar"
    return paired_scores(np.mean(first, axis=0), np.mean(second, axis=0)), "score"
