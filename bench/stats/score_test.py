"""The score test of the mean of bounded scores, which the intervals of W-R and of paired differences are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, log, sqrt

Z95 = 1.959963984540054
ROUNDING = 1e-12
_UNSEEN = 1e-9
"""Samples taken for a score that can occur and did not."""
_LEAST_TILT, _FIRST_STEP = 1e-26, -0.125


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
    return path.mean + path.where(lambda shift, variance: root_n * abs(shift) - Z95 * sqrt(variance))[0]


def score_p(counts: Mapping[float, int], lowest: float, highest: float) -> float:
    """Two-sided p-value of the score test that the mean of bounded scores is 0, for `score_interval`'s arguments."""
    mean = sum(score * count for score, count in counts.items()) / sum(counts.values())
    path = _Restricted(counts, lowest if mean > 0 else highest)
    if abs(path.mean) <= ROUNDING:
        return 1.0
    _, variance = path.where(lambda shift, _: abs(shift) - abs(path.mean))
    return two_sided(path.mean, sqrt(variance / path.n))


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
    and take longer to import (0.3 s) than a table of intervals takes.
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
        if f_x == 0 or abs(b - a) < ROUNDING:
            return a
        xi, phi = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
        share = 0.5
        if phi**2 < xi and (1 - phi) ** 2 < 1 - xi:
            share = f_a / (f_b - f_a) * f_c / (f_b - f_c)
            share += (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        least = ROUNDING / (2 * abs(b - a))
        share = min(1 - least, max(least, share))


def two_sided(difference: float, error: float) -> float:
    from scipy.special import ndtr

    if abs(difference) <= ROUNDING:
        return 1.0
    return 2 * float(ndtr(-abs(difference) / error)) if error > 0 else 0.0
