"""LBGAT, learnable boundary guided adversarial training (Cui et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Companion, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import batch_kl_between


@dataclass(kw_only=True)
class LBGAT(AdversarialDefense):
    """MSE(s(x*), g(x)) + CE(g(x), y) + beta * batchKL(p(s(x)) || p(s(x*))); g, the guide, learns beside the student.

    The squared error of the logits is averaged over batch and classes; its gradient flows to both networks. x*: PGD-10
    on KL(p(s(x)) || p(s(x'))), gaussian start.

    Attributes:
        guide: the guide's architecture; `student`: the student's.
        beta: weight of TRADES' term; 0 (LBGAT0) or 6 (LBGAT6).
    """

    eps: float = 0.031
    step_size: float = 0.007
    guide: str = "resnet18"
    beta: float = 6.0

    label = "LBGAT"
    source = "Cui et al. 2021, ICCV, arXiv:2011.11164"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"guide": "resnet18-strides-1122"}}

    def companions(self) -> dict[str, Companion]:
        return {"guide": Companion(self.guide)}

    def inner(self, batch: Batch, models: Models) -> Tensor:
        return self.craft_from_clean(models.student, batch)

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        adv_logits = models.student(x_adv)
        clean_logits = models.student(batch.x)
        guide_logits = models.companions["guide"](batch.x)
        mse = F.mse_loss(adv_logits, guide_logits)
        ce = F.cross_entropy(guide_logits, batch.y)
        kl = batch_kl_between(clean_logits, adv_logits)
        return Loss(mse + ce + self.beta * kl, {"mse_guide": mse, "ce_guide": ce, "kl_adv": kl})
