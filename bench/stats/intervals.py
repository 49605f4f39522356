"""How sure one number is: 95 % intervals of an accuracy, of W-R and of the worst class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import sqrt

import numpy as np

from bench.stats.score_test import Z95, score_interval


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
    p, z = correct / n, Z95
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
    check_same_samples(clean, robust)
    n, both, one = len(clean), int((clean & robust).sum()), int((clean ^ robust).sum())
    return score_interval({0.0: n - both - one, 0.5: one, 1.0: both}, 0.0, 1.0)


def weighted_scores(clean: np.ndarray, robust: np.ndarray) -> np.ndarray:
    """What each sample adds to W-R: 0, 1/2 or 1; shape (n,), from outcomes as `weighted_interval` takes them."""
    check_same_samples(clean, robust)
    return (clean.astype(np.float64) + robust) / 2


def check_same_samples(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) < 1 or first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} are not of the same samples")
