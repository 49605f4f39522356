"""How sure a measured accuracy is, and the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm, sqrt

import numpy as np

_Z95 = 1.959963984540054
_ROUNDING = 1e-12
_LEAST_P = 1e-6
_LARGEST_DENOMINATOR = 10_000
"""Of a mean over seeds; W-R of s seeds is a fraction with the denominator 2s, a difference one with both sides'."""


@dataclass(frozen=True)
class Difference:
    """A difference of two means (first minus second) with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def wilson_interval(correct: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), by default at 95 %.

    Args:
        correct: successes, 0 to n.
        n: trials, at least 1.

    Returns:
        (low, high), each in [0, 1].
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} is no proportion")
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At both ends the bound is exact on paper; rounding would put it beside the proportion itself.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == n else centre + half)


def weighted_interval(clean: np.ndarray, robust: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of (clean + robust) / 2 from a paired bootstrap over samples (Efron 1979).

    A sample is drawn with both of its outcomes, so their dependence is kept.

    Args:
        clean: right on the sample itself; shape (n,), bool.
        robust: right on the attacked sample; shape (n,), bool, the same samples in the same order.

    Returns:
        (low, high), each in [0, 1]; no wider than a point where all samples have the same outcomes.
    """
    return _percentiles(*_resampled_means(weighted_scores(clean, robust)))


def weighted_scores(clean: np.ndarray, robust: np.ndarray) -> np.ndarray:
    """What each sample adds to W-R: 0, 1/2 or 1; shape (n,), from outcomes as `weighted_interval` takes them."""
    if len(clean) < 1 or clean.shape != robust.shape:
        raise ValueError(f"{clean.shape} and {robust.shape} are no outcomes of the same samples")
    return (clean.astype(np.float64) + robust) / 2


def paired_bootstrap(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two means over the same samples, by a paired bootstrap over samples (Efron 1979).

    The interval is the percentile one; the p-value is twice the smaller of the probabilities that a resampled mean lies
    at or below, and at or above, 0. The interval excludes 0 where, and only where, the p-value is below 5 %. Of
    probabilities below 1e-6 resampling says no more than that they are small; they are given as 1e-6.

    Args:
        first: a score for each sample, say its part in W-R; shape (n,), fractions such as means over seeds.
        second: of the other model on the same samples, in the same order.

    Raises:
        ValueError: they are not of the same samples, or not fractions.
    """
    if len(first) < 1 or first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} are no scores of the same samples")
    differences = np.asarray(first, dtype=np.float64) - second
    means, shares = _resampled_means(differences)
    beyond = min(float(shares[means <= 0].sum()), float(shares[means >= 0].sum()))
    low, high = _percentiles(means, shares)
    return Difference(float(differences.mean()), low, high, min(1.0, max(_LEAST_P, 2 * beyond)))


def _resampled_means(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of n scores drawn from n with replacement: its values, ascending, and how probable each is.

    It is not drawn but computed, so that nothing depends on a seed. Scores are whole numbers of some unit, and so is
    their sum; the distribution of a sum of n is that of one convolved with itself, whose Fourier transform is the n-th
    power of the one's.
    """
    values, counts = np.unique(scores, return_counts=True)
    units = lcm(*(Fraction(value).limit_denominator(_LARGEST_DENOMINATOR).denominator for value in values.tolist()))
    if units > _LARGEST_DENOMINATOR or np.abs(values * units - np.rint(values * units)).max() > 1e-6:
        raise ValueError("scores that are not fractions with a common, small denominator cannot be resampled")
    whole = np.rint(values * units).astype(np.int64)
    n, span = len(scores), int(whole[-1] - whole[0])
    # By Hoeffding's inequality (1963) a sum is farther than this from its mean once in 10 ** 21 times.
    reach = min(n * span, ceil(5 * span * sqrt(n)))
    size = 1 << (2 * reach + 2).bit_length()
    transform = np.fft.rfft(np.bincount(whole - whole[0], weights=counts / n), size)
    alive = np.abs(transform) > 1e-30 ** (1 / n)  # a complex power is slow, and all but a few come to nothing
    transform[alive] **= n
    transform[~alive] = 0
    # Sums that differ by `size` share a place; of those around the mean alone there are any.
    first = round(float(counts @ (whole - whole[0]))) - size // 2
    shares = np.roll(np.fft.irfft(transform, size), -first)
    means = (np.arange(size) + first + n * int(whole[0])) / (n * units)
    return means, np.maximum(shares, 0)  # rounding leaves -1e-17 where there is nothing


def _percentiles(means: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """The least mean that 2.5 % lie at or below, and the largest that 2.5 % lie at or above."""
    below, above = np.cumsum(shares), np.cumsum(shares[::-1])
    return float(means[np.argmax(below >= 0.025)]), float(means[::-1][np.argmax(above >= 0.025)])


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
    """Difference of two accuracies on the same samples, with McNemar's exact test and the interval that inverts it.

    Given how many samples only one of the two is right on, the first one's share of them is a binomial proportion; its
    interval is Clopper and Pearson's (1934). It excludes 0 where, and only where, the p-value is below 5 %.

    Args:
        first, second: right or not; shape (n,), bool, the same samples in the same order.
    """
    from scipy.special import betaincinv

    if len(first) < 1 or first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} are no outcomes of the same samples")
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    n, discordant = len(first), first_only + second_only
    if not discordant:
        return Difference(0.0, 0.0, 0.0, 1.0)
    low = float(betaincinv(first_only, second_only + 1, 0.025)) if first_only else 0.0
    high = float(betaincinv(first_only + 1, second_only, 0.975)) if second_only else 1.0
    return Difference(
        (first_only - second_only) / n,
        (2 * low - 1) * discordant / n,
        (2 * high - 1) * discordant / n,
        mcnemar_exact(first_only, second_only),
    )


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
    return _two_sided(first / n_first - second / n_second, error)


def two_weighted(first: tuple[float, float], n_first: int, second: tuple[float, float], n_second: int) -> float:
    """Two-sided p-value of the z-test for two independent W-R, each known by its clean and robust accuracy alone.

    How the two accuracies of a model vary together is not known; taken is what varies most, that no sample is right
    under the attack and wrong without it. It is also what is nearly always so.

    Args:
        first, second: (clean, robust) of each model, in [0, 1].
        n_first, n_second: samples, at least 1.
    """
    variance = _weighted_variance(*first) / n_first + _weighted_variance(*second) / n_second
    return _two_sided((sum(first) - sum(second)) / 2, sqrt(variance))


def _weighted_variance(clean: float, robust: float) -> float:
    """The largest variance of a sample's part in W-R: covariance at Fréchet's bound."""
    covariance = min(clean, robust) - clean * robust
    return (clean * (1 - clean) + robust * (1 - robust) + 2 * covariance) / 4


def _two_sided(difference: float, error: float) -> float:
    from scipy.special import ndtr

    if abs(difference) <= _ROUNDING:
        return 1.0
    return 2 * float(ndtr(-abs(difference) / error)) if error > 0 else 0.0


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
    if error <= _ROUNDING:  # no spread to test against
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
