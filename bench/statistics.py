"""How sure a measured accuracy is."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np

_Z95 = 1.959963984540054


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


def weighted_interval(clean: np.ndarray, robust: np.ndarray, draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of (clean + robust) / 2 from a paired bootstrap over samples (Efron 1979).

    A sample is drawn with both of its outcomes, so their dependence is kept. What a draw of n samples amounts
    to is how many of them were right 0, 1 or 2 times, which is multinomial.

    Args:
        clean: right on the sample itself; shape (n,), bool.
        robust: right on the attacked sample; shape (n,), bool, the same samples in the same order.
        draws: bootstrap replications.
        seed: of the draws; the same outcomes always give the same interval.

    Returns:
        (low, high), each in [0, 1]; no wider than a point where all samples have the same outcomes.
    """
    n = len(clean)
    if n < 1 or clean.shape != robust.shape:
        raise ValueError(f"{clean.shape} and {robust.shape} are no outcomes of the same samples")
    times_right = np.bincount(clean.astype(np.int64) + robust.astype(np.int64), minlength=3)
    drawn = np.random.default_rng(seed).multinomial(n, times_right / n, size=draws)
    low, high = np.quantile(drawn @ np.array([0.0, 0.5, 1.0]) / n, [0.025, 0.975])
    return float(low), float(high)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test on paired outcomes.

    Args:
        first_only: samples that only the first was right on.
        second_only: samples that only the second was right on.
    """
    discordant = first_only + second_only
    if not discordant:
        return 1.0
    tail = sum(comb(discordant, k) for k in range(min(first_only, second_only) + 1)) / 2**discordant
    return min(1.0, 2 * tail)
