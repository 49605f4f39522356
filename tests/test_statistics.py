"""Intervals and tests against numbers from elsewhere: tables, hand work, and the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics import mcnemar_exact, weighted_interval, wilson_interval


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17), Table I, method 3: score without continuity correction.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand: n / (n + z^2) for p = 1, and 1/2 -+ (z/2) / sqrt(n + z^2) for p = 1/2, z = 1.96.
        (29, 29, 0.8830, 1.0),
        (50, 100, 0.4038, 0.5962),
        (5000, 10000, 0.4902, 0.5098),
    ],
)
def test_wilson_interval_agrees_with_published_values(correct: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5.1e-5)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_solves_the_equation_that_defines_it(counts: tuple[int, int]) -> None:
    correct, n = counts
    p = correct / n
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= p <= high <= 1
    for bound in (low, high):
        if bound not in (0.0, 1.0):
            assert (p - bound) ** 2 == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / n, rel=1e-6)
    mirrored = wilson_interval(n - correct, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)


def test_wilson_interval_ends_are_exact() -> None:
    for n in range(1, 300):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 10), (11, 10)])
def test_wilson_interval_refuses_what_is_no_proportion(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(correct, n)


def test_weighted_interval_agrees_with_resampling_sample_by_sample() -> None:
    rng = np.random.default_rng(1)
    clean = rng.random(360) < 0.95
    robust = clean & (rng.random(360) < 0.6)
    draws = (rng.integers(0, 360, 360) for _ in range(5000))
    plain = np.quantile([(clean[i].mean() + robust[i].mean()) / 2 for i in draws], [0.025, 0.975])
    assert weighted_interval(clean, robust) == pytest.approx(tuple(plain), abs=0.005)


def test_weighted_interval_keeps_the_pairs_together() -> None:
    half = np.arange(400) < 200
    together, against = weighted_interval(half, half), weighted_interval(half, ~half)
    # Right on both or on neither: the spread of one proportion of 1/2. Right on exactly one: no spread.
    assert together == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)
    assert against == (0.5, 0.5)


def test_weighted_interval_is_the_same_every_time() -> None:
    clean, robust = np.arange(50) < 40, np.arange(50) < 20
    assert weighted_interval(clean, robust) == weighted_interval(clean, robust)


def test_weighted_interval_refuses_outcomes_of_different_samples() -> None:
    with pytest.raises(ValueError, match="same samples"):
        weighted_interval(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [(0, 0, 1.0), (0, 6, 2 / 64), (9, 1, 2 * 11 / 1024), (5, 5, 1.0), (3, 2, 1.0), (1, 0, 1.0)],
)
def test_mcnemar_is_the_two_sided_binomial_tail(first_only: int, second_only: int, p: float) -> None:
    assert mcnemar_exact(first_only, second_only) == pytest.approx(p)
    assert mcnemar_exact(second_only, first_only) == pytest.approx(p)


def test_mcnemar_stands_thousands_of_samples() -> None:
    # Normal approximation: z = (2600 - 2400) / sqrt(5000) = 2.828, so p is a little below 0.005.
    assert mcnemar_exact(2600, 2400) == pytest.approx(0.0049, abs=0.0004)
