"""Fair-ARD, fair adversarial robustness distillation (Yue et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Loss, Models
from methods.ard import ARD
from methods.classwise import ClassSums, by_label
from methods.losses import sample_kl, softened


@dataclass(kw_only=True)
class FairARD(ARD):
    """mean(w_y * (alpha * T^2 * KL(p(r(x); T) || p(s(x*); T)) / C + (1 - alpha) * CE(s(x), y))): ARD, classes weighted.

    x*: PGD-10 on CE, uniform start. kappa is in how many of its iterations a sample was still right, before the step.
    After an epoch, w_c ~ (1 / (mean kappa of the class + 1e-5))^power, scaled to the sum C, then clamped: a class
    that is attacked easily weighs more in the next epoch. In the first epoch all weights are 1.

    Attributes:
        power: how strongly the weights follow kappa.
        weight_low: least weight of a class.
        weight_high: largest.
    """

    power: float = 2.0
    weight_low: float = 5 / 6
    weight_high: float = 5 / 2

    label = "Fair-ARD"
    source = "Yue et al. 2023, NeurIPS"
    carried = ("class_weights", "kappa")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.kappa = ClassSums()
        self.class_weights: Tensor | None = None

    def inner(self, batch: Batch, models: Models) -> Any:
        with torch.no_grad():
            target = softened(models.robust(batch.x), self.temperature)
        kappa = torch.zeros_like(batch.y)

        def cross_entropy(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            kappa.add_(logits.argmax(1) == batch.y)
            return F.cross_entropy(logits, batch.y, reduction="sum")

        return self.craft(models.student, batch, cross_entropy), target, kappa

    def outer(self, batch: Batch, models: Models, inner: Any) -> Loss:
        x_adv, target, kappa = inner
        adv_logits = models.student(x_adv)
        classes = adv_logits.shape[1]
        # With alpha = 1 the clean forward adds no gradient, but batch-norm's running statistics see x through it.
        with torch.set_grad_enabled(self.alpha < 1):
            ce = F.cross_entropy(models.student(batch.x), batch.y, reduction="none")
        kl = self.temperature**2 * sample_kl(target, adv_logits, self.temperature) / classes
        weight = by_label(self.class_weights, batch.y, kl.dtype)
        self.kappa.add(kappa, batch, classes)
        kl_adv, ce_clean = (weight * kl).mean(), (weight * ce).mean()
        total = self.alpha * kl_adv + (1 - self.alpha) * ce_clean
        return Loss(total, {"kl_adv": kl_adv, "ce_clean": ce_clean, "kappa": kappa.to(kl.dtype).mean()})

    def after_epoch(self, epoch: int) -> None:
        """The classes' weights for the next epoch."""
        sums, counts = self.kappa.sums, self.kappa.counts
        if sums is None or counts is None:
            return
        inverse = (1 / (sums / counts.clamp_min(1) + 1e-5)) ** self.power
        # A class without training images has no kappa: it keeps the weight 1 and no part in the scale (inferred).
        seen = counts > 0
        inverse = torch.where(seen, inverse, torch.zeros_like(inverse))
        weights = inverse * seen.sum() / inverse.sum()
        self.class_weights = torch.where(
            seen, weights.clamp(self.weight_low, self.weight_high), torch.ones_like(weights)
        )
        self.kappa.clear()
