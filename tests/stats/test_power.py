"""The smallest difference a test could have found, held against the test itself on simulated outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from bench.stats import LEVEL, compare, mcnemar_exact, welch
from bench.stats.power import POWER, detectable, detectable_by_mcnemar, detectable_by_welch

TIMES = 1500
CLOSE = 3.5 * (POWER * (1 - POWER) / TIMES) ** 0.5
"""Of a share of so many simulated tests, what chance leaves."""


@pytest.mark.parametrize(("discordant", "n", "level"), [(60, 1000, LEVEL), (300, 1000, LEVEL / 10), (20, 360, LEVEL)])
def test_mcnemars_test_finds_it_four_times_in_five(discordant: int, n: int, level: float) -> None:
    rng = np.random.default_rng(0)
    difference = detectable_by_mcnemar(discordant, n, level)
    share = max(discordant / n, difference)
    one_only, other_only = (share + difference) / 2, (share - difference) / 2
    counts = rng.multinomial(n, [one_only, other_only, 1 - one_only - other_only], size=TIMES)
    found = np.mean([mcnemar_exact(int(one), int(other)) <= level for one, other, _ in counts])
    assert found == pytest.approx(POWER, abs=CLOSE + 0.02)  # an exact test of whole numbers jumps


def test_networks_that_agree_everywhere_leave_what_mcnemars_test_could_find_at_all() -> None:
    """Six samples at least, of which the one that is better has all: eight expected ones give them in 4 of 5 cases."""
    assert 1000 * detectable_by_mcnemar(0, 1000) == pytest.approx(7.9, abs=0.1)
    assert detectable_by_mcnemar(0, 5) == 1


@pytest.mark.parametrize(
    ("spreads", "seeds"), [((0.01, 0.01), (3, 3)), ((0.02, 0.004), (3, 5)), ((0.01, 0.01), (10, 10))]
)
def test_welchs_test_finds_it_four_times_in_five(spreads: tuple[float, float], seeds: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    exact = [
        (spread * (z := np.arange(k) - (k - 1) / 2) / z.std(ddof=1)).tolist()
        for spread, k in zip(spreads, seeds, strict=True)
    ]
    difference = detectable_by_welch(*exact)
    assert difference is not None
    tests = (
        welch(rng.normal(difference, spreads[0], seeds[0]).tolist(), rng.normal(0, spreads[1], seeds[1]).tolist())
        for _ in range(TIMES)
    )
    found = np.mean([each.p <= LEVEL for each in tests])
    assert found == pytest.approx(POWER, abs=CLOSE)
    assert detectable_by_welch([0.5] * 3, [0.4] * 3) is None


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_score_test_finds_it_four_times_in_five(spread: float) -> None:
    """Means over two seeds: a sample's score is 0, 1/2 or 1."""
    rng = np.random.default_rng(2)
    n = 400

    def outcomes(better: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        base = rng.random(n) < 0.5
        sides = [[base ^ (rng.random(n) < spread / 2) for _ in range(2)] for _ in range(2)]
        gained = rng.random(n) < 2 * better  # of which half were right before
        return [each | gained for each in sides[0]], sides[1]

    difference = float(np.median([detectable(*outcomes(0.0)) or 0.0 for _ in range(20)]))
    found = float(np.mean([compare(*outcomes(difference))[0].p <= LEVEL for _ in range(300)]))
    if spread:
        assert found == pytest.approx(POWER, abs=0.12)
    else:
        assert found > POWER  # by the normal approximation of counts this small: rather too large than too small
