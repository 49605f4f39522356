"""How often the 95 % intervals cover the truth: all possible outcomes of 20 samples, seeded draws of more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from bench.stats import (
    Difference,
    mcnemar,
    paired_scores,
    weighted_interval,
    welch,
    wilson_interval,
    worst_class_interval,
)

LEAST = 0.93
DRAWS = 512
Interval = tuple[float, float]


def _covered(
    interval: Callable[[tuple[int, ...]], Interval], probabilities: Sequence[float], n: int, truth: float
) -> float:
    """The probability that an interval of the counts of n samples' outcomes covers the truth.

    Exact for 20 samples, else from draws.
    """
    if n == 20:
        places = [range(n + 1) if p else range(1) for p in probabilities]
        counts = np.array([each for each in product(*places) if sum(each) == n])
        shares = stats.multinomial.pmf(counts, n, probabilities)
        counts, shares = counts[shares > 1e-7], shares[shares > 1e-7]
    else:
        counts, times = np.unique(_draws(n, probabilities), axis=0, return_counts=True)
        shares = times / DRAWS
    found = np.array([interval(tuple(each)) for each in counts.tolist()])
    return float(shares[(found[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= found[:, 1])].sum())


def _draws(n: int, probabilities: Sequence[float]) -> np.ndarray:
    """Multinomial counts, shape (DRAWS, outcomes), spread evenly over what is probable by Sobol's sequence."""
    points = qmc.Sobol(len(probabilities), seed=n).random(DRAWS)
    counts = np.zeros(points.shape, int)
    open_, rest = np.full(DRAWS, n), 1.0
    for i, p in enumerate(probabilities):
        if p:
            counts[:, i] = stats.binom.ppf(points[:, i], open_, min(1.0, p / rest)) if rest - p > 1e-9 else open_
            open_, rest = open_ - counts[:, i], rest - p
    return counts


def _wilson_coverage(n: int, accuracies: np.ndarray) -> np.ndarray:
    """Exact, for each true accuracy."""
    ends = np.array([wilson_interval(right, n) for right in range(n + 1)])
    first = np.searchsorted(ends[:, 1], accuracies, "left")
    last = np.searchsorted(ends[:, 0], accuracies, "right") - 1
    return stats.binom.cdf(last, n, accuracies) - stats.binom.cdf(first - 1, n, accuracies)


@pytest.mark.parametrize("n", [20, 100, 1000, 10_000])
def test_wilsons_interval_covers_but_for_one_sample_from_the_ends(n: int) -> None:
    """What docs/statistics.md says of it, at each true accuracy."""
    expected = np.concatenate([np.arange(0.005, 20, 0.005), np.linspace(20, n / 2, 200)])
    expected = expected[expected <= n / 2]
    found = _wilson_coverage(n, expected / n)
    assert found[expected >= 1.1].min() >= 0.925
    assert 0.83 <= found[expected < 0.2].min() < 0.85
    assert found[expected >= 1.1].mean() == pytest.approx(0.95, abs=0.006)
    assert _wilson_coverage(n, np.array([0.0, 1.0])) == pytest.approx([1, 1])


@pytest.mark.parametrize("n", [20, 100, 360, 1000, 10_000])
def test_wilsons_interval_covers_accuracies_as_networks_have_them(n: int) -> None:
    assert _wilson_coverage(n, np.array([0.0, 0.1, 0.25, 0.55, 0.75, 0.9, 1.0])).min() >= LEAST


@lru_cache(maxsize=4096)
def _weighted(counts: tuple[int, ...]) -> Interval:
    """Of counts of samples right on neither, on one and on both."""
    outcome = np.repeat([0, 1, 2], counts)
    return weighted_interval(outcome > 0, outcome > 1)


@pytest.mark.parametrize("n", [20, 100, 10_000])
@pytest.mark.parametrize(
    "shares",
    [
        *((1, 0, 0), (0, 1, 0), (0, 0, 1)),  # all wrong; all right, and none under the attack; all right
        *((0.1, 0.3, 0.6), (0.02, 0.88, 0.1), (0.5, 0, 0.5), (0.03, 0.94, 0.03), (0.9, 0.1, 0), (0, 0.97, 0.03)),
    ],
)
def test_the_interval_of_weighted_robustness_covers(shares: tuple[float, ...], n: int) -> None:
    assert _covered(_weighted, shares, n, shares[1] / 2 + shares[2]) >= LEAST


PAIRS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


@lru_cache(maxsize=4096)
def _difference(counts: tuple[int, ...]) -> Interval:
    """Of counts of samples right for none, for the second, for the first and for both."""
    first, second = np.repeat(PAIRS, counts, axis=0).T == 1
    found = mcnemar(first, second)
    return found.low, found.high


