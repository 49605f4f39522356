"""How sure a measured accuracy is, and the difference of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log, sqrt

import numpy as np

_Z95 = 1.959963984540054
_ROUNDING = 1e-12
_UNSEEN = 1e-9
"""Samples taken for a score that can occur and did not."""
_LEAST_TILT, _FIRST_STEP = 1e-26, -0.125


@dataclass(frozen=True)
class Difference:
    """A difference of two means (first minus second) with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927).

    Args:
        correct: successes, 0 to n.
        n: trials, at least 1.

    Returns:
        (low, high), each in [0, 1].
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} is no proportion")
    p, z = correct / n, _Z95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At both ends the bound is exact on paper; rounding would put it beside the proportion itself.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == n else centre + half)


def worst_class_interval(right: Sequence[int], counts: Sequence[int]) -> tuple[float, float]:
    """Interval of at least 95 % of the lowest true accuracy of several classes, whichever class it is.

    It lies below every class's: the lower end is the lowest lower bound of a class. Of k upper bounds none may be too
    low, so each holds at 0.975 ** (1 / k) (Šidák 1967), and the upper end is the lowest of them. The bounds are exact
    (Clopper and Pearson 1934), as classes are small.

    Args:
        right: of each class, the samples that are right; at least one class.
        counts: of each class, its samples, at least 1.

    Returns:
        (low, high), each in [0, 1].
    """
    # Of classes with as many samples the lowest has both the lowest lower and the lowest upper bound.
    lowest: dict[int, int] = {}
    for k, total in zip(right, counts, strict=True):
        lowest[total] = min(k, lowest.get(total, k))
    bounds = [_exact_bounds(k, n, len(right)) for n, k in lowest.items()]
    return min(low for low, _ in bounds), min(high for _, high in bounds)


@cache
def _exact_bounds(k: int, n: int, classes: int) -> tuple[float, float]:
    """Clopper and Pearson's lower bound of k in n at 97.5 %, and the upper one that holds for all classes at once."""
    from scipy.special import betaincinv

    low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    return low, (float(betaincinv(k + 1, n - k, 0.975 ** (1 / classes))) if k < n else 1.0)


def weighted_interval(clean: np.ndarray, robust: np.ndarray) -> tuple[float, float]:
    """95 % score interval of (clean + robust) / 2.

    A sample counts with both of its outcomes, so their dependence is kept.

    Args:
        clean: right on the sample itself; shape (n,), bool.
        robust: right on the attacked sample; shape (n,), bool, the same samples in the same order.

    Returns:
        (low, high), each in [0, 1].
    """
    _check_same_samples(clean, robust)
    n, both, one = len(clean), int((clean & robust).sum()), int((clean ^ robust).sum())
    return score_interval({0.0: n - both - one, 0.5: one, 1.0: both}, 0.0, 1.0)


def weighted_scores(clean: np.ndarray, robust: np.ndarray) -> np.ndarray:
    """What each sample adds to W-R: 0, 1/2 or 1; shape (n,), from outcomes as `weighted_interval` takes them."""
    _check_same_samples(clean, robust)
    return (clean.astype(np.float64) + robust) / 2


def _check_same_samples(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) < 1 or first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} are not of the same samples")


def score_interval(counts: Mapping[float, int], lowest: float, highest: float) -> tuple[float, float]:
    """95 % interval of the mean of bounded scores: all means that the score test does not reject at 5 %.

    The test holds the mean found against a mean m by the variance that fits m best: that of the probabilities with the
    mean m under which the scores found are most likely (restricted maximum likelihood). Of the scores 0 and 1 it is
    Wilson's interval (1927), of -1, 0 and 1 Tango's for paired proportions (1998), its p-value McNemar's without
    continuity correction.

    Args:
        counts: how many samples have each score; at least one sample.
        lowest, highest: the scores a sample can have at least and at most, whether one has them or not.
    """
    return _bound(counts, lowest), _bound(counts, highest)


def _bound(counts: Mapping[float, int], extreme: float) -> float:
    """The farthest mean towards an extreme score that the score test does not reject at 5 %."""
    path = _Restricted(counts, extreme)
    if not path.reach:
        return extreme
    root_n = sqrt(path.n)
    return path.mean + path.where(lambda shift, variance: root_n * abs(shift) - _Z95 * sqrt(variance))[0]


