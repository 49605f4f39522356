"""Seeds and images that a difference takes, held against the tests themselves on simulated outcomes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.records.files import read_records
from bench.records.networks import networks_of
from bench.stats import LEVEL, mcnemar_exact, two_level_interval, welch
from bench.stats.planning import (
    DISCORDANCE,
    MOST_SEEDS,
    PUBLISHED_IMAGES,
    PUBLISHED_SPREAD,
    Variation,
    images_needed,
    smallest_by_mcnemar,
    spread_interval,
)
from bench.stats.power import POWER, smallest

from ..helpers.places import ROOT
from ..helpers.simulated import Simulated

TIMES = 1500
CLOSE = 3.5 * (POWER * (1 - POWER) / TIMES) ** 0.5
"""Of a share of so many simulated tests, what chance leaves."""


def _varying(defenses: Simulated, images: int) -> Variation:
    """How the networks of simulated defenses vary, from many of them."""
    right = defenses.draw(np.random.default_rng(9), 1, 120, 4000)[0].mean(axis=1)
    between = float(np.mean(right[0] * (1 - right[1]) + right[1] * (1 - right[0])))
    within = float(2 * np.mean(right * (1 - right)) * 120 / 119)
    spread = float(
        np.mean(np.std(defenses.draw(np.random.default_rng(8), 400, 8, images).mean(axis=3), axis=2, ddof=1))
    )
    return Variation(spread * _C4, images, between, within)


_C4 = 1 / 0.9650
"""Of the mean of standard deviations of eight normal numbers, which is too low, what makes the true one."""


@pytest.mark.parametrize(("difference", "level"), [(0.005, LEVEL), (0.01, LEVEL), (0.006, LEVEL / 10)])
def test_so_many_seeds_and_no_fewer_find_it_four_times_in_five(difference: float, level: float) -> None:
    rng = np.random.default_rng(0)
    varying = Variation(0.005, 1000, 0.15, 0.0)
    needed = varying.seeds_needed(difference, 1000, False, level)
    assert needed is not None

    def found(seeds: int) -> float:
        first, second = rng.normal(difference, 0.005, (TIMES, seeds)), rng.normal(0, 0.005, (TIMES, seeds))
        return float(np.mean([welch(*each).p <= level for each in zip(first.tolist(), second.tolist(), strict=True)]))

    assert found(needed) >= POWER - CLOSE
    assert found(needed - 1) <= POWER + CLOSE
    assert (
        varying.power(needed, 1000, False, level)(difference)
        >= POWER
        > varying.power(needed - 1, 1000, False, level)(difference)
    )


@pytest.mark.parametrize(("difference", "discordance"), [(0.02, 0.1), (0.05, 0.3), (0.03, 0.0)])
def test_so_many_images_find_it_between_one_network_each(difference: float, discordance: float) -> None:
    rng = np.random.default_rng(1)
    n = images_needed(discordance, difference)
    assert n is not None
    share = max(discordance, difference)
    one, other = (share + difference) / 2, (share - difference) / 2
    counts = rng.multinomial(n, [one, other, 1 - one - other], size=TIMES)
    found = np.mean([mcnemar_exact(int(a), int(b)) <= LEVEL for a, b, _ in counts])
    assert found == pytest.approx(POWER, abs=CLOSE + 0.02)  # an exact test of whole numbers jumps
    assert smallest_by_mcnemar(discordance, n) == pytest.approx(difference, rel=0.03)


@pytest.mark.parametrize(
    ("defenses", "seeds"),
    [
        (Simulated(spread=0.05, shared=0.5, own=0.2), 3),
        (Simulated(spread=0.02, shared=0.3, own=0.4), 5),
        (Simulated(spread=0.2, shared=0.6, own=0.1), 5),
    ],
)
def test_on_other_images_too_it_finds_it_four_times_in_five(defenses: Simulated, seeds: int) -> None:
    """Whether the interval over both leaves 0 out, of networks that are right on more images or on fewer."""
    n, times = 250, 500
    varying = _varying(defenses, n)
    difference = smallest(varying.power(seeds, n, True))
    better = defenses._replace(accuracies=(0.5 + difference / 2, 0.5 - difference / 2))
    studies = better.draw(np.random.default_rng(2), times, seeds, n)
    found = np.mean([two_level_interval(first, second)[0] > 0 for first, second in studies])
    assert found == pytest.approx(POWER, abs=3.5 * (POWER * (1 - POWER) / times) ** 0.5 + 0.02)


def test_on_fewer_images_seeds_spread_more() -> None:
    defenses = Simulated(spread=0.05, shared=0.5, own=0.2)
    many, few = _varying(defenses, 1000), _varying(defenses, 100)
    assert many.spread_on(1000) == many.spread
    assert many.spread_on(100) == pytest.approx(few.spread, rel=0.05)
    assert few.spread_on(1000) == pytest.approx(many.spread, rel=0.1)


def test_a_spread_too_small_for_how_often_seeds_differ_is_taken_as_it_is() -> None:
    """As of published numbers: 0.1 points on 10,000 images, where seeds that differ on 8 % would spread by 0.2."""
    varying = Variation(0.001, 10_000, 0.15, 0.08)
    assert varying.spread_on(10_000) == pytest.approx(0.001)
    assert varying.spread_on(1000) == pytest.approx(0.001 * 10**0.5)


def test_what_no_number_of_seeds_shows_is_said() -> None:
    varying = Variation(0.006, PUBLISHED_IMAGES, 0.15, 0.08)
    limit = varying.with_any_seeds(1000)
    assert varying.seeds_needed(0.95 * limit, 1000, True) is None
    assert varying.images_needed_at_least(limit) == pytest.approx(1000, abs=1)
    assert smallest(varying.power(MOST_SEEDS, 1000, True)) == pytest.approx(limit, rel=0.01)
    near = varying.seeds_needed(1.2 * limit, 1000, True)
    assert near is not None
    assert smallest(varying.power(near, 1000, True)) <= 1.2 * limit
    assert Variation(0.5, 1000, 0.15, 0.0).seeds_needed(0.001, 1000, False) is None  # over MOST_SEEDS


def test_the_spread_of_few_seeds_leaves_much_open() -> None:
    rng = np.random.default_rng(3)
    assert spread_interval(1.0, 2) == pytest.approx((0.5207, 6.2847), abs=1e-4)  # chi-squared: 7.3778, 0.050636
    ends = np.array([spread_interval(each, 4) for each in np.std(rng.normal(size=(TIMES, 5)), axis=1, ddof=1)])
    assert np.mean((ends[:, 0] <= 1) & (ends[:, 1] >= 1)) == pytest.approx(0.95, abs=0.02)


def test_one_seed_carries_what_two_draws_of_a_known_spread_do_not_explain() -> None:
    rng = np.random.default_rng(4)
    apart = np.abs(rng.normal(0, 0.003, 40_000) - rng.normal(0, 0.003, 40_000))
    varying = Variation(0.003, 10_000, 0.15, 0.09)
    assert np.mean(apart > varying.carried_by_one_seed(10_000, False)) == pytest.approx(0.05, abs=0.004)


def test_one_seed_carries_on_other_images_what_two_draws_of_both_do_not_explain() -> None:
    defenses = Simulated(spread=0.05, shared=0.5, own=0.2)
    first, second = defenses.draw(np.random.default_rng(5), 4000, 1, 200)[:, :, 0].mean(axis=2).T
    least = _varying(defenses, 200).carried_by_one_seed(200, True)
    assert np.mean(np.abs(first - second) > least) == pytest.approx(0.05, abs=0.015)


def test_how_often_networks_differ_by_default_is_what_the_cpu_check_measured() -> None:
    """Median over its networks under PGD-SAT on 1,000 images, natural training aside."""
    records = read_records(Path(ROOT) / "results" / "cpu-check" / "records")
    networks = [each for each in networks_of(records) if each.subject.method != "natural"]
    right = [
        (network.identity, measured.scores("robust"))
        for network in networks
        for (condition, attack), measured in network.measured.items()
        if (condition.n, attack, network.subject.kind) == (1000, "pgd-sat", "student")
    ]
    shares: dict[bool, list[float]] = {True: [], False: []}
    for i, (name, one) in enumerate(right):
        for other_name, other in right[:i]:
            assert one is not None
            assert other is not None
            shares[name == other_name].append(float((one ^ other).mean()))
    assert (np.median(shares[False]), np.median(shares[True])) == pytest.approx(DISCORDANCE, abs=0.02)


def test_the_spreads_by_default_are_those_of_the_published_numbers_on_the_page() -> None:
    page = (Path(ROOT) / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \S+ \| ([\d., ]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    stated = [float(spread) for _, spread in rows]
    of_seeds = [np.std([float(each) for each in seeds.split(", ")], ddof=1) for seeds, _ in rows]
    assert len(rows) == 5
    assert of_seeds == pytest.approx(stated, abs=0.005)
    low, high = (100 * bound for bound in PUBLISHED_SPREAD)
    assert min(stated) == pytest.approx(low, abs=0.05)
    assert 1.5 * max(stated) == pytest.approx(high, abs=0.05)
