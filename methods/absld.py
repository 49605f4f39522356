"""ABSLD, anti-bias soft label distillation (Zhao et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense, kl_from
from methods.balance import decayed
from methods.classwise import ClassSums, by_label
from methods.losses import RELEASED_LOG_OFFSET, class_scale, mean_kl, softened


@dataclass(kw_only=True)
class ABSLD(AdversarialDefense):
    """5/6 * meanKL(p(r(x) / T_adv[y]) || p(s(x*))) + 1/6 * meanKL(p(r(x) / T_nat[y]) || p(s(x))), times classes / 10.

    RSLAD with a teacher temperature for every class. x*: PGD-10 on KL(p(r(x) / T_adv[y]) || p(s(x'))), gaussian start.
    After an epoch, with L_c a class's summed cross-entropy (adversarial, clean) and G = L - mean(L):
    T <- clamp(T - rate * G / max|G|, 0.5, 5): a class the student is worse at gets sharper labels.

    Attributes:
        adv_weight: weight of the adversarial term; the clean term has 1 - adv_weight.
        temperature_rate: how far a temperature moves in an epoch.
        rate_milestones: epochs at whose end that rate drops to a tenth, before the temperatures move.
        temperature_low: least temperature.
        temperature_high: largest.
        shared_logits: whether the two scaled teacher logits share memory, as in the released code, so that both are
            divided by T_adv[y] * T_nat[y].
        log_offset: see `mean_kl`.
    """

    adv_weight: float = 5 / 6
    temperature_rate: float = 0.1
    rate_milestones: tuple[int, ...] = (215, 260, 285)
    temperature_low: float = 0.5
    temperature_high: float = 5.0
    shared_logits: bool = False
    log_offset: float = 0.0

    label = "ABSLD"
    source = "Zhao et al. 2024, arXiv:2312.05508"
    roles = ("robust",)
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"shared_logits": True, "log_offset": RELEASED_LOG_OFFSET},
    }
    carried = ("t_adv", "t_nat", "ce_adv", "ce_nat")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.t_adv: Tensor | None = None
        self.t_nat: Tensor | None = None
        self.ce_adv, self.ce_nat = ClassSums(), ClassSums()

    def targets(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's soft labels of each sample's class, for x* and for x; logits r(x) and results (B, classes)."""
        t_adv, t_nat = (by_label(value, y, logits.dtype)[:, None] for value in (self.t_adv, self.t_nat))
        if self.shared_logits:
            t_adv = t_nat = t_adv * t_nat
        return softened(logits, t_adv), softened(logits, t_nat)

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            target_adv, target_nat = self.targets(models.robust(batch.x), batch.y)
        return self.craft(models.student, batch, kl_from(target_adv)), target_adv, target_nat

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor]) -> Loss:
        x_adv, target_adv, target_nat = inner
        adv_logits = models.student(x_adv)
        clean_logits = models.student(batch.x)
        for sums, logits in ((self.ce_adv, adv_logits), (self.ce_nat, clean_logits)):
            sums.add(F.cross_entropy(logits.detach(), batch.y, reduction="none"), batch, logits.shape[1])
        scale = class_scale(target_adv)
        kl_adv = scale * mean_kl(target_adv, adv_logits, log_offset=self.log_offset)
        kl_nat = scale * mean_kl(target_nat, clean_logits, log_offset=self.log_offset)
        total = self.adv_weight * kl_adv + (1 - self.adv_weight) * kl_nat
        return Loss(total, {"kl_adv": kl_adv, "kl_nat": kl_nat})

    def after_epoch(self, epoch: int) -> None:
        """The classes' temperatures for the next epoch."""
        rate = decayed(self.temperature_rate, epoch + 1, map(self.epoch_of, self.rate_milestones))
        self.t_adv = self._moved(self.t_adv, self.ce_adv, rate)
        self.t_nat = self._moved(self.t_nat, self.ce_nat, rate)

    def _moved(self, temperatures: Tensor | None, ce: ClassSums, rate: float) -> Tensor | None:
        if ce.sums is None:
            return temperatures
        gap = ce.sums - ce.sums.mean()
        largest = gap.abs().max()
        direction = torch.where(largest > 0, gap / largest, torch.zeros_like(gap))
        before = torch.ones_like(gap) if temperatures is None else temperatures
        ce.clear()
        return (before - rate * direction).clamp(self.temperature_low, self.temperature_high)