def _score_p(counts: Mapping[float, int], lowest: float, highest: float) -> float:
    """Two-sided p-value of the score test that the mean of bounded scores is 0, for `score_interval`'s arguments."""
    mean = sum(score * count for score, count in counts.items()) / sum(counts.values())
    path = _Restricted(counts, lowest if mean > 0 else highest)
    if abs(path.mean) <= _ROUNDING:
        return 1.0
    _, variance = path.where(lambda shift, _: abs(shift) - abs(path.mean))
    return _two_sided(path.mean, sqrt(variance / path.n))


class _Restricted:
    """The most likely probabilities of scores for each mean from the one found to an extreme score.

    By Lagrange's method they are the counts, each divided by tilt + (1 - tilt) * distance from the extreme, and scaled
    to the sum 1: at a tilt of 1 the shares found, towards 0 all at the extreme. An extreme score that no sample has
    takes part by next to nothing; it is given weight once the others alone cannot have the mean.
    """

    def __init__(self, counts: Mapping[float, int], extreme: float) -> None:
        found = {score: float(count) for score, count in counts.items() if count}
        self.n = sum(found.values())
        self.mean = sum(score * count for score, count in found.items()) / self.n
        self.reach = max(abs(extreme - score) for score in found)
        found.setdefault(extreme, _UNSEEN)
        self._parts = [
            (count, abs(extreme - score) / (self.reach or 1.0), score - self.mean) for score, count in found.items()
        ]

    def _at(self, tilt: float) -> tuple[float, float]:
        """How far the mean is from the one found, and the variance of a score."""
        total = first = second = 0.0
        for count, distance, deviation in self._parts:
            weight = count / (tilt + (1 - tilt) * distance)
            total += weight
            first += weight * deviation
            second += weight * deviation * deviation
        shift = first / total
        return shift, max(0.0, second / total - shift * shift)

    def where(self, excess: Callable[[float, float], float]) -> tuple[float, float]:
        """Shift and variance where a function of both, which rises along the way, is 0; at the end if it is nowhere."""

        def at(log_tilt: float) -> float:
            return excess(*self._at(exp(log_tilt)))

        near, far, end = 0.0, _FIRST_STEP, log(_LEAST_TILT)
        while (high := at(far)) <= 0:
            if far == end:
                return self._at(exp(end))
            near, far = far, max(4 * far, end)
        return self._at(exp(_root(at, far, high, near, at(near))))


def _root(function: Callable[[float], float], a: float, f_a: float, b: float, f_b: float) -> float:
    """Where a function is 0, whose values at a and b have opposite signs (Chandrupatla 1997).

    Inverse quadratic interpolation where that is safe, else bisection. SciPy's finders leave cycles of objects behind,
    and take longer to import than a table of intervals takes.
    """
    share = 0.5
    while True:
        x = a + share * (b - a)
        f_x = function(x)
        # From here on a is the newest, the root is between it and b, and c is the one before.
        if (f_x > 0) == (f_a > 0):
            c, f_c = a, f_a
        else:
            c, f_c, b, f_b = b, f_b, a, f_a
        a, f_a = x, f_x
        if f_x == 0 or abs(b - a) < _ROUNDING:
            return a
        xi, phi = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
        share = 0.5
        if phi**2 < xi and (1 - phi) ** 2 < 1 - xi:
            share = f_a / (f_b - f_a) * f_c / (f_b - f_c)
            share += (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        least = _ROUNDING / (2 * abs(b - a))
        share = min(1 - least, max(least, share))


def paired_scores(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two mean scores over the same samples, by the score test of the samples' differences.

    The interval excludes 0 where, and only where, the p-value is below 5 %.

    Args:
        first: a score in [0, 1] for each sample, say its part in W-R; shape (n,).
        second: of the other model on the same samples, in the same order.

    Raises:
        ValueError: they are not of the same samples.
    """
    _check_same_samples(first, second)
    differences = np.round(np.asarray(first, dtype=np.float64) - second, 12)  # thirds are one score, however reached
    values, numbers = np.unique(differences, return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    return Difference(float(differences.mean()), *score_interval(counts, -1.0, 1.0), _score_p(counts, -1.0, 1.0))


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
    _check_same_samples(first, second)
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
