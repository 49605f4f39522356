"""Intervals and tests against numbers from elsewhere: tables, hand work, and the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from bench.stats import (
    holm,
    least_significant,
    mcnemar,
    mcnemar_exact,
    mcnemar_range,
    paired_scores,
    score_interval,
    two_proportions,
    two_weighted,
    weighted_interval,
    welch,
    wilson_interval,
)


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


def test_weighted_interval_agrees_with_resampling_where_samples_are_many() -> None:
    rng = np.random.default_rng(1)
    clean = rng.random(4000) < 0.95
    robust = clean & (rng.random(4000) < 0.6)
    draws = (rng.integers(0, 4000, 4000) for _ in range(2000))
    plain = np.quantile([(clean[i].mean() + robust[i].mean()) / 2 for i in draws], [0.025, 0.975])
    assert weighted_interval(clean, robust) == pytest.approx(tuple(plain), abs=0.0015)


def test_weighted_interval_keeps_the_pairs_together() -> None:
    half = np.arange(400) < 200
    together, against = weighted_interval(half, half), weighted_interval(half, ~half)
    # Right on both or on neither: one proportion of 1/2. Right on exactly one: what no sample did is left.
    assert together == pytest.approx(wilson_interval(200, 400), abs=1e-9)
    assert against == pytest.approx((0.5 - 0.5 * 3.8415 / 403.8415, 0.5 + 0.5 * 3.8415 / 403.8415), abs=1e-6)


def test_weighted_interval_refuses_outcomes_of_different_samples() -> None:
    with pytest.raises(ValueError, match="same samples"):
        weighted_interval(np.ones(3, bool), np.ones(4, bool))


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_score_interval_of_right_and_wrong_is_wilsons(counts: tuple[int, int]) -> None:
    right, n = counts
    assert score_interval({0.0: n - right, 1.0: right}, 0, 1) == pytest.approx(wilson_interval(right, n), abs=1e-9)


COUNTS = st.lists(st.integers(0, 300), min_size=3, max_size=5).filter(any)


@given(COUNTS)
def test_an_end_of_the_score_interval_is_the_mean_that_its_definition_rejects_at_five_per_cent(
    counts: list[int],
) -> None:
    """The restricted likelihood maximised here by other means: Lagrange's multiplier, for a mean that is given."""
    scores, n = np.linspace(-1, 1, len(counts)), sum(counts)
    mean = scores @ counts / n
    for end in score_interval(dict(zip(scores.tolist(), counts, strict=True)), -1.0, 1.0):
        if abs(end) > 1 - 1e-9:
            continue
        apart = scores - end
        low, high = -1 / (1 - end), 1 / (end + 1)
        for _ in range(200):
            multiplier = (low + high) / 2
            divisors = 1 + multiplier * apart
            rising = sum(count * x / d for count, x, d in zip(counts, apart, divisors, strict=True) if count and d > 0)
            low, high = (multiplier, high) if rising > 0 else (low, multiplier)
        shares = np.array(
            [count / (n * d) if count else 0.0 for count, d in zip(counts, 1 + multiplier * apart, strict=True)]
        )
        variance = shares @ apart**2 + max(0.0, 1 - shares.sum()) * (np.sign(end - mean) - end) ** 2
        assert n * (mean - end) ** 2 == pytest.approx(1.959963984540054**2 * variance, rel=1e-5)


