"""How often a test finds a true difference, and the smallest one that it finds in four of five cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from bench.stats.differences import LEAST_SEEDS, LEVEL
from bench.stats.score_test import ROUNDING

POWER = 0.8
Power = Callable[[float], float]
"""How often a test finds a difference, by the true difference in [0, 1]."""
_CLOSE = 1e-6
_STEPS = 50
"""Of a distribution, in equal shares, where it is summed over."""


def detectable(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], level: float = LEVEL, wanted: float = POWER
) -> float | None:
    """The smallest true difference of two mean scores that the test of `compare` finds with a power, 80 % by default.

    What else its power depends on is taken as it was found: over seeds the spread of each side, over samples how often
    two networks differ, or how much. A spread of few seeds is itself uncertain, and so is the answer.

    Args:
        first, second: as of `compare`, which chooses the test by them.
        level: of the test, two-sided; wanted: the power.

    Returns:
        A difference in [0, 1]; None where the seeds of neither side differ, so that there is no spread to take.
    """
    if min(len(first), len(second)) >= LEAST_SEEDS:
        return detectable_by_welch([each.mean() for each in first], [each.mean() for each in second], level, wanted)
    one, other = (np.mean(each, axis=0) for each in (first, second))
    if len(first) == len(second) == 1 and first[0].dtype == second[0].dtype == np.bool_:
        return detectable_by_mcnemar(int((first[0] ^ second[0]).sum()), len(first[0]), level, wanted)
    return detectable_by_score(float(np.mean((one - other) ** 2)), len(one), level, wanted)


def detectable_by_welch(
    first: Sequence[float], second: Sequence[float], level: float = LEVEL, wanted: float = POWER
) -> float | None:
    """Of Welch's t-test over seeds: the power for normal numbers with the variances that were found.

    Args:
        first, second: a number for each seed, at least two each; only how many there are and their variances count.
    """
    variances = [float(np.var(each, ddof=1)) / len(each) for each in (first, second)]
    if sqrt(sum(variances)) <= ROUNDING:
        return None
    return smallest(welch_power(variances, [len(each) for each in (first, second)], level), wanted)


def welch_power(variances: Sequence[float], seeds: Sequence[int], level: float = LEVEL, images: float = 0.0) -> Power:
    """Of Welch's t-test over seeds, whose numbers are normal; or of the interval over other images as well.

    The test estimates spread and degrees of freedom anew each time, which costs power where seeds are few: taken is its
    mean over what the two estimates can be, as distributed as chi-squared, independently of the means.

    Args:
        variances: of each side's mean over its seeds, of which one is above 0.
        seeds: of each side, at least two.
        images: variance of the difference over other images, where it is to be found on those: by whether
            `two_level_interval` leaves 0 out, which is Welch's test where this is 0.
    """
    from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

    error = sqrt(sum(variances) + images)
    freedoms = [each - 1 for each in seeds]
    shares = (np.arange(_STEPS) + 0.5) / _STEPS
    one, other = (
        variance * gammaincinv(freedom / 2, shares) * 2 / freedom
        for variance, freedom in zip(variances, freedoms, strict=True)
    )
    one, other = one[:, None], other[None, :]
    freedom = (one + other) ** 2 / (one**2 / freedoms[0] + other**2 / freedoms[1])
    of_seeds = stdtrit(freedom, 1 - level / 2) ** 2 * (one + other)
    bounds = np.sqrt(of_seeds + ndtri(1 - level / 2) ** 2 * images) / error

    def power(difference: float) -> float:
        shift = difference / error
        return float(np.mean(ndtr(shift - bounds) + ndtr(-shift - bounds)))

    return power


def detectable_by_mcnemar(discordant: int, n: int, level: float = LEVEL, wanted: float = POWER) -> float:
    """Of McNemar's exact test, for networks that differ as often as these.

    Args:
        discordant: samples that only one of the two was right on, 0 to n.
    """
    return smallest(mcnemar_power(discordant / n, n, level), wanted)


def mcnemar_power(discordance: float, n: int, level: float = LEVEL) -> Power:
    """Of McNemar's exact test: its exact unconditional power (Duffy 1984).

    Two networks differ on no fewer samples than their accuracies do: where these differ on fewer, that many are taken.

    Args:
        discordance: share of samples that only one of the two is right on, in [0, 1].
    """
    from scipy.special import bdtr, bdtrik

    def power(difference: float) -> float:
        share = min(1.0, max(discordance, difference))
        spread = 7 * sqrt(n * share * (1 - share)) + 1
        counts = np.arange(max(1, int(n * share - spread)), min(n, int(n * share + spread) + 1) + 1)
        likely = np.diff(bdtr(np.array([counts[0] - 1, *counts]).astype(float), n, share))
        # The most samples that the weaker one may have alone: as many as leave both tails together within the level.
        fewest = np.floor(np.nan_to_num(bdtrik(level / 2, counts, 0.5), nan=-1.0))
        ahead = (1 + difference / share) / 2
        tails = bdtr(np.maximum(fewest, 0), counts, ahead) + bdtr(np.maximum(fewest, 0), counts, 1 - ahead)
        return float((likely * np.where((fewest >= 0) & (2.0 ** -(counts - 1.0) <= level), tails, 0)).sum())

    return power


def detectable_by_score(square: float, n: int, level: float = LEVEL, wanted: float = POWER) -> float:
    """Of the paired score test, by its normal approximation (for right and wrong Connor's, 1987).

    Args:
        square: mean square of the samples' differences, which lie in [-1, 1]. Where it is smaller than what the
            difference sought needs at least if samples differ by whole points, that is taken.
    """
    from scipy.special import ndtr, ndtri

    bound = float(ndtri(1 - level / 2))

    def power(difference: float) -> float:
        found = max(square, difference)
        variance = max(found - difference**2, _CLOSE)
        return float(ndtr((difference * sqrt(n) - bound * sqrt(found)) / sqrt(variance)))

    return smallest(power, wanted)


def smallest(power: Power, wanted: float = POWER) -> float:
    """The smallest difference in [0, 1] that is found so often, by bisection; 1 where none is."""
    low, high = 0.0, 2 * _CLOSE
    while power(high) < wanted:  # from below: far above, a distribution's tail is no number
        if high == 1:
            return 1.0
        low, high = high, min(1.0, 2 * high)
    while high - low > _CLOSE:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high