@pytest.mark.parametrize("n", [20, 100, 10_000])
@pytest.mark.parametrize(
    "shares",
    [
        *(
            (0.5, 0, 0, 0.5),
            (0, 0, 0, 1),
            (1, 0, 0, 0),
            (0, 0, 1, 0),
        ),  # no discordant pair; all right; all wrong; all won
        (0.215, 0.005, 0.75, 0.03),  # a large difference
        *(
            (0.1, 0.05, 0.15, 0.7),
            (0.3, 0.1, 0.1, 0.5),
            (0.02, 0.01, 0.02, 0.95),
            (0, 0.25, 0.25, 0.5),
            (0, 0.1, 0.9, 0),
        ),
    ],
)
def test_the_interval_of_a_difference_of_accuracies_covers(shares: tuple[float, ...], n: int) -> None:
    assert _covered(_difference, shares, n, shares[2] - shares[1]) >= LEAST


TWO_SEEDS = np.array([-1, -0.5, 0, 0.5, 1])


@lru_cache(maxsize=4096)
def _scores(counts: tuple[int, ...]) -> Difference:
    """Of counts of samples by how much more the first has there, as of W-R or of means over two seeds."""
    apart = np.repeat(TWO_SEEDS, counts)
    return paired_scores(np.maximum(apart, 0), np.maximum(-apart, 0))


@pytest.mark.parametrize("n", [20, 100, 10_000])
@pytest.mark.parametrize(
    "shares",
    [
        *((0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)),  # all the same: level, half won, won
        *((0, 0.1, 0.8, 0.1, 0), (0, 0, 0.1, 0.6, 0.3), (0.05, 0, 0.25, 0.7, 0), (0, 0.03, 0.94, 0.03, 0)),
    ],
)
def test_the_interval_of_a_difference_of_scores_covers(shares: tuple[float, ...], n: int) -> None:
    def interval(counts: tuple[int, ...]) -> Interval:
        return _scores(counts).low, _scores(counts).high

    assert _covered(interval, shares, n, float(TWO_SEEDS @ shares)) >= LEAST


@pytest.mark.parametrize("n", [20, 100, 10_000])
@pytest.mark.parametrize("shares", [(0, 0.4, 0.2, 0.4, 0), (0.1, 0, 0.7, 0.2, 0), (0, 0.6, 0.1, 0, 0.3)])
def test_the_score_test_finds_a_difference_where_there_is_none_once_in_twenty(
    shares: tuple[float, ...], n: int
) -> None:
    def significant(counts: tuple[int, ...]) -> Interval:
        return (0, 0) if _scores(counts).p < 0.05 else (1, 1)

    assert _covered(significant, shares, n, 0.0) <= 0.07


@pytest.mark.parametrize("samples", [2, 10, 100, 1000])
@pytest.mark.parametrize(
    "accuracies",
    [*(np.full(10, each) for each in (0.0, 0.5, 0.97, 1.0)), np.linspace(0.2, 0.8, 10), np.repeat([0.3, 0.9], [1, 99])],
    ids=lambda each: f"{len(each)}, {each[0]} to {each[-1]}",
)
def test_the_interval_of_the_worst_class_covers_the_lowest_true_accuracy(accuracies: np.ndarray, samples: int) -> None:
    classes = len(accuracies)
    right = np.random.default_rng(samples).binomial(samples, accuracies, (DRAWS, classes))
    counts = [samples] * classes
    found = np.array([worst_class_interval(each, counts) for each in right.tolist()])
    assert ((found[:, 0] <= accuracies.min()) & (accuracies.min() <= found[:, 1])).mean() >= LEAST
    assert (found[:, 0] <= right.min(axis=1) / samples).all()
    assert (found[:, 1] >= right.min(axis=1) / samples).all()


@pytest.mark.parametrize("n", [20, 100, 1000, 10_000])
@pytest.mark.parametrize(
    ("first", "second", "spread"),
    [(0.5, 0.4, 0.0), (0.9, 0.85, 0.01), (1.0, 0.97, 0.0), (0.99, 0.99, 0.0), (0.75, 0.005, 0.0), (0.5, 0.5, 0.05)],
)
def test_welchs_interval_of_three_seeds_covers(first: float, second: float, spread: float, n: int) -> None:
    """Seeds' networks differ by a spread in accuracy, and in which samples they are right on."""
    points = qmc.Sobol(12, seed=n).random(2 * DRAWS)
    true = [
        np.clip(each + spread * stats.norm.ppf(points[:, place : place + 3]), 0, 1)
        for each, place in ((first, 0), (second, 3))
    ]
    measured = [
        stats.binom.ppf(points[:, place : place + 3], n, each) / n for each, place in zip(true, (6, 9), strict=True)
    ]
    found = [welch(*each) for each in zip(*(each.tolist() for each in measured), strict=True)]
    covered = [each.low - 1e-9 <= first - second <= each.high + 1e-9 for each in found]
    assert np.mean(covered) >= LEAST
