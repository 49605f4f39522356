"""DPGD, PGD on a Dice loss (Zou et al. 2025, DARD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.labels import one_hot
from attacks.loop import GradientAttack
from bench.attack import Start
from bench.compute.ranks import ranks

_SMOOTH = 1e-5


def dice_loss(probabilities: Tensor, labels: Tensor, members: Tensor) -> Tensor:
    """1 - (2 * sum(P * Y) + 1e-5) / (sum(P^2) + sum(Y^2) + 1e-5), sums over all elements of a subset of the batch.

    Args:
        probabilities: shape (B, classes), rows sum to 1.
        labels: one-hot, shape (B, classes).
        members: bool, shape (B,): the subset; the loss of an empty one is 0.
    """
    weight = members.to(probabilities.dtype)[:, None]
    overlap = ranks().with_others((probabilities * labels * weight).sum())
    size = ranks().with_others(((probabilities.square() + labels.square()) * weight).sum())
    return 1 - (2 * overlap + _SMOOTH) / (size + _SMOOTH)


@dataclass(frozen=True, kw_only=True)
class DPGD(GradientAttack):
    """Ascends (1 - w_i) * dice(correctly classified) + w_i * dice(wrongly classified), w_i = i / (2K), from x itself.

    Two consequences of the definition. The ratio couples the samples of a batch, so a sample's result depends on its
    batch. And the two groups share no sample, so in eval mode, where samples meet nowhere else, a positive weight
    cannot change the sign of a step: after i = 0, where w_0 = 0 leaves the wrongly classified in place, the dynamic
    weighting does nothing.
    """

    steps: int = 20
    start: Start = "none"

    label: ClassVar[str] = "DPGD"
    source: ClassVar[str] = "Zou et al. 2025, arXiv:2509.11525"
    couples_batch: ClassVar[bool] = True

    def objective(self, logits: Tensor, y: Tensor, step: int) -> Tensor:
        weight = step / (2 * self.steps)
        probabilities = logits.softmax(1)
        labels = one_hot(y, logits.shape[1], logits.dtype)
        right = logits.argmax(1) == y
        correct = dice_loss(probabilities, labels, right)
        wrong = dice_loss(probabilities, labels, ~right)
        return (1 - weight) * correct + weight * wrong
