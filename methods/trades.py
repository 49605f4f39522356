"""TRADES (Zhang et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import batch_kl_between


@dataclass(kw_only=True)
class TRADES(AdversarialDefense):
    """CE(s(x), y) + beta * batchKL(p(s(x)) || p(s(x*))); x*: PGD-10 on KL(p(s(x)) || p(s(x'))), gaussian start.

    The gradient flows through both arguments of the outer KL.

    Attributes:
        beta: weight of the robust term.
        repeat_clean_forward: whether s(x) is run a second time for the KL's target, after s(x*), as the released
            code does; the values are the same, batch-norm's running statistics see x twice.
        adversarial_first: whether s(x*) is run before s(x); again nothing else feels it.
    """

    beta: float = 6.0
    repeat_clean_forward: bool = False
    adversarial_first: bool = False

    label = "TRADES"
    later = frozenset({"adversarial_first"})
    source = "Zhang et al. 2019, arXiv:1901.08573"
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"step_size": 0.007, "eps": 0.031, "repeat_clean_forward": True},
    }

    def inner(self, batch: Batch, models: Models) -> Tensor:
        return self.craft_from_clean(models.student, batch)

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        student = models.student
        if self.adversarial_first:
            adv_logits, clean_logits = student(x_adv), student(batch.x)
        else:
            clean_logits, adv_logits = student(batch.x), student(x_adv)
        second_clean_logits = student(batch.x) if self.repeat_clean_forward else clean_logits
        ce = F.cross_entropy(clean_logits, batch.y)
        kl = batch_kl_between(second_clean_logits, adv_logits)
        return Loss(ce + self.beta * kl, {"ce_clean": ce, "kl_adv": kl})
