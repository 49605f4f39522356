"""The interval over other seeds and other images: how often it covers, beside Welch's and a bootstrap that is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.stats import two_level_interval, welch

from ..helpers.simulated import Simulated

Interval = Callable[[Any, Any], tuple[float, float]]
TIMES = 400
LEAST = 0.93
ALIKE = Simulated(shared=0.9, own=0.09)
"""Seeds that do not differ but on a few images, and two defenses that differ on more."""
WIDE = Simulated(spread=0.5, shared=0.5, own=0.2)
DEFENSES = [
    Simulated(),
    ALIKE,
    Simulated((0.6, 0.5), spread=0.1, shared=0.6, own=0.2),
    Simulated((0.85, 0.1), spread=0.1, shared=0.3, own=0.3),
    Simulated((0.97, 0.95), spread=0.05, shared=0.7, own=0.1),
    WIDE,
]
"""No spread over seeds to about 20 points, no difference to 75 points, networks right on any images or on the same."""


def _welch(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    found = welch(first.mean(axis=1).tolist(), second.mean(axis=1).tolist())
    return found.low, found.high


def _bootstrap(first: np.ndarray, second: np.ndarray, draws: int = 200) -> tuple[float, float]:
    """Both levels drawn, and quantiles of what comes out: the plain way."""
    rng = np.random.default_rng(draws)
    k, n = first.shape
    seeds = rng.multinomial(k, np.full(k, 1 / k), (2, draws)) / k
    images = rng.multinomial(n, np.full(n, 1 / n), draws) / n
    one, other = ((own * (images @ side.T)).sum(axis=1) for own, side in zip(seeds, (first, second), strict=True))
    low, high = np.quantile(one - other, [0.025, 0.975])
    return float(low), float(high)


def _coverage(defenses: Simulated, seeds: int, images: int, interval: Interval, times: int = TIMES) -> float:
    studies = defenses.draw(np.random.default_rng(seeds + images), times, seeds, images)
    ends = np.array([interval(first, second) for first, second in studies])
    return float(np.mean((ends[:, 0] - 1e-9 <= defenses.difference) & (defenses.difference <= ends[:, 1] + 1e-9)))


@pytest.mark.parametrize("images", [100, 1000])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_it_covers_whatever_seeds_images_and_defenses_do(seeds: int, images: int) -> None:
    found = [_coverage(each, seeds, images, two_level_interval) for each in DEFENSES]
    assert min(found) >= LEAST
    assert 0.95 - 3 * (0.95 * 0.05 / (TIMES * len(DEFENSES))) ** 0.5 < np.mean(found) < 0.98


@pytest.mark.parametrize(("seeds", "covered"), [(3, 2 / 3), (10, 1 / 3)])
def test_of_other_images_welchs_interval_does_not_speak(seeds: int, covered: float) -> None:
    """The worst case: what docs/statistics.md says of it."""
    assert _coverage(ALIKE, seeds, 100, _welch, 2000) == pytest.approx(covered, abs=0.04)


def test_a_plain_bootstrap_of_both_levels_is_too_narrow_with_three_seeds_and_too_wide_where_seeds_are_alike() -> None:
    assert _coverage(WIDE, 3, 100, _bootstrap, 300) < 0.88
    assert _coverage(Simulated(), 3, 100, _bootstrap, 300) > 0.98
    assert _coverage(Simulated(), 3, 100, two_level_interval) < 0.98


def test_with_many_seeds_it_is_the_bootstrap_of_both_levels() -> None:
    defenses = Simulated((0.6, 0.5), spread=0.1, shared=0.3, own=0.5)
    first, second = defenses.draw(np.random.default_rng(0), 1, 60, 1000)[0]
    assert two_level_interval(first, second) == pytest.approx(_bootstrap(first, second, 4000), abs=0.003)


def test_it_holds_welchs_interval_and_is_no_wider_for_what_is_each_networks_own() -> None:
    for each in DEFENSES:
        for first, second in each.draw(np.random.default_rng(1), 20, 3, 100):
            low, high = two_level_interval(first, second)
            near, far = _welch(first, second)
            assert -1 <= low <= max(-1, near) + 1e-12
            assert min(1, far) - 1e-12 <= high <= 1
    # Nothing but chance on each image and network: the images' part is in the seeds' spread already.
    widths = [[np.ptp(interval(*sides)) for interval in (two_level_interval, _welch)] for sides in _alone()]
    assert np.median(np.divide(*np.transpose(widths))) < 1.1


def _alone() -> np.ndarray:
    return Simulated().draw(np.random.default_rng(2), 40, 5, 400)


def test_it_turns_round_with_its_sides_and_takes_scores_of_weighted_robustness() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 3, (2, 3, 200)) / 2
    low, high = two_level_interval(first, second)
    assert two_level_interval(second, first) == pytest.approx((-high, -low))


def test_seeds_that_all_have_the_same_number_tell_nothing_of_others() -> None:
    images = np.arange(100)
    same = [(images + shift) % 100 < 50 for shift in range(3)]
    assert two_level_interval(same, [images < 40] * 3) == (-1, 1)
