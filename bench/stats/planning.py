"""How many seeds and images a difference takes, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

from bench.stats.differences import LEAST_SEEDS, LEVEL
from bench.stats.power import POWER, Power, mcnemar_power, smallest, welch_power

MOST_SEEDS = 999
MOST_IMAGES = 10_000_000
PUBLISHED_SPREAD = (0.001, 0.006)
"""Standard deviations of the AutoAttack accuracy over seeds, ResNet-18: the lowest that is published, and half as much
again as the highest (docs/statistics.md has them)."""
PUBLISHED_IMAGES = 10_000
"""What those are on: CIFAR-10's test images."""
DISCORDANCE = (0.15, 0.09)
"""Share of images on which two networks differ: of two defenses, and of two seeds of one. Both are this project's own
CPU check's: medians over its adversarially trained networks under PGD-SAT."""


@dataclass(frozen=True)
class Variation:
    """How the accuracies of networks of two defenses vary, in [0, 1].

    Attributes:
        spread: standard deviation of a network's accuracy over seeds, above 0, on the same `images`.
        between: share of images that only one of two networks of the two defenses is right on.
        within: the same of two seeds of one defense.
    """

    spread: float
    images: int
    between: float
    within: float

    @property
    def _own(self) -> float:
        """Variance of one outcome that neither its image nor its network's accuracy explains.

        Two seeds that differ on more images than their accuracies' spread allows do not do so independently of each
        other; what counts is the spread.
        """
        return min(self.within / 2, self.images * self.spread**2)

    def spread_on(self, images: int) -> float:
        """Of a network's accuracy over seeds on other than `self.images`: on fewer there is more chance in it."""
        return sqrt(max(0.0, self.spread**2 - self._own / self.images) + self._own / images)

    def over_images(self, images: int) -> float:
        """Variance of the difference over other images, however many seeds there are."""
        return max(0.0, self.between - 2 * self._own) / images

    def power(self, seeds: int, images: int, others: bool, level: float = LEVEL) -> Power:
        """Of a comparison of so many seeds a side on so many images.

        Args:
            others: whether the difference is to be found on other images, too, by `two_level_interval`; else on these,
                by Welch's test.
        """
        variance = self.spread_on(images) ** 2 / seeds
        return welch_power([variance] * 2, [seeds] * 2, level, self.over_images(images) if others else 0.0)

    def seeds_needed(
        self, difference: float, images: int, others: bool, level: float = LEVEL, wanted: float = POWER
    ) -> int | None:
        """Seeds a side that a difference takes, at least `LEAST_SEEDS`; None where it takes over `MOST_SEEDS`."""
        if others and images < self.images_needed_at_least(difference, level, wanted):
            return None
        return _fewest(
            lambda seeds: self.power(seeds, images, others, level)(difference) >= wanted, LEAST_SEEDS, MOST_SEEDS
        )

    def with_any_seeds(self, images: int, level: float = LEVEL, wanted: float = POWER) -> float:
        """The smallest difference that is found on other images, however many seeds there are."""
        return _normal_sum(level, wanted) * sqrt(self.over_images(images))

    def images_needed_at_least(self, difference: float, level: float = LEVEL, wanted: float = POWER) -> int:
        """Images that a difference on other images takes, however many seeds there are."""
        return max(1, ceil(self.over_images(1) * (_normal_sum(level, wanted) / difference) ** 2))

    def carried_by_one_seed(self, images: int, others: bool, level: float = LEVEL) -> float:
        """The difference of one network each that other seeds do not explain, and other images where these are asked.

        It is a z-test's: the spread is taken as known, which from one seed a side it is not.
        """
        from scipy.special import ndtri

        variance = 2 * self.spread_on(images) ** 2 + (self.over_images(images) if others else 0.0)
        return float(ndtri(1 - level / 2)) * sqrt(variance)


def images_needed(discordance: float, difference: float, level: float = LEVEL, wanted: float = POWER) -> int | None:
    """Images that McNemar's exact test takes to find a difference of one network each.

    An exact test's power goes up and down a little on its way up, so the number is known to half a per cent at best.

    Args:
        discordance: share of images that only one of the two is right on.

    Returns:
        None where it takes over `MOST_IMAGES`.
    """
    return _fewest(lambda n: mcnemar_power(discordance, n, level)(difference) >= wanted, 1, MOST_IMAGES, close=0.005)


def smallest_by_mcnemar(discordance: float, n: int, level: float = LEVEL, wanted: float = POWER) -> float:
    """The smallest difference of one network each that McNemar's exact test finds on other images."""
    return smallest(mcnemar_power(discordance, n, level), wanted)


def spread_interval(spread: float, freedom: int) -> tuple[float, float]:
    """95 % interval of the standard deviation of normal numbers, from one with so many degrees of freedom."""
    from scipy.special import chdtri

    return spread * sqrt(freedom / float(chdtri(freedom, 0.025))), spread * sqrt(
        freedom / float(chdtri(freedom, 0.975))
    )


def _normal_sum(level: float, wanted: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - level / 2) + ndtri(wanted))


def _fewest(enough: Callable[[int], bool], least: int, most: int, close: float = 0.0) -> int | None:
    """The smallest number that is enough, or one so close above it; None where the most is not."""
    low, high = least - 1, least
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(most, 2 * high)
    while high - low > max(1, close * high):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
