"""Whether two numbers differ: the tests there are, and which one a difference between two defenses gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from bench.stats.intervals import check_same_samples
from bench.stats.score_test import ROUNDING, score_interval, score_p, two_sided

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


@dataclass(frozen=True)
class Difference:
    """A difference of two means (first minus second) with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


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


def paired_scores(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two mean scores over the same samples, by the score test of the samples' differences.

    The interval excludes 0 where, and only where, the p-value is below 5 %.

    Args:
        first: a score in [0, 1] for each sample, say its part in W-R; shape (n,).
        second: of the other model on the same samples, in the same order.

    Raises:
        ValueError: they are not of the same samples.
    """
    check_same_samples(first, second)
    differences = np.round(np.asarray(first, dtype=np.float64) - second, 12)  # thirds are one score, however reached
    values, numbers = np.unique(differences, return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    return Difference(float(differences.mean()), *score_interval(counts, -1.0, 1.0), score_p(counts, -1.0, 1.0))


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test on paired outcomes (McNemar 1947).

    Args:
        first_only: samples that only the first was right on.
        second_only: samples that only the second was right on.
    """
    from scipy.special import bdtr

    discordant = first_only + second_only
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), discordant, 0.5))) if discordant else 1.0


def mcnemar(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two accuracies on the same samples, with McNemar's exact test and the score interval (Tango 1998).

    They are two statements. The test is exact, and stricter than the interval, which holds 95 % on average: the
    interval can exclude 0 where the p-value is above 5 %, as for 5 samples against none; never the other way round.

    Args:
        first, second: right or not; shape (n,), bool, the same samples in the same order.
    """
    check_same_samples(first, second)
    n, first_only, second_only = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    counts = {-1.0: second_only, 0.0: n - first_only - second_only, 1.0: first_only}
    interval = score_interval(counts, -1.0, 1.0)
    return Difference((first_only - second_only) / n, *interval, mcnemar_exact(first_only, second_only))


def mcnemar_range(first: int, second: int, n: int) -> tuple[float, float]:
    """The smallest and the largest p-value McNemar's exact test can have where only the totals are known.

    It is smallest where the two models are wrong on the same samples as far as they can be, and largest where they
    are as little as they can be.

    Args:
        first, second: samples each model was right on, 0 to n.
        n: samples, the same for both.
    """
    more, fewer = max(first, second), min(first, second)
    overlap = max(0, more + fewer - n)
    return mcnemar_exact(more - fewer, 0), mcnemar_exact(more - overlap, fewer - overlap)


def least_significant(level: float) -> int:
    """The smallest difference, in samples, that McNemar's exact test can find significant under any pairing."""
    difference = 1
    while mcnemar_exact(difference, 0) > level:
        difference += 1
    return difference


def two_proportions(first: int, n_first: int, second: int, n_second: int) -> float:
    """Two-sided p-value of the z-test for two independent proportions, with the pooled variance.

    For numbers without per-sample outcomes. Where both were measured on the same samples, the models being right on
    much the same ones makes the true test sharper, and being right on different ones makes it blunter.

    Args:
        first, second: successes, 0 to n.
        n_first, n_second: trials, at least 1.
    """
    if n_first < 1 or n_second < 1 or not (0 <= first <= n_first and 0 <= second <= n_second):
        raise ValueError(f"{first} of {n_first} and {second} of {n_second} are no proportions")
    pooled = (first + second) / (n_first + n_second)
    error = sqrt(pooled * (1 - pooled) * (1 / n_first + 1 / n_second))
    return two_sided(first / n_first - second / n_second, error)


def two_weighted(first: tuple[float, float], n_first: int, second: tuple[float, float], n_second: int) -> float:
    """Two-sided p-value of the z-test for two independent W-R, each known by its clean and robust accuracy alone.

    How the two accuracies of a model vary together is not known; taken is what varies most, that no sample is right
    under the attack and wrong without it. It is also what is nearly always so.

    Args:
        first, second: (clean, robust) of each model, in [0, 1].
        n_first, n_second: samples, at least 1.
    """
    variance = _weighted_variance(*first) / n_first + _weighted_variance(*second) / n_second
    return two_sided((sum(first) - sum(second)) / 2, sqrt(variance))


def _weighted_variance(clean: float, robust: float) -> float:
    """The largest variance of a sample's part in W-R: covariance at Fréchet's bound."""
    covariance = min(clean, robust) - clean * robust
    return (clean * (1 - clean) + robust * (1 - robust) + 2 * covariance) / 4


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Difference of two means of accuracies by Welch's t-test (Welch 1947), with its interval.

    Where no seed differs from the others of its side there is no spread to test against: that tells nothing (p = 1, the
    interval is all there is), for each number is still one of so many samples.

    Args:
        first, second: a number for each seed, at least two each.
    """
    from scipy.special import stdtr, stdtrit

    value = float(np.mean(first) - np.mean(second))
    parts = [float(np.var(each, ddof=1)) / len(each) for each in (first, second)]
    error = sqrt(sum(parts))
    if error <= ROUNDING:  # no spread to test against
        return Difference(value, -1.0, 1.0, 1.0)
    freedom = error**4 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True))
    half = float(stdtrit(freedom, 0.975)) * error
    return Difference(value, value - half, value + half, 2 * float(stdtr(freedom, -abs(value) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979), in the order given.

    An adjusted value is to be compared with the level of the whole family.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
