"""Outcomes of networks of two defenses, drawn: images differ in difficulty, seeds in strength."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri


class Simulated(NamedTuple):
    """Two defenses whose networks are right on an image where their strength exceeds its difficulty.

    Attributes:
        accuracies: of each defense, over all seeds and images.
        spread: of a network's strength over seeds, in standard deviations of the difficulty: 0.025 is about one point
            of an accuracy of 50 %.
        shared: the part of an image's difficulty that is the same for both defenses.
        own: the part that is the same for all seeds of one defense; the rest is each network's.
    """

    accuracies: tuple[float, float] = (0.5, 0.5)
    spread: float = 0.0
    shared: float = 0.0
    own: float = 0.0

    @property
    def difference(self) -> float:
        return self.accuracies[0] - self.accuracies[1]

    def draw(self, rng: np.random.Generator, times: int, seeds: int, images: int) -> np.ndarray:
        """Right or not, of so many studies: shape (times, 2, seeds, images)."""
        parts = zip(
            ((times, 1, 1, images), (times, 2, 1, images), (times, 2, seeds, images)),
            (self.shared, self.own, max(0.0, 1 - self.shared - self.own)),
            strict=True,
        )
        difficulty = sum(sqrt(part) * rng.standard_normal(shape, dtype=np.float32) for shape, part in parts)
        strength = self.spread * rng.standard_normal((times, 2, seeds, 1), dtype=np.float32)
        strength += (ndtri(self.accuracies) * sqrt(1 + self.spread**2)).astype(np.float32)[:, None, None]
        return np.asarray(strength > difficulty)