@pytest.mark.parametrize(
    ("first_only", "second_only", "n", "low", "high"),
    [
        # By hand, z = 1.96: z^2 / (n + z^2) either way without a discordant pair; all won: (n - z^2) / (n + z^2), for
        # the likeliest way to win by less is to lose some.
        (0, 0, 20, -0.1611, 0.1611),
        (100, 0, 100, 0.9260, 1.0),
    ],
)
def test_tangos_interval_agrees_with_work_by_hand(
    first_only: int, second_only: int, n: int, low: float, high: float
) -> None:
    samples = np.arange(n)
    found = mcnemar(samples < first_only, (samples >= first_only) & (samples < first_only + second_only))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.1e-5)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_tangos_interval_is_the_one_of_his_formula(same: int, first_only: int, second_only: int) -> None:
    """Tango 1998 (Statistics in Medicine 17:891): the restricted share of losses q solves a quadratic equation."""
    n, b, c = same + first_only + second_only, first_only, second_only
    for end in score_interval({-1.0: c, 0.0: same, 1.0: b}, -1.0, 1.0):
        if abs(end) < 1 - 1e-9:
            linear = -b - c + (2 * n - b + c) * end
            q = (np.sqrt(linear**2 + 8 * n * c * end * (1 - end)) - linear) / (4 * n)
            assert (b - c - n * end) ** 2 == pytest.approx(
                1.959963984540054**2 * n * (2 * q + end * (1 - end)), rel=1e-4
            )


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


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)
OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def _pairs(pairs: list[tuple[bool, bool]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.array(pairs, bool).T
    return first, second


def test_holm_agrees_with_work_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, each at least the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(P_VALUES, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_does(p_values: list[float], level: float) -> None:
    """Reject from the smallest on, while p <= level / (hypotheses left), and stop at the first that is not."""
    rejected: set[int] = set()
    for i in sorted(range(len(p_values)), key=p_values.__getitem__):
        if min(1.0, (len(p_values) - len(rejected)) * p_values[i]) > level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected


@given(P_VALUES)
def test_holm_lies_between_the_p_value_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= 1
        assert holm(p_values)[p_values.index(min(p_values))] == min(1.0, len(p_values) * min(p_values))


def test_the_paired_score_test_is_near_the_normal_one_where_samples_are_many() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 10_000)) < 0.605, rng.random(10_000) < 0.59
    differences = first.mean(axis=0) - second
    error = differences.std() / 100
    found = paired_scores(first.mean(axis=0), second)
    assert found.value == pytest.approx(differences.mean())
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.value) / error), abs=0.001)
    assert (found.low, found.high) == pytest.approx((found.value - 1.96 * error, found.value + 1.96 * error), abs=5e-5)


@given(st.integers(0, 400), st.integers(0, 400))
def test_of_right_and_wrong_the_paired_score_test_is_mcnemars_without_continuity_correction(b: int, c: int) -> None:
    samples = np.arange(b + c + 7)
    found = paired_scores(samples < b, (samples >= b) & (samples < b + c))
    assert found.p == pytest.approx(stats.chi2.sf((b - c) ** 2 / (b + c), 1) if b != c else 1.0, rel=1e-6, abs=1e-300)


SCORES = st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.25, 1 / 3, 1])), min_size=1)


