"""The difference of two defenses where both vary: other seeds would give other networks, other images other counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from bench.stats.differences import paired_scores, welch


def two_level_interval(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % interval of the difference of two mean scores over other seeds and other samples, first minus second.

    It is the bootstrap of both levels, networks within each side and samples for both sides at once, without its draws:
    of a mean its variance is known (the pigeonhole bootstrap of Owen 2007). What it gets wrong with few seeds is put
    right. It takes a side's spread for too small by (k - 1) / k. What only one network does on one sample it counts in
    both levels; here that stays with the seeds. And the ends of three seeds' resamples are no quantiles: instead
    Welch's interval, which knows how uncertain the spread of few seeds is, and the score interval, which is never a
    point, are squared and added at each end (Zou and Donner 2008).

    It holds Welch's interval, the one of the same samples; where Welch's says nothing, neither does it.

    Args:
        first, second: for each seed, at least two a side, the scores of the same samples in the same order: shape (n,),
            in [0, 1], as of `compare`.
    """
    sides = [np.array(each, dtype=np.float64) for each in (first, second)]
    seeds = welch(*(side.mean(axis=1).tolist() for side in sides))
    one, other = (side.mean(axis=0) for side in sides)
    samples = paired_scores(one, other)
    variance = float(np.var(one - other))
    alone = sum(_of_single_outcomes(side) / len(side) for side in sides)
    share = max(0.0, 1 - alone / variance) if variance > 0 else 1.0
    low = sqrt((seeds.value - seeds.low) ** 2 + share * (seeds.value - samples.low) ** 2)
    high = sqrt((seeds.high - seeds.value) ** 2 + share * (samples.high - seeds.value) ** 2)
    return max(-1.0, seeds.value - low), min(1.0, seeds.value + high)


def _of_single_outcomes(scores: np.ndarray) -> float:
    """Variance of a score beyond what its network and its sample explain; scores of k seeds, shape (k, n)."""
    k, n = scores.shape
    of_samples, of_seeds = scores.mean(axis=0), scores.mean(axis=1)
    within = (np.vdot(scores, scores) / k - np.vdot(of_samples, of_samples)) / n * k / (k - 1)
    return max(0.0, float(within - np.var(of_seeds, ddof=1)))
