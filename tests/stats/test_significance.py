"""Which test a difference gets: over samples for networks, over seeds for defenses."""

from __future__ import annotations

import numpy as np
import pytest

from bench.stats import compare, mcnemar, paired_scores, weighted_scores, welch

RNG = np.random.default_rng(0)
A, B = ([RNG.random(200) < share + 0.01 * seed for seed in range(4)] for share in (0.6, 0.5))


def test_one_network_each_gets_mcnemars_test() -> None:
    assert compare(A[:1], B[:1]) == (mcnemar(A[0], B[0]), "mcnemar")


def test_weighted_scores_get_the_paired_score_test() -> None:
    first, second = weighted_scores(A[0], A[0] & A[1]), weighted_scores(B[0], B[0] & B[1])
    assert compare([first], [second]) == (paired_scores(first, second), "score")


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 2), (4, 2), (2, 3)])
def test_fewer_than_three_seeds_on_a_side_are_averaged_sample_by_sample(first: int, second: int) -> None:
    expected = paired_scores(np.mean(A[:first], axis=0), np.mean(B[:second], axis=0))
    assert compare(A[:first], B[:second]) == (expected, "score")


@pytest.mark.parametrize(("first", "second"), [(3, 3), (4, 3)])
def test_three_seeds_on_both_sides_are_tested_as_seeds(first: int, second: int) -> None:
    expected = welch([each.mean() for each in A[:first]], [each.mean() for each in B[:second]])
    assert compare(A[:first], B[:second]) == (expected, "welch")


def test_more_samples_are_no_more_seeds() -> None:
    """Seeds that vary as much as the defenses differ prove nothing, however many samples there are."""
    n = 10_000
    first = [np.arange(n) < round(n * share) for share in (0.50, 0.52, 0.54)]
    second = [np.arange(n) < round(n * share) for share in (0.49, 0.51, 0.53)]
    assert compare(first, second)[0].p > 0.5
    assert compare(first[:1], second[:1])[0].p < 1e-9
