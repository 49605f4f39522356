"""AKD, adversarial knowledge distillation from a robust and a clean teacher, in the form with two of them (AKD2).

Chen et al. (2021) distil so with other weights, and average the student's weights (KD+SWA): `methods.named`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import batch_kl, mean_entropy, softened


@dataclass(kw_only=True)
class AKD(AdversarialDefense):
    """(1 - a_r - a_t) * CE(s(x*), y) + a_r * T^2 * KL(p(r(x*); T) || p(s(x*); T)) + a_t * T^2 * KL of p(t(x*); T).

    Both KL are batchKL, and of p(s(x*); T). x*: PGD-10 on CE, uniform start.

    Attributes:
        robust_weight: a_r, of the robust teacher's term.
        clean_weight: a_t, of the clean teacher's.
        temperature: T.
        cross_entropies: whether the teachers' terms are cross-entropies, that is KL and the target's entropy, as in the
            released code of KD+SWA: the value of the loss moves, its gradient does not.
    """

    start: Start = "uniform"
    robust_weight: float = 0.5
    clean_weight: float = 0.25
    temperature: float = 1.0
    cross_entropies: bool = False

    label = "AKD2"
    source = "Maroto et al. 2022, arXiv:2203.07159; Chen et al. 2021, ICLR"
    roles = ("robust", "clean")
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"start": "uniform-unclamped", "attack_in_train_mode": True},
    }

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor]:
        x_adv = self.craft(models.student, batch)
        with torch.no_grad():
            robust, clean = (softened(teacher(x_adv), self.temperature) for teacher in (models.robust, models.clean))
        return x_adv, robust, clean

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor]) -> Loss:
        x_adv, *targets = inner
        logits = models.student(x_adv)
        ce = F.cross_entropy(logits, batch.y)
        robust, clean = (self.taught(target, logits) for target in targets)
        total = (1 - self.robust_weight - self.clean_weight) * ce
        total = total + self.robust_weight * robust + self.clean_weight * clean
        return Loss(total, {"ce_adv": ce, "kl_robust": robust, "kl_clean": clean})

    def taught(self, target: Tensor, logits: Tensor) -> Tensor:
        """A teacher's term of s(x*); both (B, classes)."""
        kl = batch_kl(target, logits, self.temperature)
        if self.cross_entropies:
            kl = kl + mean_entropy(target).to(kl.dtype)
        return self.temperature**2 * kl