@given(SCORES)
def test_the_paired_score_test_turns_round_with_its_sides(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    one, other = paired_scores(first, second), paired_scores(second, first)
    assert one.value == pytest.approx(-other.value)
    assert -1 <= one.low <= one.value + 1e-9 <= one.high + 2e-9 <= 1 + 2e-9
    assert 0 <= one.p <= 1
    assert one.p == pytest.approx(other.p, abs=1e-9)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
    assert (one.low > 0 or one.high < 0) == (one.p < 0.05)  # what the interval excludes, the test rejects


def test_the_paired_score_test_of_the_same_scores_finds_nothing_and_is_not_sure_of_it() -> None:
    scores = np.arange(50) < 20
    found = paired_scores(scores, scores)
    assert (found.value, found.p) == (0, 1)
    assert -found.low == pytest.approx(found.high) == pytest.approx(3.8415 / 53.8415, abs=1e-5)
    assert paired_scores(np.ones(50), np.zeros(50)).p == pytest.approx(2 * stats.norm.sf(np.sqrt(50)), rel=1e-6)
    with pytest.raises(ValueError, match="same samples"):
        paired_scores(np.ones(3), np.ones(4))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(first_only: int, second_only: int) -> None:
    if first_only + second_only:
        found = stats.binomtest(first_only, first_only + second_only).pvalue
        assert mcnemar_exact(first_only, second_only) == pytest.approx(found, rel=1e-9)


@given(OUTCOMES)
def test_mcnemars_test_is_exact_and_stricter_than_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    first, second = _pairs(pairs)
    found = mcnemar(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.p == mcnemar_exact(int((first & ~second).sum()), int((second & ~first).sum()))
    assert found.low <= found.value + 1e-9 <= found.high + 2e-9
    if found.p < 0.05:
        assert found.low > 0 or found.high < 0


def test_mcnemars_interval_can_exclude_0_where_its_test_is_not_significant() -> None:
    samples = np.arange(20)
    found = mcnemar(samples < 5, samples < 0)
    assert found.p == pytest.approx(2 / 2**5)
    assert found.low > 0


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_mcnemars_range_is_that_of_all_pairings(counts: tuple[int, int, int]) -> None:
    first, second, n = counts
    pairings = range(max(0, first + second - n), min(first, second) + 1)  # samples that both are right on
    p_values = [mcnemar_exact(first - both, second - both) for both in pairings]
    assert mcnemar_range(first, second, n) == pytest.approx((min(p_values), max(p_values)))


def test_the_least_significant_difference_is_six_samples() -> None:
    assert mcnemar_exact(5, 0) > 0.05 >= mcnemar_exact(6, 0)
    assert least_significant(0.05) == 6
    assert least_significant(0.05 / 10) == 9  # 2 / 2^9 = 0.0039


@given(
    st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
)
def test_two_proportions_is_pearsons_chi_squared_test(first: tuple[int, int], second: tuple[int, int]) -> None:
    table = np.array([[right, n - right] for right, n in (first, second)])
    if table.sum(axis=0).all():
        p = stats.chi2_contingency(table, correction=False).pvalue
        assert two_proportions(*first, *second) == pytest.approx(p, rel=1e-6, abs=1e-300)
    else:
        assert two_proportions(*first, *second) == 1.0


def test_two_proportions_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match="no proportions"):
        two_proportions(11, 10, 1, 10)


def test_two_weighted_agrees_with_simulated_models() -> None:
    """Of independent models that are never right under the attack alone; a wider pairing has no larger variance."""
    n, rng = 10_000, np.random.default_rng(4)
    clean, robust = 0.88, 0.61
    u = rng.random((400, n), dtype=np.float32)
    nested = ((u < clean).mean(1) + (u < robust).mean(1)) / 2
    against = ((u < clean).mean(1) + (u > 1 - robust).mean(1)) / 2
    z = 0.01 / (np.sqrt(2) * nested.std())
    assert two_weighted((clean + 0.01, robust + 0.01), n, (clean, robust), n) == pytest.approx(
        2 * stats.norm.sf(z), abs=0.02
    )
    assert against.std() < nested.std()
    assert two_weighted((0.9, 0.5), n, (0.8, 0.6), n) == 1.0


def test_two_weighted_is_the_test_of_proportions_where_both_accuracies_are_one() -> None:
    # With clean = robust, W-R is that one proportion; the test's variance is then unpooled.
    z = 0.02 / np.sqrt(0.6 * 0.4 / 1000 + 0.58 * 0.42 / 1000)
    assert two_weighted((0.6, 0.6), 1000, (0.58, 0.58), 1000) == pytest.approx(2 * stats.norm.sf(z))


SEEDS = st.lists(st.integers(0, 1000).map(lambda right: right / 1000), min_size=2, max_size=6)


@given(SEEDS, SEEDS)
def test_welch_is_scipys(first: list[float], second: list[float]) -> None:
    assume(len({*first}) > 1 and len({*second}) > 1)
    found, expected = welch(first, second), stats.ttest_ind(first, second, equal_var=False)
    assert found.value == pytest.approx(np.mean(first) - np.mean(second))
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


def test_welch_without_any_spread_tells_nothing() -> None:
    assert welch([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]).p == 1.0
    found = welch([0.6, 0.6, 0.6], [0.5, 0.5, 0.5])  # each of so many samples: no spread is no proof
    assert (found.p, found.low, found.high) == (1.0, -1.0, 1.0)
