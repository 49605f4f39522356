"""RSLAD, robust soft-label adversarial distillation (Zi et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense, kl_from
from methods.losses import RELEASED_LOG_OFFSET, class_scale, mean_kl, softened


@dataclass(kw_only=True)
class RSLAD(AdversarialDefense):
    """5/6 * meanKL(p(r(x)) || p(s(x*))) + 1/6 * meanKL(p(r(x)) || p(s(x))), both times classes / 10.

    x*: PGD-10 on KL(p(r(x)) || p(s(x'))), gaussian start.

    Attributes:
        adv_weight: weight of the adversarial term; the clean term has 1 - adv_weight.
        log_offset: see `mean_kl`.
    """

    adv_weight: float = 5 / 6
    log_offset: float = 0.0

    label = "RSLAD"
    source = "Zi et al. 2021, arXiv:2108.07969"
    roles = ("robust",)
    variants: ClassVar[Variants] = {"paper": {}, "official": {"log_offset": RELEASED_LOG_OFFSET}}

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = softened(models.robust(batch.x))
        return self.craft(models.student, batch, kl_from(target)), target

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor]) -> Loss:
        x_adv, target = inner
        adv_logits = models.student(x_adv)
        clean_logits = models.student(batch.x)
        scale = class_scale(target)
        kl_adv = scale * mean_kl(target, adv_logits, log_offset=self.log_offset)
        kl_clean = scale * mean_kl(target, clean_logits, log_offset=self.log_offset)
        total = self.adv_weight * kl_adv + (1 - self.adv_weight) * kl_clean
        return Loss(total, {"kl_adv": kl_adv, "kl_clean": kl_clean})
