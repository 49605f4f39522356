"""ARD, adversarially robust distillation (Goldblum et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import mean_kl, softened


@dataclass(kw_only=True)
class ARD(AdversarialDefense):
    """alpha * T^2 * meanKL(p(r(x); T) || p(s(x*); T)) + (1 - alpha) * CE(s(x), y); x*: PGD-10 on CE, uniform start.

    Attributes:
        alpha: weight of the distillation term.
        temperature: T.
    """

    start: Start = "uniform"
    alpha: float = 1.0
    temperature: float = 30.0

    label = "ARD"
    source = "Goldblum et al. 2020, arXiv:1905.09747"
    roles = ("robust",)
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"attack_in_train_mode": True, "start": "uniform-unclamped"},
    }

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = softened(models.robust(batch.x), self.temperature)
        return self.craft(models.student, batch), target

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor]) -> Loss:
        x_adv, target = inner
        adv_logits = models.student(x_adv)
        # With alpha = 1 the clean forward adds no gradient, but batch-norm's running statistics see x through it.
        with torch.set_grad_enabled(self.alpha < 1):
            clean_logits = models.student(batch.x)
            ce = F.cross_entropy(clean_logits, batch.y)
        kl = self.divergence(target, adv_logits)
        return Loss(self.alpha * kl + (1 - self.alpha) * ce, {"kl_adv": kl, "ce_clean": ce})

    def divergence(self, target: Tensor, adv_logits: Tensor) -> Tensor:
        """T^2 * meanKL(target || p(s(x*); T)); both (B, classes)."""
        return self.temperature**2 * mean_kl(target, adv_logits, self.temperature)
