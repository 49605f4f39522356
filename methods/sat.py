"""SAT, standard adversarial training (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense


@dataclass(kw_only=True)
class SAT(AdversarialDefense):
    """CE(s(x*), y); x*: PGD-10 on CE(s(x'), y) from a uniform start."""

    start: Start = "uniform"

    label = "SAT"
    source = "Madry et al. 2018, arXiv:1706.06083"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"attack_in_train_mode": True}}

    def inner(self, batch: Batch, models: Models) -> Tensor:
        return self.craft(models.student, batch)

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        ce = F.cross_entropy(models.student(x_adv), batch.y)
        return Loss(ce, {"ce_adv": ce})
