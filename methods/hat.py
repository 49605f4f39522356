"""HAT, helper-based adversarial training (Rade and Moosavi-Dezfooli 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Loss, Models
from methods.adversarial import AdversarialDefense
from methods.losses import batch_kl_between


@dataclass(kw_only=True)
class HAT(AdversarialDefense):
    """CE(s(x), y) + beta * batchKL(p(s(x)) || p(s(x*))) + gamma * CE(s(x + reach * (x* - x)), argmax t(x*)).

    TRADES, and beyond x* a helper image, not clamped, that is labelled as the clean teacher sees x*. x*: PGD-10 on
    KL(p(s(x)) || p(s(x'))), gaussian start. The gradient flows through both arguments of the KL.

    Attributes:
        beta: weight of the KL.
        gamma: weight of the helper images' term.
        reach: how far the helper image lies, in lengths of x* - x; the paper's h.
    """

    beta: float = 2.5
    gamma: float = 0.5
    reach: float = 2.0

    label = "HAT"
    source = "Rade and Moosavi-Dezfooli 2022, ICLR"
    roles = ("clean",)

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        x_adv = self.craft_from_clean(models.student, batch)
        with torch.no_grad():
            return x_adv, models.clean(x_adv).argmax(1)

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor]) -> Loss:
        x_adv, helper_label = inner
        student = models.student
        clean_logits = student(batch.x)
        adv_logits = student(x_adv)
        helper_logits = student(batch.x + self.reach * (x_adv - batch.x))
        ce = F.cross_entropy(clean_logits, batch.y)
        kl = batch_kl_between(clean_logits, adv_logits)
        helper = F.cross_entropy(helper_logits, helper_label)
        total = ce + self.beta * kl + self.gamma * helper
        return Loss(total, {"ce_clean": ce, "kl_adv": kl, "ce_helper": helper})
