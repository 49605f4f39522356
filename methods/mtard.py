"""MTARD, multi-teacher adversarial robustness distillation (Zhao et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.balance import LossWeights, decayed
from methods.losses import RELEASED_LOG_OFFSET, class_scale, mean_kl, softened


@dataclass(kw_only=True)
class MTARD(AdversarialDefense):
    """w_adv * A + w_nat * N, both times classes / 10.

    A = meanKL(p(r(x*)) || p(s(x*))), N = meanKL(p(t(x)) || p(s(x))); x*: PGD-10 on CE, gaussian start. The weights
    follow how far each loss has fallen since the first step (`LossWeights`).

    Attributes:
        weight_rate: learning rate of the loss weights.
        rate_milestones: epochs after which that rate drops to a tenth.
        log_offset: see `mean_kl`. The weights follow the values of the losses, so that it reaches the student.
    """

    weight_rate: float = 0.025
    rate_milestones: tuple[int, ...] = (215, 260, 285)
    log_offset: float = 0.0

    label = "MTARD"
    source = "Zhao et al. 2022, ECCV"
    roles = ("robust", "clean")
    variants: ClassVar[Variants] = {"paper": {}, "official": {"log_offset": RELEASED_LOG_OFFSET}}
    carried: ClassVar[tuple[str, ...]] = ("weights",)

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.weights = LossWeights(models.device)

    def rate(self, rate: float, epoch: int) -> float:
        """A rate of this defense in an epoch (from 1) of this run."""
        return decayed(rate, epoch, map(self.epoch_of, self.rate_milestones))

    def targets(self, adv_logits: Tensor, clean_logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the student is to match: from r(x*) and t(x), each (B, classes), the two target distributions."""
        return softened(adv_logits), softened(clean_logits)

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor]:
        x_adv = self.craft(models.student, batch)
        with torch.no_grad():
            return x_adv, models.robust(x_adv), models.clean(batch.x)

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor]) -> Loss:
        x_adv, *teachers = inner
        target_adv, target_nat = self.targets(*teachers)
        adv_logits = models.student(x_adv)
        clean_logits = models.student(batch.x)
        scale = class_scale(adv_logits)
        adv = scale * mean_kl(target_adv, adv_logits, log_offset=self.log_offset)
        nat = scale * mean_kl(target_nat, clean_logits, log_offset=self.log_offset)
        rate = self.rate(self.weight_rate, batch.epoch)
        w_adv, w_nat = self.weights.update(batch.mean(adv.double()), batch.mean(nat.double()), rate)
        return Loss(w_adv * adv + w_nat * nat, {"kl_adv": adv, "kl_nat": nat, "w_adv": w_adv, "w_nat": w_nat})
