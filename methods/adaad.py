"""AdaAD, adaptive adversarial distillation (Huang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense, kl_from_network
from methods.losses import Reduction, reduced_kl, softened


@dataclass(kw_only=True)
class AdaAD(AdversarialDefense):
    """alpha * KL(p(r(x*)) || p(s(x*))) + (1 - alpha) * KL(p(r(x)) || p(s(x))).

    x*: PGD-10 on KL(p(r(x')) || p(s(x'))), gradient through both networks, gaussian start.

    Attributes:
        alpha: weight of the adversarial term; the clean term has 1 - alpha.
        reduction: whether both are averaged over the `batch`, or over classes too (`mean`), as the released code has it
            on CIFAR-10.
    """

    alpha: float = 1.0
    reduction: Reduction = "batch"

    label = "AdaAD"
    source = "Huang et al. 2023, CVPR"
    roles = ("robust",)
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"reduction": "mean"},
        "wide": {"reduction": "mean", "eps": 16 / 255, "step_size": 4 / 255},
    }

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor | None]:
        """x*, r(x*), and r(x) where it is asked for."""
        x_adv = self.craft(models.student, batch, kl_from_network(models.robust))
        with torch.no_grad():
            return x_adv, models.robust(x_adv), models.robust(batch.x) if self.alpha != 1 else None

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor | None]) -> Loss:
        x_adv, teacher_adv, teacher_clean = inner
        # With alpha = 1 the clean forward adds no gradient, but batch-norm's running statistics see x through it.
        with torch.set_grad_enabled(teacher_clean is not None):
            clean_logits = models.student(batch.x)
        adv_logits = models.student(x_adv)
        kl_adv = reduced_kl(self.reduction, softened(teacher_adv), adv_logits)
        if teacher_clean is None:
            return Loss(self.alpha * kl_adv, {"kl_adv": kl_adv})
        kl_clean = reduced_kl(self.reduction, softened(teacher_clean), clean_logits)
        return Loss(self.alpha * kl_adv + (1 - self.alpha) * kl_clean, {"kl_adv": kl_adv, "kl_clean": kl_clean})
